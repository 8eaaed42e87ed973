"""Budgets: caps that many keys share, brakes, freezing, equal purchases; on the ledger's books and the vendor's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import stripe
from at_once import at_once, charge_request
from harness import Keybrake, VaultKey, fresh_key
from ledger_side import expect_balance, only_entry
from shape import expect_refusal
from vendor_side import charged_cents, nothing_reaches_the_vendor, vendor_sees

CENTS = 299
FITTING = 57


def budget(kb: Keybrake, **terms: Any) -> str:
    """Makes a budget with a name of its own."""
    name = fresh_key("budget")
    answer = kb.admin("POST", "/admin/budgets", json={"name": name, **terms})
    assert answer.status_code == 201, answer.text
    return name


def shown(kb: Keybrake, name: str) -> dict[str, Any]:
    """The budget as the ledger shows it."""
    answer = kb.admin("GET", f"/admin/budgets/{name}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def set_state(kb: Keybrake, name: str, state: str) -> None:
    """Freezes, opens or closes it."""
    answer = kb.admin("PATCH", f"/admin/budgets/{name}", json={"state": state})
    assert (answer.status_code, answer.json()["state"]) == (200, state), answer.text


def drawing(kb: Keybrake, name: str, **grant: Any) -> VaultKey:
    """A key without caps of its own."""
    return kb.issue(budget=name, daily_usd_cap=None, **grant)


def parts(kb: Keybrake, name: str) -> tuple[str, str, str, str]:
    """Free, held, settled and unknown of its first balance."""
    balance = shown(kb, name)["balances"][0]
    assert Decimal(balance["cap"]) == sum(Decimal(balance[part]) for part in ("free", "held", "settled", "unknown"))
    return balance["free"], balance["held"], balance["settled"], balance["unknown"]


def statement(kb: Keybrake, path: str) -> dict[str, Any]:
    """The first window of a statement. It must add up."""
    answer = kb.admin("GET", f"{path}/statement")
    assert answer.status_code == 200, answer.text
    windows = answer.json()["windows"]
    assert windows and all(window["adds_up"] for window in windows), windows
    first: dict[str, Any] = windows[0]
    return first


@pytest.fixture
def delayed(keybrake: Keybrake) -> Iterator[str]:
    """A customer for whom the vendor takes its time."""
    customer = fresh_key("cus").replace("-", "_")
    keybrake.fault({"kind": "delay", "delay_ms": 200}, times=None, body_contains=customer)
    yield customer
    keybrake.clear_faults()


def test_of_200_charges_at_once_on_20_keys_those_that_fit_their_budget_are_executed(
    keybrake: Keybrake, delayed: str
) -> None:
    root = budget(keybrake, lifetime_usd_cap="10000")
    shared = budget(keybrake, parent=root, daily_usd_cap="173.41", time_zone="Pacific/Auckland")
    grant = {"label": "l", "vendor": "stripe", "allowed_endpoints": ["POST /v1/charges"], "budget": shared}
    issued = keybrake.admin("POST", "/admin/vault_keys", json={"keys": [grant] * 20})
    assert issued.status_code == 201, issued.text
    keys = [VaultKey(key["vault_key"], key["key_id"], key) for key in issued.json()["keys"]]
    requests = [charge_request(keybrake, keys[number % 20], CENTS, form={"customer": delayed}) for number in range(200)]
    with vendor_sees(keybrake, requests=FITTING, executions=FITTING):
        answers = at_once(requests)
    assert Counter(answer.status_code for answer in answers) == {200: FITTING, 402: 200 - FITTING}
    for answer in answers:
        if answer.status_code == 402:
            extra = expect_refusal(answer, 402, "spend_cap_exceeded")
            assert (extra["limit"], extra["left"], extra["budget"]) == ("daily_usd_cap", "2.980000", shared)
            assert answer.headers["keybrake-budget"] == shared
    assert charged_cents(keybrake, delayed) == [CENTS] * FITTING
    assert parts(keybrake, shared) == ("2.980000", "0.000000", "170.430000", "0.000000")
    assert parts(keybrake, root) == ("9829.570000", "0.000000", "170.430000", "0.000000")
    stated = statement(keybrake, f"/admin/budgets/{shared}")
    assert stated["settlements"] == {"count": FITTING, "usd": "170.430000"}
    assert statement(keybrake, f"/admin/budgets/{root}")["holds"]["count"] == FITTING
    entries = keybrake.audit(budget=root)
    assert Counter(entry["verdict"] for entry in entries) == {"admitted": FITTING, "refused": 200 - FITTING}


def test_a_brake_stops_the_siblings_of_the_branch_that_goes_wrong(keybrake: Keybrake) -> None:
    fan_out = budget(keybrake, lifetime_usd_cap="100", trip_on={"refusals": 3, "within_seconds": 60})
    branch = budget(keybrake, parent=fan_out, uncapped=True)
    wrong = drawing(keybrake, branch, constraints={"amount": {"max": 100}})
    sibling = drawing(keybrake, fan_out)
    outside = keybrake.issue()
    name = fresh_key("brake")
    assert keybrake.charge(sibling, CENTS, idempotency_key=name).status_code == 200
    with nothing_reaches_the_vendor(keybrake):
        for _ in range(3):
            expect_refusal(keybrake.charge(wrong, 101), 403, "parameter_not_allowed")
        for key in (sibling, wrong):
            extra = expect_refusal(keybrake.charge(key, 50), 403, "budget_tripped")
            assert extra["budget"] == fan_out
        again = keybrake.charge(sibling, CENTS, idempotency_key=name)
        assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    assert keybrake.charge(outside, CENTS).status_code == 200
    assert shown(keybrake, fan_out)["state"] == "tripped"
    assert shown(keybrake, fan_out)["tripped_at"] is not None
    metrics = keybrake.http.get(f"http://127.0.0.1:{keybrake.stack.options.ports.ledger}/metrics").text
    assert 'kind="budget_tripped"' in metrics, "alarmed"
    set_state(keybrake, fan_out, "open")
    assert keybrake.charge(sibling, 50).status_code == 200


def test_a_frozen_budget_gives_answers_again_and_forwards_nothing(keybrake: Keybrake) -> None:
    frozen = budget(keybrake, lifetime_usd_cap="100")
    key = drawing(keybrake, frozen, allowed_endpoints=["POST /v1/charges", "GET /v1/charges/{id}"])
    done, lost = fresh_key("done"), fresh_key("lost")
    charge = keybrake.charge(key, CENTS, idempotency_key=done)
    assert charge.status_code == 200
    keybrake.fault({"kind": "reset_before_answer"}, idempotency_key=lost)
    assert keybrake.charge(key, 100, idempotency_key=lost).status_code == 502
    assert parts(keybrake, frozen) == ("96.010000", "0.000000", "2.990000", "1.000000")
    set_state(keybrake, frozen, "frozen")
    with nothing_reaches_the_vendor(keybrake):
        again = keybrake.charge(key, CENTS, idempotency_key=done)
        assert (again.status_code, again.json()["id"]) == (200, charge.json()["id"])
        assert again.headers["idempotent-replayed"] == "true"
        for answer in (
            keybrake.charge(key, 1),
            keybrake.charge(key, 100, idempotency_key=lost),
            keybrake.get(key, f"/v1/charges/{charge.json()['id']}"),
        ):
            assert expect_refusal(answer, 403, "budget_frozen")["budget"] == frozen
    set_state(keybrake, frozen, "open")
    with vendor_sees(keybrake, requests=1, executions=0):
        settled = keybrake.charge(key, 100, idempotency_key=lost)
    assert settled.status_code == 200
    assert parts(keybrake, frozen) == ("96.010000", "0.000000", "3.990000", "0.000000")


def test_an_equal_purchase_under_another_key_is_a_conflict_in_stripes_sdk(keybrake: Keybrake) -> None:
    shared = budget(keybrake, lifetime_usd_cap="100", duplicate_window_seconds=600)
    keys = [drawing(keybrake, shared) for _ in range(2)]
    customer = fresh_key("cus").replace("-", "_")

    def charge(key: VaultKey, name: str, **changes: Any) -> stripe.Charge:
        client = stripe.StripeClient(
            key.secret, base_addresses={"api": keybrake.url + "/stripe"}, max_network_retries=2
        )
        params: Any = {"amount": CENTS, "currency": "usd", "source": "tok_visa", "customer": customer, **changes}
        return client.v1.charges.create(params=params, options={"idempotency_key": name})

    first, second = fresh_key("first"), fresh_key("second")
    with vendor_sees(keybrake, requests=1, executions=1):
        made = charge(keys[0], first)
    with nothing_reaches_the_vendor(keybrake):
        with pytest.raises(stripe.APIError) as caught:
            charge(keys[1], second, description="told apart by nothing that counts")
        assert charge(keys[1], first).id == made.id, "its own repeat is answered"
    answer: Any = caught.value.json_body
    error = answer["error"]
    assert (caught.value.http_status, error["code"]) == (409, "possible_duplicate")
    assert error["earlier_request_id"] == only_entry(keybrake, idempotency_key=first)["request_id"]
    assert error["budget"] == shared
    assert only_entry(keybrake, idempotency_key=second)["reason"] == "possible_duplicate"
    with vendor_sees(keybrake, requests=2, executions=2):
        charge(keys[1], fresh_key(), amount=CENTS + 1)
        charge(keys[1], fresh_key(), customer=customer + "b")
    assert charged_cents(keybrake, customer) == [CENTS, CENTS + 1]


def test_of_40_equal_purchases_at_once_the_vendor_sees_one(keybrake: Keybrake, delayed: str) -> None:
    key = keybrake.issue(daily_usd_cap="1000", duplicate_window_seconds=60)
    requests = [charge_request(keybrake, key, CENTS, form={"customer": delayed}) for _ in range(40)]
    with vendor_sees(keybrake, requests=1, executions=1):
        answers = at_once(requests)
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 39}
    for answer in answers:
        if answer.status_code == 409:
            extra = expect_refusal(answer, 409, "possible_duplicate")
            assert extra["earlier_request_id"] and "budget" not in extra
    expect_balance(keybrake, key, free="997.01", settled="2.99")


def test_a_rule_that_changes_reaches_the_filter_with_the_next_request(keybrake: Keybrake) -> None:
    shared = budget(keybrake, lifetime_usd_cap="100")
    key = drawing(keybrake, shared)
    customer = fresh_key("cus").replace("-", "_")
    for _ in range(2):
        assert keybrake.charge(key, CENTS, form={"customer": customer}).status_code == 200
    rule = {"duplicate_window_seconds": 60, "duplicate_fields": ["customer", "description"]}
    assert keybrake.admin("PATCH", f"/admin/budgets/{shared}", json=rule).status_code == 200
    form = {"customer": customer, "description": "one"}
    assert keybrake.charge(key, CENTS, form=form).status_code == 200
    expect_refusal(keybrake.charge(key, CENTS + 5, form=form), 409, "possible_duplicate")
    assert keybrake.charge(key, CENTS, form={**form, "description": "two"}).status_code == 200
    # Without a description the whole request must be equal.
    assert keybrake.charge(key, 500, form={"customer": customer}).status_code == 200
    assert keybrake.charge(key, 501, form={"customer": customer}).status_code == 200
    expect_refusal(keybrake.charge(key, 501, form={"customer": customer}), 409, "possible_duplicate")
