"""A vendor that no Rust file knows: a JSON file and golden cases are enough to cap it and to replay it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import acme
import httpx
import pytest
from harness import Keybrake, VaultKey, fresh_key
from ledger_side import expect_balance, only_entry
from shape import expect_refusal
from vendor_side import nothing_reaches_the_vendor, vendor_sees

from stack.build import Artifacts

PAYOUTS = "/v2/money_management/outbound_payments"


@pytest.fixture(scope="module")
def kb(stacks_folder: Path, artifacts: Artifacts, envoy: Path) -> Iterator[Keybrake]:
    """A stack with Acme beside Stripe."""
    plugin = {"vendors": acme.beside_stripe()["vendors"]}
    made = Keybrake.start(stacks_folder / "own-pack", artifacts, envoy=envoy, plugin=plugin, vendor_packs=acme.PACKS)
    yield made
    made.stop()


def pay_out(kb: Keybrake, key: VaultKey, cents: int, name: str) -> httpx.Response:
    """A payout by Acme, in JSON."""
    headers = {
        "Authorization": f"Bearer {key.secret}",
        "Content-Type": "application/json",
        "Idempotency-Key": name,
    }
    body = json.dumps({"amount": {"value": cents, "currency": "usd"}})
    return kb.http.post(f"{kb.url}/acme{PAYOUTS}", headers=headers, content=body)


def test_a_vendor_of_the_users_own_is_capped_and_replayed(kb: Keybrake) -> None:
    key = kb.issue(vendor="acme", allowed_endpoints=["payouts.create"], daily_usd_cap=20)
    name = fresh_key()
    with vendor_sees(kb, requests=1, executions=1):
        made = pay_out(kb, key, 1500, name)
    assert made.status_code == 200, made.text
    expect_balance(kb, key, free="5", held="15")
    entry = only_entry(kb, idempotency_key=name)
    assert (entry["operation"], entry["amount"], entry["vendor_object_id"]) == (
        "payouts.create",
        1500,
        made.json()["id"],
    )
    with nothing_reaches_the_vendor(kb):
        again = pay_out(kb, key, 1500, name)
        assert (again.status_code, again.json()) == (200, made.json())
        expect_refusal(pay_out(kb, key, 501, fresh_key()), 402, "spend_cap_exceeded")
    expect_balance(kb, key, free="5", held="15")


def check(artifacts: Artifacts, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`keybrake vendors check`."""
    words = [str(artifacts.ledger), "vendors", "check", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)


def test_the_pack_and_its_golden_cases_are_checked_from_the_command_line(artifacts: Artifacts, tmp_path: Path) -> None:
    right = check(artifacts, acme.PACKS / "acme.json", "--golden", acme.GOLDEN)
    assert (right.returncode, right.stderr) == (0, "")
    assert right.stdout.startswith("ok ") and "3 golden cases hold" in right.stdout
    wrong = acme.pack()
    wrong["endpoints"][0]["cost"]["max_digits"] = 19
    wrong["hosts"] = ["API.acme.test"]
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(wrong))
    found = check(artifacts, file, "--json")
    assert found.returncode == 1
    places = [mistake["at"] for mistake in json.loads(found.stdout)[0]["mistakes"]]
    assert places == ["hosts[0]", "endpoints[0].cost.max_digits"]
    assert check(artifacts, tmp_path / "none.json").returncode == 2
