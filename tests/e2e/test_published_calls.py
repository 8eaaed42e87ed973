"""The calls that a published article shows, as they stand there: only the base address is another."""

from __future__ import annotations

import hashlib
import os
from typing import Any, Optional

import httpx
import pytest
import stripe
from harness import Keybrake, fresh_key
from ledger_side import expect_balance
from vendor_side import charged_cents, nothing_reaches_the_vendor, vendor_sees

CENTS = 2999
PERIOD = "2026-07"


@pytest.fixture(autouse=True)
def environment(keybrake: Keybrake, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the published code takes from its environment."""
    monkeypatch.setenv("KEYBRAKE_URL", keybrake.url)
    monkeypatch.setenv("KEYBRAKE_ADMIN_KEY", keybrake.stack.admin_key)
    monkeypatch.setenv("KEYBRAKE_AUDIT_KEY", keybrake.stack.audit_key)


def issue_vault_key(label: str, max_amount_cents: int) -> str:
    """As published."""
    resp = httpx.post(
        f"{os.environ['KEYBRAKE_URL']}/admin/vault_keys",
        headers={"Authorization": f"Bearer {os.environ['KEYBRAKE_ADMIN_KEY']}"},
        json={
            "label": label,
            "vendor": "stripe",
            "allowed_endpoints": ["POST /v1/charges"],
            "daily_usd_cap": round(max_amount_cents / 100 * 1.1, 2),
            "expires_in_seconds": 7200,
        },
        timeout=5.0,
    )
    resp.raise_for_status()
    issued: str = resp.json()["vault_key"]
    return issued


def billing_idempotency_key(customer_id: str, amount_cents: int, billing_period: str) -> str:
    """As published."""
    raw = f"{customer_id}:{amount_cents}:{billing_period}:metaflow-billing"
    return hashlib.sha256(raw.encode()).hexdigest()[:32]


def check_existing_charge(idempotency_key: str) -> Optional[str]:
    """As published."""
    resp = httpx.get(
        f"{os.environ['KEYBRAKE_URL']}/audit",
        headers={"Authorization": f"Bearer {os.environ['KEYBRAKE_AUDIT_KEY']}"},
        params={"idempotency_key": idempotency_key},
        timeout=5.0,
    )
    if resp.status_code == 200:
        entries = resp.json().get("entries", [])
        if entries:
            found: Optional[str] = entries[0].get("stripe_charge_id")
            return found
    return None


def charge_once(customer_id: str, vault_key: str, amount_cents: int = CENTS) -> str:
    """The published step: look first, then charge. (`base_url`, as published, is no argument of the SDK.)"""
    idempotency_key = billing_idempotency_key(customer_id, amount_cents, PERIOD)
    existing = check_existing_charge(idempotency_key)
    if existing:
        return existing
    client = stripe.StripeClient(vault_key, base_addresses={"api": f"{os.environ['KEYBRAKE_URL']}/stripe"})
    charge = client.v1.charges.create(
        params={
            "amount": amount_cents,
            "currency": "usd",
            "customer": customer_id,
            "description": f"Subscription {PERIOD}",
        },
        options={"idempotency_key": idempotency_key},
    )
    return charge.id


def new_customer() -> str:
    """A customer of this test alone."""
    return fresh_key("cus").replace("-", "_")


@pytest.mark.parametrize(("cents", "cap"), [(999, "10.99"), (2999, "32.99"), (9999, "109.99")])
def test_the_published_issue_call_makes_a_key_with_that_cap(keybrake: Keybrake, cents: int, cap: str) -> None:
    label = fresh_key("metaflow-2026-07-cus_aaa")
    vault_key = issue_vault_key(label, cents)
    assert vault_key.startswith("vault_key_")
    (shown,) = keybrake.admin("GET", "/admin/vault_keys", params={"label_prefix": label}).json()["keys"]
    assert (shown["daily_usd_cap"], shown["allowed_endpoints"]) == (cap, ["POST /v1/charges"])
    assert vault_key not in str(shown)


def test_the_published_step_charges_once_however_often_it_runs(keybrake: Keybrake) -> None:
    customer = new_customer()
    name = billing_idempotency_key(customer, CENTS, PERIOD)
    assert check_existing_charge(name) is None
    with vendor_sees(keybrake, requests=1, executions=1):
        first = charge_once(customer, issue_vault_key("run-1", CENTS))
        # A resumed run: a new vault key, and the audit answers before Stripe is asked.
        assert charge_once(customer, issue_vault_key("run-2", CENTS)) == first
    assert charged_cents(keybrake, customer) == [CENTS]
    assert check_existing_charge(name) == first


def test_an_unknown_key_has_no_entries(keybrake: Keybrake) -> None:
    answer = httpx.get(
        f"{keybrake.url}/audit",
        headers={"Authorization": f"Bearer {keybrake.stack.audit_key}"},
        params={"idempotency_key": fresh_key("nobody")},
    )
    assert (answer.status_code, answer.json()) == (200, {"entries": [], "next_cursor": None})


@pytest.mark.parametrize("order", ["refused first", "charged first", "refused before and after"])
def test_what_moved_money_comes_first_whatever_was_refused(keybrake: Keybrake, order: str) -> None:
    customer = new_customer()
    name = billing_idempotency_key(customer, CENTS, PERIOD)
    form = {"customer": customer, "description": f"Subscription {PERIOD}"}
    poor, rich = keybrake.issue(daily_usd_cap="29.98"), keybrake.issue(daily_usd_cap="29.99")

    def refused() -> None:
        answer = keybrake.post(rich, "/v1/refunds", {"charge": "ch_1"}, idempotency_key=name)
        assert answer.status_code == 403
        if order != "charged first":
            keybrake.charge(poor, CENTS, idempotency_key=name, form=form)

    if order != "charged first":
        with nothing_reaches_the_vendor(keybrake):
            refused()
        assert check_existing_charge(name) is None, "refused is not charged"
    with vendor_sees(keybrake, requests=1, executions=1):
        made = keybrake.charge(rich, CENTS, idempotency_key=name, form=form).json()["id"]
    if order != "refused first":
        with nothing_reaches_the_vendor(keybrake):
            refused()
    assert check_existing_charge(name) == made
    verdicts = [entry["verdict"] for entry in keybrake.audit(idempotency_key=name)]
    assert verdicts[0] == "admitted" and set(verdicts[1:]) == {"refused"}
    expect_balance(keybrake, rich, free="0", settled="29.99")
    expect_balance(keybrake, poor, free="29.98")


def test_a_page_of_one_entry_still_names_the_charge(keybrake: Keybrake) -> None:
    key, name = keybrake.issue(), fresh_key()
    made = keybrake.charge(key, 100, idempotency_key=name).json()["id"]
    for _ in range(3):
        assert keybrake.post(key, "/v1/refunds", {"charge": made}, idempotency_key=name).status_code == 403
    headers = {"Authorization": f"Bearer {keybrake.stack.audit_key}"}
    pages: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        query = {"idempotency_key": name, "limit": "1", **cursor}
        page = httpx.get(f"{keybrake.url}/audit", headers=headers, params=query).json()
        pages += page["entries"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert [entry["stripe_charge_id"] for entry in pages] == [made, None, None, None]
    assert len({entry["id"] for entry in pages}) == 4


def test_the_audit_key_opens_the_audit_and_nothing_else(keybrake: Keybrake) -> None:
    key = keybrake.issue()
    for bearer, status in ((key.secret, 403), ("kb_audit_" + "0" * 48, 401), ("x", 401)):
        answer = httpx.get(f"{keybrake.url}/audit", headers={"Authorization": f"Bearer {bearer}"})
        assert (answer.status_code, "entries" in answer.text) == (status, False)
    for bearer in (keybrake.stack.audit_key, key.secret):
        for method, path in (("POST", ""), ("GET", ""), ("GET", f"/{key.key_id}"), ("DELETE", f"/{key.key_id}")):
            url = f"{keybrake.url}/admin/vault_keys{path}"
            answer = httpx.request(method, url, headers={"Authorization": f"Bearer {bearer}"})
            assert (answer.status_code, key.key_id in answer.text) == (403, False)
    assert keybrake.charge(key, 100).status_code == 200, "it was not revoked"
