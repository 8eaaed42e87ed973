"""The rows of DESIGN.md's table (section 7) in which the vendor has been asked, or could not be: in every way into the
gate, with a vendor that misbehaves and shortened time-outs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Keybrake, VaultKey, eventually, fresh_key
from ledger_side import audited, expect_balance, only_entry
from shape import expect_refusal
from vendor_side import arrives_at_the_vendor, nothing_reaches_the_vendor, vendor_sees
from ways import WAYS, Way
from wire import Reply

from stack.build import Artifacts

NINETY_DAYS_S = 90 * 24 * 3600

every_way = pytest.mark.parametrize("way", WAYS, ids=str)


@pytest.fixture(scope="module")
def kb(stacks_folder: Path, artifacts: Artifacts, envoy: Path) -> Iterator[Keybrake]:
    """A stack that waits neither long for the vendor nor for an equal request."""
    plugin = {"forward_timeout_ms": 700, "in_flight_patience_ms": 150}
    made = Keybrake.start(stacks_folder / "after-forward", artifacts, envoy=envoy, plugin=plugin)
    yield made
    made.stop()


def lasting(kb: Keybrake) -> VaultKey:
    """A key whose one cap takes no notice of the day, that fits one charge."""
    return kb.issue(daily_usd_cap=None, lifetime_usd_cap="2.99", expires_in_seconds=NINETY_DAYS_S)


def expect_unknown(kb: Keybrake, key: VaultKey, name: str, attempts: int) -> None:
    """Set aside as unknown, once, whatever the number of attempts."""
    expect_balance(kb, key, free="0", unknown="2.99", window="lifetime")
    entry = only_entry(kb, key_id=key.key_id, verdict="admitted")
    assert (entry["idempotency_key"], entry["outcome"], entry["attempts"]) == (name, "unknown", attempts)


@every_way
def test_an_idempotency_key_that_is_in_use(kb: Keybrake, way: Way) -> None:
    first, second, name = lasting(kb), lasting(kb), fresh_key()
    kb.fault({"kind": "delay", "delay_ms": 500}, idempotency_key=name)
    answers: list[Reply] = []
    client = threading.Thread(target=lambda: answers.append(way.charge(kb, first, idempotency_key=name)))
    with vendor_sees(kb, requests=1, executions=1):
        client.start()
        arrives_at_the_vendor(kb, name)
        reply = way.charge(kb, second, idempotency_key=name)
        assert expect_refusal(reply, 409, "idempotency_key_in_use", retry="true") == {}
        client.join(10)
    assert [answer.status_code for answer in answers] == [200]
    expect_balance(kb, first, free="0", settled="2.99", window="lifetime")
    expect_balance(kb, second, free="2.99", window="lifetime")


@every_way
def test_an_outcome_that_is_unknown_when_the_vendors_window_is_over(kb: Keybrake, way: Way) -> None:
    key, name = lasting(kb), fresh_key()
    kb.fault({"kind": "reset_before_answer"}, idempotency_key=name)
    with vendor_sees(kb, requests=1, executions=1):
        expect_refusal(
            way.charge(kb, key, idempotency_key=name), 502, "outcome_unknown", kind="api_error", retry="true"
        )
    kb.advance(hours=24)
    with nothing_reaches_the_vendor(kb):
        reply = way.charge(kb, key, idempotency_key=name)
        assert expect_refusal(reply, 409, "outcome_unknown", kind="api_error") == {}
    expect_unknown(kb, key, name, attempts=1)
    (refused,) = kb.audit(key_id=key.key_id, verdict="refused")
    assert (refused["reason"], refused["request_id"]) == ("outcome_unknown", reply.headers["keybrake-request-id"])


@every_way
def test_a_vendors_own_answer_with_an_open_outcome(kb: Keybrake, way: Way) -> None:
    key, name = lasting(kb), fresh_key()
    kb.fault({"kind": "stored_500"}, idempotency_key=name)
    for attempt in (1, 2):
        with vendor_sees(kb, requests=1, executions=0):
            reply = way.charge(kb, key, idempotency_key=name)
        assert (reply.status_code, reply.json()["error"]["type"]) == (500, "api_error")
        assert not reply.json()["error"]["message"].startswith("Keybrake")
        assert reply.headers["keybrake-outcome"] == "unknown"
        assert reply.headers["stripe-should-retry"] == "true"
        assert "keybrake-reason" not in reply.headers
        expect_unknown(kb, key, name, attempts=attempt)


@every_way
@pytest.mark.parametrize("executes", [True, False])
def test_no_answer_in_time(kb: Keybrake, way: Way, executes: bool) -> None:
    key, name = lasting(kb), fresh_key()
    kb.fault({"kind": "hang", "executes": executes}, idempotency_key=name)
    with vendor_sees(kb, requests=1, executions=int(executes)):
        reply = way.charge(kb, key, idempotency_key=name)
    extra = expect_refusal(reply, 504, "outcome_unknown", kind="api_error", retry="true")
    assert (extra, reply.headers["keybrake-outcome"]) == ({}, "unknown")
    expect_unknown(kb, key, name, attempts=1)
    with vendor_sees(kb, requests=1, executions=int(not executes)):
        assert way.charge(kb, key, idempotency_key=name).status_code == 200
    expect_balance(kb, key, free="0", settled="2.99", window="lifetime")
    assert kb.executions(name) == 1


@every_way
@pytest.mark.parametrize("kind", ["reset_before_answer", "reset_before_execution", "not_json"])
def test_no_answer_that_can_be_read(kb: Keybrake, way: Way, kind: str) -> None:
    key, name = lasting(kb), fresh_key()
    kb.fault({"kind": kind}, idempotency_key=name)
    executed = int(kind != "reset_before_execution")
    with vendor_sees(kb, requests=1, executions=executed):
        reply = way.charge(kb, key, idempotency_key=name)
    extra = expect_refusal(reply, 502, "outcome_unknown", kind="api_error", retry="true")
    assert (extra, reply.headers["keybrake-outcome"]) == ({}, "unknown")
    expect_unknown(kb, key, name, attempts=1)
    with vendor_sees(kb, requests=1, executions=1 - executed):
        assert way.charge(kb, key, idempotency_key=name).status_code == 200
    expect_balance(kb, key, free="0", settled="2.99", window="lifetime")
    assert audited(kb, key) == [("admitted", "charges.create", "settled", "2.990000")]


def test_without_an_idempotency_key_of_its_own_a_caller_must_not_repeat(kb: Keybrake) -> None:
    key = kb.issue(idempotency="optional", daily_usd_cap=None, lifetime_usd_cap="2.99")
    customer = fresh_key("cus").replace("-", "_")
    kb.fault({"kind": "reset_before_answer"}, body_contains=customer)
    form = {"amount": "299", "currency": "usd", "customer": customer}
    answer = kb.request("POST", "/v1/charges", key=key, data=form)
    expect_refusal(answer, 502, "outcome_unknown", kind="api_error", retry="false")
    expect_balance(kb, key, free="0", unknown="2.99", window="lifetime")


def test_a_vendor_that_cannot_be_reached_is_503_and_nothing_is_held(kb: Keybrake) -> None:
    key, name = lasting(kb), fresh_key()
    assert kb.stack.sandbox is not None
    kb.stack.sandbox.stop()
    try:
        for way in WAYS:
            reply = way.charge(kb, key, idempotency_key=name)
            expect_refusal(reply, 503, "governance_unavailable", kind="api_error", retry="true")
            expect_balance(kb, key, free="2.99", window="lifetime")
    finally:
        kb.stack.sandbox.start()
    assert {entry[2] for entry in audited(kb, key)} == {"released"}
    eventually(lambda: kb.charge(key, 299, idempotency_key=name).status_code == 200, 10, "a charge with it back")
    expect_balance(kb, key, free="0", settled="2.99", window="lifetime")
    assert kb.executions(name) == 1
