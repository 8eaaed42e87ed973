"""What nobody knows is settled by the vendor's own records, read through the gate, and by nothing less."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from crash import (
    envoy_dies_before_settlement,
    eventually_parts,
    expect_at_vendor,
    expect_parts,
    issue,
    kill,
    sweep,
)
from harness import Keybrake, VaultKey, eventually, fresh_key
from ledger_side import expect_whole_chain, only_entry
from shape import expect_refusal
from vendor_side import books, nothing_reaches_the_vendor

from stack.build import Artifacts

CENTS = 299
LABEL = "keybrake-reconciler"
# The vendor's maximum time, and how far two reads are apart.
VENDOR_MAX_S = 15 * 60
APART_S = 60
# Over what passes by itself while a test asks for a pass or two.
MEANWHILE_S = 20
A_DAY_S = 86_400


@pytest.fixture(scope="module")
def kb(stacks_folder: Path, artifacts: Artifacts, envoy: Path) -> Iterator[Keybrake]:
    """A stack whose reconciler makes no pass but those that are asked for."""
    kb = Keybrake.start(
        stacks_folder / "reconcile",
        artifacts,
        envoy=envoy,
        plugin={"in_flight_patience_ms": 300},
        reconcile_seconds=A_DAY_S,
    )
    yield kb
    kb.stop()


def reconcile(kb: Keybrake) -> dict[str, Any]:
    """What `keybrake reconcile --json` prints."""
    environment = kb.stack.child_environment(KEYBRAKE_URL=kb.url, KEYBRAKE_ADMIN_KEY=kb.stack.admin_key)
    argv = [str(kb.stack.artifacts.ledger), "reconcile", "--json"]
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report: dict[str, Any] = json.loads(ended.stdout)
    return report


def of(report: dict[str, Any], part: str, name: str) -> dict[str, Any]:
    """What a report says under `decided` or `unknown` about the request with this idempotency key."""
    found: list[dict[str, Any]] = [one for one in report[part] if one["idempotency_key"] == name]
    assert len(found) == 1, report
    return found[0]


def expect_stays(kb: Keybrake, key: VaultKey, name: str, reason: str) -> None:
    """Fails unless a pass leaves the request unknown for this reason."""
    report = reconcile(kb)
    assert of(report, "unknown", name)["reason"] == reason, report
    expect_parts(kb, key, free="2.01", unknown="2.99")


def event_of(kb: Keybrake, name: str) -> str:
    """The id of the vendor's one event for this idempotency key."""
    found = [event["id"] for event in books(kb, "events") if event["request"]["idempotency_key"] == name]
    assert len(found) == 1, found
    return str(found[0])


def expect_settled_by_event(kb: Keybrake, key: VaultKey, name: str) -> None:
    """Fails unless one pass settles it by the vendor's event, and a repeat gets the charge without the vendor."""
    before = len(kb.vendor_requests())
    report = reconcile(kb)
    reads = [(seen["method"], seen["path"]) for seen in kb.vendor_requests()[before:]]
    assert {method for method, _ in reads} == {"GET"}, reads
    assert {path.rpartition("/")[0] for _, path in reads} == {"/v1", "/v1/charges"}, reads
    decided = of(report, "decided", name)
    evidence = {"vendor_event": {"event_id": event_of(kb, name)}}
    assert (decided["finding"], decided["outcome"], decided["evidence"]) == ("executed", "settled", evidence)
    entry = only_entry(kb, idempotency_key=name)
    assert (entry["outcome"], entry["resolution"]["evidence"]) == ("settled", evidence)
    assert entry["stripe_charge_id"] in [charge["id"] for charge in books(kb, "charges")]
    expect_parts(kb, key, free="2.01", settled="2.99")
    with nothing_reaches_the_vendor(kb):
        answer = kb.charge(key, CENTS, idempotency_key=name)
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == entry["stripe_charge_id"]
    assert (answer.json()["amount"], answer.json()["status"]) == (CENTS, "succeeded")
    assert answer.headers["keybrake-replay"] == "retrieved"
    assert answer.headers["idempotent-replayed"] == "true"
    expect_at_vendor(kb, name, requests=1, executions=1)
    assert of_label(reconcile(kb), name) == [], "it is not unknown any more"


def of_label(report: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """All that a report says about an idempotency key."""
    return [one for part in ("decided", "unknown") for one in report[part] if one["idempotency_key"] == name]


def test_a_charge_whose_envoy_died_is_settled_by_the_vendors_event(kb: Keybrake) -> None:
    key, name = issue(kb, "5.00"), fresh_key("envoy")
    envoy_dies_before_settlement(kb, key, CENTS, name)
    assert of_label(reconcile(kb), name) == [], "nobody can know yet that the attempt is lost"
    sweep(kb)
    eventually_parts(kb, key, free="2.01", unknown="2.99")
    expect_settled_by_event(kb, key, name)
    expect_whole_chain(kb)


def test_a_stored_500_of_a_charge_that_was_executed_is_settled(kb: Keybrake) -> None:
    key, name = issue(kb, "5.00"), fresh_key("executed")
    kb.fault({"kind": "executed_500"}, idempotency_key=name)
    assert kb.charge(key, CENTS, idempotency_key=name).status_code == 500
    expect_parts(kb, key, free="2.01", unknown="2.99")
    expect_settled_by_event(kb, key, name)


def test_a_stored_500_without_execution_is_given_back_after_time_and_two_reads_and_not_before(kb: Keybrake) -> None:
    key, name = issue(kb, "5.00"), fresh_key("stored")
    kb.fault({"kind": "stored_500"}, idempotency_key=name)
    assert kb.charge(key, CENTS, idempotency_key=name).status_code == 500
    expect_stays(kb, key, name, "too_early")
    kb.advance(seconds=VENDOR_MAX_S - MEANWHILE_S)
    expect_stays(kb, key, name, "too_early")
    kb.advance(seconds=MEANWHILE_S)
    expect_stays(kb, key, name, "read_once")
    expect_stays(kb, key, name, "read_once")
    kb.advance(seconds=APART_S - MEANWHILE_S)
    expect_stays(kb, key, name, "read_once")
    kb.advance(seconds=MEANWHILE_S)
    decided = of(reconcile(kb), "decided", name)
    assert (decided["finding"], decided["outcome"]) == ("not_executed", "released")
    assert only_entry(kb, idempotency_key=name)["resolution"]["evidence"] == {"absence": {"reads": 2}}
    expect_parts(kb, key, free="5.00")
    expect_at_vendor(kb, name, requests=1, executions=0)

    # The vendor has stored its 500 under this key for a day: with another key it goes on.
    assert kb.charge(key, CENTS, idempotency_key=name).status_code == 500
    expect_at_vendor(kb, name, requests=2, executions=0)
    other = kb.charge(key, 201)
    assert other.status_code == 200, other.text
    expect_parts(kb, key, free="0", settled="2.01", unknown="2.99")
    expect_whole_chain(kb)


def test_a_repeat_between_two_reads_starts_the_time_anew(kb: Keybrake) -> None:
    key, name = issue(kb, "5.00"), fresh_key("again")
    kb.fault({"kind": "stored_500"}, idempotency_key=name)
    assert kb.charge(key, CENTS, idempotency_key=name).status_code == 500
    expect_stays(kb, key, name, "too_early")
    kb.advance(seconds=VENDOR_MAX_S)
    expect_stays(kb, key, name, "read_once")
    assert kb.charge(key, CENTS, idempotency_key=name).status_code == 500
    kb.advance(seconds=APART_S + 1)
    expect_stays(kb, key, name, "too_early")


def test_an_unreadable_vendor_decides_nothing(kb: Keybrake) -> None:
    key, name = issue(kb, "5.00"), fresh_key("odd")
    kb.fault({"kind": "executed_500"}, idempotency_key=name)
    assert kb.charge(key, CENTS, idempotency_key=name).status_code == 500
    for fault in ({"kind": "cut_answer", "bytes": 20}, {"kind": "not_json"}, {"kind": "status", "status": 500}):
        kb.fault(fault, path="/v1/events")
        environment = kb.stack.child_environment(KEYBRAKE_URL=kb.url, KEYBRAKE_ADMIN_KEY=kb.stack.admin_key)
        argv = [str(kb.stack.artifacts.ledger), "reconcile"]
        ended = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 1, ended.stdout
        assert "nothing was decided" in ended.stderr and name in ended.stdout, ended.stdout + ended.stderr
        expect_parts(kb, key, free="2.01", unknown="2.99")
    expect_settled_by_event(kb, key, name)


def own_keys(kb: Keybrake) -> list[dict[str, Any]]:
    """The reconciler's keys, newest first."""
    answer = kb.admin("GET", f"/admin/vault_keys?label_prefix={LABEL}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["keys"]
    return found


def test_the_reconcilers_key_reads_and_nothing_else_and_is_in_no_file(kb: Keybrake) -> None:
    newest = own_keys(kb)[0]
    assert newest["status"] == "active"
    allowed = newest["allowed_endpoints"]
    assert "events.list" in allowed
    assert all(line.endswith((".list", ".retrieve")) for line in allowed), allowed
    # Whoever had it could do this much.
    twin = kb.issue(allowed_endpoints=allowed, daily_usd_cap=None, uncapped=True)
    with nothing_reaches_the_vendor(kb):
        expect_refusal(kb.charge(twin, CENTS), 403, "endpoint_not_allowed")
        expect_refusal(kb.post(twin, "/v1/refunds", {"charge": "ch_1"}), 403, "endpoint_not_allowed")
        expect_refusal(kb.get(twin, "/v1/balance"), 403, "endpoint_not_allowed")
    reads = kb.audit(key_id=newest["key_id"])
    assert reads and {entry["operation"] for entry in reads} <= {"events.list", "charges.retrieve"}
    assert all(entry["run_id"].startswith("keybrake-reconcile-") for entry in reads)
    for file in kb.stack.folder.path.rglob("*"):
        if file.is_file():
            assert not re.search(rb"vault_key_[A-Za-z0-9]{8}", file.read_bytes()), file


def test_keys_of_a_ledger_that_ended_are_revoked(fresh: Callable[..., Keybrake]) -> None:
    kb = fresh(reconcile_seconds=A_DAY_S)

    def active() -> list[str]:
        return [key["key_id"] for key in own_keys(kb) if key["status"] == "active"]

    first = eventually(lambda: active() or None, 10, "the reconciler's key")
    kill(kb.stack.ledger.child)
    kb.stack.ledger.start()
    second = eventually(lambda: [key for key in active() if key not in first] or None, 10, "another key")
    eventually(lambda: active() == second, 10, "the first one is revoked")
    kb.stack.ledger.stop()
    kb.stack.ledger.start()
    third = eventually(lambda: [key for key in active() if key not in second] or None, 10, "a third key")
    assert active() == third
    revoked = next(key for key in own_keys(kb) if key["key_id"] == second[0])
    issued = next(key for key in own_keys(kb) if key["key_id"] == third[0])
    assert revoked["revoked_at"] <= issued["created_at"], "at its end, not at the next start"


def test_it_works_by_itself(fresh: Callable[..., Keybrake]) -> None:
    kb = fresh(reconcile_seconds=1)
    key, name = issue(kb, "5.00"), fresh_key("itself")
    kb.fault({"kind": "executed_500"}, idempotency_key=name)
    assert kb.charge(key, CENTS, idempotency_key=name).status_code == 500
    eventually_parts(kb, key, free="2.01", settled="2.99")
    assert "vendor_event" in only_entry(kb, idempotency_key=name)["resolution"]["evidence"]
