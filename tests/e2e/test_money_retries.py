"""One business action is one execution and one debit: repeats, declines, lost answers, callers that hang up."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import httpx
import pytest
from at_once import at_once, charge_request
from harness import Keybrake, eventually, fresh_key
from ledger_side import audited, expect_balance, only_entry
from shape import expect_refusal
from vendor_side import arrives_at_the_vendor, charged_cents, nothing_reaches_the_vendor, vendor_sees

CENTS = 299


def test_50_equal_requests_at_once_are_one_execution_and_one_debit(keybrake: Keybrake) -> None:
    key, name = keybrake.issue(), fresh_key("same")
    keybrake.fault({"kind": "delay", "delay_ms": 300}, idempotency_key=name)
    with vendor_sees(keybrake, requests=1, executions=1):
        answers = at_once([charge_request(keybrake, key, CENTS, idempotency_key=name) for _ in range(50)])
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert Counter(answer.headers.get("idempotent-replayed") for answer in answers) == {None: 1, "true": 49}
    expect_balance(keybrake, key, free="8", settled="2.99")
    entry = only_entry(keybrake, idempotency_key=name)
    assert (entry["attempts"], entry["replays"]) == (1, 49)
    assert entry["stripe_charge_id"] == answers[0].json()["id"]


def test_a_key_reused_for_something_else_is_refused_and_debits_nothing(keybrake: Keybrake) -> None:
    key = keybrake.issue(allowed_endpoints=["POST /v1/charges", "POST /v1/payment_intents"])
    name = fresh_key()
    assert keybrake.charge(key, CENTS, idempotency_key=name).status_code == 200
    form = {"amount": CENTS, "currency": "usd", "source": "tok_visa"}
    with nothing_reaches_the_vendor(keybrake):
        for answer in (
            keybrake.charge(key, CENTS + 1, idempotency_key=name),
            keybrake.charge(key, CENTS, idempotency_key=name, form={"description": "another"}),
            keybrake.post(key, "/v1/payment_intents", form, idempotency_key=name),
        ):
            expect_refusal(answer, 400, "idempotency_error", kind="idempotency_error")
        # The same parameters in another order and spelling are the same request.
        spelled = keybrake.request(
            "POST",
            "/v1/charges",
            key=key,
            headers={"Idempotency-Key": name, "Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
            content=f"source=tok%5Fvisa&currency=us%64&amount={CENTS}",
        )
        assert (spelled.status_code, spelled.headers["idempotent-replayed"]) == (200, "true")
    expect_balance(keybrake, key, free="8", settled="2.99")
    assert Counter(entry[2] for entry in audited(keybrake, key)) == {"settled": 1, "idempotency_error": 3}


def test_a_key_of_another_workspace_is_refused_without_details(keybrake: Keybrake) -> None:
    name = fresh_key()
    ours, theirs = keybrake.issue(workspace="north"), keybrake.issue(workspace="south")
    charge = keybrake.charge(ours, CENTS, idempotency_key=name).json()
    with nothing_reaches_the_vendor(keybrake):
        answer = keybrake.charge(theirs, CENTS, idempotency_key=name)
    extra = expect_refusal(answer, 400, "idempotency_error", kind="idempotency_error")
    assert extra == {}
    for told in (charge["id"], "north", ours.key_id):
        assert told not in answer.text and told not in str(answer.headers)
    expect_balance(keybrake, theirs, free="10.99")
    # A resumed run of the same workspace gets the charge.
    resumed = keybrake.issue(workspace="north")
    assert keybrake.charge(resumed, CENTS, idempotency_key=name).json()["id"] == charge["id"]
    expect_balance(keybrake, resumed, free="10.99")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_caller_that_hangs_up_is_charged_once_and_finds_its_charge(keybrake: Keybrake, when: str) -> None:
    key, name = keybrake.issue(), fresh_key("gone")
    keybrake.fault({"kind": "delay", "delay_ms": 2000, "when": when}, idempotency_key=name)
    with vendor_sees(keybrake, requests=1, executions=1):
        with pytest.raises(httpx.ReadTimeout):
            keybrake.charge(key, CENTS, idempotency_key=name, timeout=0.1)

        def settled() -> Any:
            entry = only_entry(keybrake, idempotency_key=name)
            return entry if entry["outcome"] == "settled" else None

        arrives_at_the_vendor(keybrake, name)
        assert only_entry(keybrake, idempotency_key=name)["outcome"] == "in_flight"
        expect_balance(keybrake, key, free="8", held="2.99")
        entry = eventually(settled, 10, "its outcome")
        assert entry["stripe_charge_id"].startswith("ch_")
        began = time.monotonic()
        again = keybrake.charge(key, CENTS, idempotency_key=name)
        assert time.monotonic() - began < 1, "the retry is answered at once"
    assert (again.status_code, again.json()["id"]) == (200, entry["stripe_charge_id"])
    assert again.headers["idempotent-replayed"] == "true"
    expect_balance(keybrake, key, free="8", settled="2.99")


def test_a_retry_while_the_first_still_runs_waits_for_its_answer(keybrake: Keybrake) -> None:
    key, name = keybrake.issue(), fresh_key("preempted")
    keybrake.fault({"kind": "delay", "delay_ms": 1000}, idempotency_key=name)
    with vendor_sees(keybrake, requests=1, executions=1):
        with pytest.raises(httpx.ReadTimeout):
            keybrake.charge(key, CENTS, idempotency_key=name, timeout=0.1)
        resumed = keybrake.issue()
        again = keybrake.charge(resumed, CENTS, idempotency_key=name)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    assert again.json()["id"] == only_entry(keybrake, idempotency_key=name)["stripe_charge_id"]
    expect_balance(keybrake, key, free="8", settled="2.99")
    expect_balance(keybrake, resumed, free="10.99")


def test_a_decline_passes_through_and_gives_the_hold_back(keybrake: Keybrake) -> None:
    key, name = keybrake.issue(daily_usd_cap="2.99"), fresh_key("declined")
    declining = {"source": "tok_chargeDeclinedInsufficientFunds"}
    with vendor_sees(keybrake, requests=1, executions=0):
        answer = keybrake.charge(key, CENTS, idempotency_key=name, form=declining)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"]) == (402, "card_error", "card_declined")
    assert error["decline_code"] == "insufficient_funds"
    assert "keybrake-reason" not in answer.headers
    assert not error["message"].startswith("Keybrake")
    assert answer.headers["request-id"].startswith("req_")
    expect_balance(keybrake, key, free="2.99")
    entry = only_entry(keybrake, idempotency_key=name)
    assert (entry["verdict"], entry["outcome"], entry["status"]) == ("admitted", "released", 402)
    # The vendor decides again: under the same key it says the same, under a new one the new card counts.
    with vendor_sees(keybrake, requests=1, executions=0):
        again = keybrake.charge(key, CENTS, idempotency_key=name, form=declining)
    assert (again.status_code, again.content) == (402, answer.content)
    with vendor_sees(keybrake, requests=1, executions=0):
        other_card = keybrake.charge(key, CENTS, idempotency_key=name)
    assert (other_card.status_code, other_card.json()["error"]["type"]) == (400, "idempotency_error")
    assert "keybrake-reason" not in other_card.headers
    expect_balance(keybrake, key, free="2.99")
    with vendor_sees(keybrake, requests=1, executions=1):
        assert keybrake.charge(key, CENTS).status_code == 200
    expect_balance(keybrake, key, free="0", settled="2.99")


def test_a_stored_500_stays_unknown_and_is_asked_again_on_the_same_hold(keybrake: Keybrake) -> None:
    key, name = keybrake.issue(daily_usd_cap="2.99"), fresh_key("stored")
    keybrake.fault({"kind": "stored_500"}, idempotency_key=name)
    for attempt in (1, 2, 3):
        with vendor_sees(keybrake, requests=1, executions=0):
            answer = keybrake.charge(key, CENTS, idempotency_key=name)
        assert (answer.status_code, answer.json()["error"]["type"]) == (500, "api_error")
        assert (answer.headers["keybrake-outcome"], answer.headers["stripe-should-retry"]) == ("unknown", "true")
        assert "keybrake-reason" not in answer.headers
        expect_balance(keybrake, key, free="0", unknown="2.99")
        entry = only_entry(keybrake, idempotency_key=name)
        assert (entry["outcome"], entry["attempts"], entry["cost_usd"]) == ("unknown", attempt, "2.990000")
        assert entry["stripe_charge_id"] is None
    with nothing_reaches_the_vendor(keybrake):
        other = keybrake.charge(key, CENTS - 1, idempotency_key=name)
        expect_refusal(other, 400, "idempotency_error", kind="idempotency_error")


LOST = [
    {"kind": "reset_before_answer"},
    {"kind": "close_before_answer"},
    {"kind": "cut_answer", "bytes": 20},
    {"kind": "not_json"},
    {"kind": "gzip"},
]


@pytest.mark.parametrize("fault", LOST, ids=lambda fault: fault["kind"])
def test_an_executed_charge_whose_answer_is_lost_is_found_by_the_retry(
    keybrake: Keybrake, fault: dict[str, Any]
) -> None:
    key, name = keybrake.issue(daily_usd_cap="2.99"), fresh_key("lost")
    customer = fresh_key("cus").replace("-", "_")
    keybrake.fault(fault, idempotency_key=name)
    with vendor_sees(keybrake, requests=1, executions=1):
        lost = keybrake.charge(key, CENTS, idempotency_key=name, form={"customer": customer})
    error = lost.json()["error"]
    assert (lost.status_code, error["type"], error["code"]) == (502, "api_error", "outcome_unknown")
    assert error["message"].startswith("Keybrake: ")
    assert (lost.headers["keybrake-outcome"], lost.headers["stripe-should-retry"]) == ("unknown", "true")
    expect_balance(keybrake, key, free="0", unknown="2.99")
    with vendor_sees(keybrake, requests=1, executions=0):
        found = keybrake.charge(key, CENTS, idempotency_key=name, form={"customer": customer})
    assert found.status_code == 200
    expect_balance(keybrake, key, free="0", settled="2.99")
    assert charged_cents(keybrake, customer) == [CENTS]
    entry = only_entry(keybrake, idempotency_key=name)
    assert (entry["outcome"], entry["attempts"], entry["replays"]) == ("settled", 2, 0)
    assert entry["stripe_charge_id"] == found.json()["id"]
    with nothing_reaches_the_vendor(keybrake):
        again = keybrake.charge(key, CENTS, idempotency_key=name, form={"customer": customer})
    assert again.json()["id"] == found.json()["id"]


NOT_DONE = [
    (429, "rate_limit", {"status": 429, "code": "rate_limit"}),
    (404, "resource_missing", {"status": 404, "code": "resource_missing"}),
    (401, "api_key_expired", {"status": 401, "code": "api_key_expired"}),
]


@pytest.mark.parametrize(("status", "code", "canned"), NOT_DONE, ids=lambda value: str(value))
def test_what_the_vendor_did_not_do_is_given_back(
    keybrake: Keybrake, status: int, code: str, canned: dict[str, Any]
) -> None:
    key, name = keybrake.issue(daily_usd_cap="2.99"), fresh_key("limited")
    keybrake.fault({"kind": "status", **canned}, idempotency_key=name)
    with vendor_sees(keybrake, requests=1, executions=0):
        answer = keybrake.charge(key, CENTS, idempotency_key=name)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "keybrake-reason" not in answer.headers and "keybrake-outcome" not in answer.headers
    expect_balance(keybrake, key, free="2.99")
    assert only_entry(keybrake, idempotency_key=name)["outcome"] == "released"
    with vendor_sees(keybrake, requests=1, executions=1):
        assert keybrake.charge(key, CENTS, idempotency_key=name).status_code == 200
    expect_balance(keybrake, key, free="0", settled="2.99")
    assert sorted(entry[2] or "" for entry in audited(keybrake, key)) == ["released", "settled"]


UNCLEAR = [
    (429, {"status": 429, "code": "lock_timeout"}),
    (409, {"status": 409, "code": "idempotency_key_in_use"}),
    (503, {"status": 503}),
]


@pytest.mark.parametrize(("status", "canned"), UNCLEAR, ids=lambda value: str(value))
def test_what_the_vendor_left_open_stays_unknown(keybrake: Keybrake, status: int, canned: dict[str, Any]) -> None:
    key, name = keybrake.issue(daily_usd_cap="2.99"), fresh_key("open")
    keybrake.fault({"kind": "status", **canned}, idempotency_key=name)
    with vendor_sees(keybrake, requests=1, executions=0):
        answer = keybrake.charge(key, CENTS, idempotency_key=name)
    assert answer.status_code == status
    assert (answer.headers["keybrake-outcome"], answer.headers["stripe-should-retry"]) == ("unknown", "true")
    expect_balance(keybrake, key, free="0", unknown="2.99")
    with vendor_sees(keybrake, requests=1, executions=1):
        assert keybrake.charge(key, CENTS, idempotency_key=name).status_code == 200
    expect_balance(keybrake, key, free="0", settled="2.99")


def derived(kb: Keybrake, scope: str, **grant: Any) -> Any:
    """A key for callers that send no idempotency key, or a random one."""
    return kb.issue(idempotency="derived", derive_scope=scope, **grant)


def test_equal_purchases_of_one_scope_are_one_purchase(keybrake: Keybrake) -> None:
    customer = fresh_key("cus").replace("-", "_")
    key, form = derived(keybrake, "2026-07"), {"customer": customer}
    random_keys = [fresh_key("sdk") for _ in range(20)]
    with vendor_sees(keybrake, requests=1, executions=1):
        answers = at_once(
            [charge_request(keybrake, key, CENTS, idempotency_key=name, form=form) for name in random_keys]
        )
    assert {answer.status_code for answer in answers} == {200}
    (charge_id,) = {answer.json()["id"] for answer in answers}
    assert charged_cents(keybrake, customer) == [CENTS]
    expect_balance(keybrake, key, free="8", settled="2.99")
    entry = only_entry(keybrake, key_id=key.key_id)
    assert entry["idempotency_key"].startswith("kb1_")
    assert entry["client_idempotency_key"] in random_keys
    for name in (entry["idempotency_key"], entry["client_idempotency_key"]):
        assert only_entry(keybrake, idempotency_key=name)["stripe_charge_id"] == charge_id
    assert keybrake.executions(entry["idempotency_key"]) == 1

    # Without a key of its own, with another description, under another vault key: the same purchase.
    resumed = derived(keybrake, "2026-07")
    with nothing_reaches_the_vendor(keybrake):
        again = keybrake.request(
            "POST",
            "/v1/charges",
            key=resumed,
            data={"amount": str(CENTS), "currency": "usd", "customer": customer, "description": "resumed"},
        )
    assert (again.status_code, again.json()["id"]) == (200, charge_id)
    expect_balance(keybrake, resumed, free="10.99")


def test_the_next_scope_bills_again(keybrake: Keybrake) -> None:
    customer = fresh_key("cus").replace("-", "_")
    july, august = derived(keybrake, "2026-07"), derived(keybrake, "2026-08")
    with vendor_sees(keybrake, requests=3, executions=3):
        first = keybrake.charge(july, CENTS, form={"customer": customer}).json()["id"]
        second = keybrake.charge(august, CENTS, form={"customer": customer}).json()["id"]
        # So does another amount in the same scope.
        third = keybrake.charge(august, CENTS + 1, form={"customer": customer}).json()["id"]
    assert len({first, second, third}) == 3
    assert charged_cents(keybrake, customer) == [CENTS, CENTS, CENTS + 1]
    expect_balance(keybrake, july, free="8", settled="2.99")
    expect_balance(keybrake, august, free="5", settled="5.99")


def test_a_purchase_that_cannot_be_told_apart_is_refused(keybrake: Keybrake) -> None:
    key = derived(keybrake, "2026-07")
    with nothing_reaches_the_vendor(keybrake):
        extra = expect_refusal(keybrake.charge(key, CENTS), 400, "request_not_inspectable")
    assert extra["param"] == "customer"
    expect_balance(keybrake, key, free="10.99")


def test_derive_from_decides_what_makes_a_purchase(keybrake: Keybrake) -> None:
    customer = fresh_key("cus").replace("-", "_")
    fields = ["customer", "amount", "currency", "metadata[invoice]"]
    key = derived(keybrake, "2026-07", derive_from=fields)
    with vendor_sees(keybrake, requests=2, executions=2):
        for invoice in ("in_1", "in_2", "in_1"):
            form = {"customer": customer, "metadata[invoice]": invoice}
            assert keybrake.charge(key, CENTS, form=form).status_code == 200
    assert charged_cents(keybrake, customer) == [CENTS, CENTS]
    expect_balance(keybrake, key, free="5.01", settled="5.98")


def test_without_a_required_key_an_optional_one_is_made_from_the_hold(keybrake: Keybrake) -> None:
    key = keybrake.issue(idempotency="optional")
    with vendor_sees(keybrake, requests=2, executions=2):
        for _ in range(2):
            answer = keybrake.request(
                "POST", "/v1/charges", key=key, data={"amount": str(CENTS), "currency": "usd", "source": "tok_visa"}
            )
            assert answer.status_code == 200
    expect_balance(keybrake, key, free="5.01", settled="5.98")
    for entry in keybrake.audit(key_id=key.key_id):
        assert keybrake.executions(entry["id"]) == 1, "evidence can be found under the hold's id"


def test_a_vendor_that_is_slow_does_not_hold_up_other_keys(keybrake: Keybrake) -> None:
    slow, quick, name = keybrake.issue(), keybrake.issue(), fresh_key("slow")
    keybrake.fault({"kind": "delay", "delay_ms": 1500}, idempotency_key=name)
    client = threading.Thread(target=lambda: keybrake.charge(slow, CENTS, idempotency_key=name))
    client.start()
    arrives_at_the_vendor(keybrake, name)
    began = time.monotonic()
    assert keybrake.charge(quick, CENTS).status_code == 200
    assert time.monotonic() - began < 1
    client.join(10)
    expect_balance(keybrake, slow, free="8", settled="2.99")
    expect_balance(keybrake, quick, free="8", settled="2.99")
