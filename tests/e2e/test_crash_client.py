"""Clients that go away, and a stack that goes away, at each step of a charge: every charge that began comes to its end,
and nothing else does."""

from __future__ import annotations

import socket
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable

import httpx
import pytest
from crash import (
    PATIENCE_S,
    SETTLE_WAIT_S,
    SLACK_S,
    answered_by_vendor,
    eventually_parts,
    executed,
    executed_cents,
    expect_at_vendor,
    expect_parts,
    expect_unavailable_in_time,
    hanging,
    issue,
    no_open_requests,
    open_slots,
    reaches_vendor,
    timed,
)
from harness import Keybrake, VaultKey, eventually, fresh_key
from ledger_side import expect_whole_chain, only_entry
from vendor_side import nothing_reaches_the_vendor

from stack.build import Artifacts
from stack.calls import call
from stack.local import down

CENTS = 299


@pytest.fixture(scope="module")
def kb(stacks_folder: Path, artifacts: Artifacts, envoy: Path) -> Iterator[Keybrake]:
    """One stack for the tests of this file that put its ledger back in order. With one worker, a grant that is known is
    known to whoever serves the next request."""
    kb = Keybrake.start(stacks_folder / "crash-client", artifacts, envoy=envoy, workers=1)
    yield kb
    kb.stop()


class Caller:
    """A client that hangs up when it is told to."""

    def __init__(self, kb: Keybrake, key: VaultKey, method: str, path: str, *headers: str, body: str = "") -> None:
        lines = [f"{method} /stripe{path} HTTP/1.1", "Host: keybrake", f"Authorization: Bearer {key.secret}", *headers]
        self._request = ("\r\n".join([*lines, f"Content-Length: {len(body)}"]) + "\r\n\r\n" + body).encode()
        self._connection = socket.create_connection(("127.0.0.1", kb.stack.envoy.ports.envoy), PATIENCE_S)

    @classmethod
    def charging(cls, kb: Keybrake, key: VaultKey, name: str) -> Caller:
        """A client with a charge."""
        form = urllib.parse.urlencode({"amount": CENTS, "currency": "usd", "source": "tok_visa"})
        kind = "Content-Type: application/x-www-form-urlencoded"
        return cls(kb, key, "POST", "/v1/charges", kind, f"Idempotency-Key: {name}", body=form)

    def send(self, *, without_the_last: int = 0) -> Caller:
        """Sends the request, or all but so many bytes of it."""
        self._connection.sendall(self._request[: len(self._request) - without_the_last])
        return self

    def hang_up(self) -> None:
        """Ends the connection."""
        self._connection.close()


def active_requests(kb: Keybrake) -> int:
    """How many requests Envoy is about to answer."""
    return sum(kb.stack.envoy.stats(r"^http\.egress\.downstream_rq_active$").values())


def test_gone_before_the_whole_request_was_there(kb: Keybrake) -> None:
    key, name = issue(kb, "5.00"), fresh_key("half")
    with nothing_reaches_the_vendor(kb):
        caller = Caller.charging(kb, key, name).send(without_the_last=5)
        eventually(lambda: active_requests(kb) == 1, PATIENCE_S, "the half request at Envoy")
        caller.hang_up()
        eventually(lambda: active_requests(kb) == 0, PATIENCE_S, "its end")
        no_open_requests(kb)
    assert kb.audit(key_id=key.key_id) == []
    expect_parts(kb, key, free="5.00")


@pytest.mark.parametrize("grant", ["known", "unknown"])
def test_gone_while_the_reserve_is_on_its_way(kb: Keybrake, grant: str) -> None:
    key, name = issue(kb, "6.00"), fresh_key("reserve")
    if grant == "known":
        assert kb.charge(key, 1).status_code == 200
    with nothing_reaches_the_vendor(kb):
        with hanging(kb.stack.ledger.child):
            caller = Caller.charging(kb, key, name).send()
            eventually(lambda: open_slots(kb) == 1, PATIENCE_S, "the reserve on its way")
            caller.hang_up()
            eventually(lambda: active_requests(kb) == 0, PATIENCE_S, "the end of the client's stream")
        no_open_requests(kb)
    spent = 1 if grant == "known" else 0
    expect_parts(kb, key, free=f"{6 - spent / 100}", settled=f"{spent / 100}")
    assert [entry["outcome"] for entry in kb.audit(idempotency_key=name) if entry["outcome"] != "released"] == []
    assert kb.charge(key, CENTS, idempotency_key=name).status_code == 200
    expect_at_vendor(kb, name, requests=1, executions=1)
    expect_parts(kb, key, free=f"{3.01 - spent / 100:.2f}", settled=f"{2.99 + spent / 100:.2f}")


def test_gone_while_it_waits_for_its_like(kb: Keybrake) -> None:
    key, name = issue(kb, "5.00"), fresh_key("parked")
    kb.fault({"kind": "delay", "delay_ms": 1000}, idempotency_key=name)
    with ThreadPoolExecutor(1) as clients:
        charging = clients.submit(kb.charge, key, CENTS, idempotency_key=name)
        reaches_vendor(kb, name)
        caller = Caller.charging(kb, key, name).send()
        eventually(lambda: open_slots(kb) == 2, PATIENCE_S, "the second one waits")
        caller.hang_up()
        eventually(lambda: open_slots(kb) == 1, PATIENCE_S, "its slot is free")
        assert charging.result().status_code == 200
    no_open_requests(kb)
    expect_at_vendor(kb, name, requests=1, executions=1)
    expect_parts(kb, key, free="2.01", settled="2.99")
    assert only_entry(kb, idempotency_key=name)["replays"] == 0


def test_gone_while_the_outcome_is_on_its_way(kb: Keybrake) -> None:
    key, name = issue(kb, "5.00"), fresh_key("outcome")
    kb.fault({"kind": "delay", "delay_ms": 500, "when": "after"}, idempotency_key=name)
    caller = Caller.charging(kb, key, name).send()
    executed(kb, name)
    with hanging(kb.stack.ledger.child):
        answered_by_vendor(kb, name)
        caller.hang_up()
        eventually(lambda: active_requests(kb) == 0, PATIENCE_S, "the end of the client's stream")
        assert open_slots(kb) == 1
    eventually_parts(kb, key, free="2.01", settled="2.99")
    no_open_requests(kb)
    charge_id = only_entry(kb, idempotency_key=name)["stripe_charge_id"]
    again = kb.charge(key, CENTS, idempotency_key=name)
    assert (again.status_code, again.json()["id"], again.headers["idempotent-replayed"]) == (200, charge_id, "true")
    expect_at_vendor(kb, name, requests=1, executions=1)
    expect_parts(kb, key, free="2.01", settled="2.99")


def test_gone_while_a_read_streams(kb: Keybrake) -> None:
    key, run = issue(kb, "5.00", allowed_endpoints=["GET /v1/charges"]), fresh_key("run")
    kb.fault({"kind": "delay", "delay_ms": 60_000}, method="GET", path="/v1/charges")
    seen = kb.counts()["requests"]
    caller = Caller(kb, key, "GET", "/v1/charges?limit=1", f"X-Agent-Run-Id: {run}").send()
    eventually(lambda: kb.counts()["requests"] == seen + 1, PATIENCE_S, "the read at the vendor")
    caller.hang_up()
    eventually(lambda: only_entry(kb, run_id=run)["outcome"] == "abandoned", PATIENCE_S, "its outcome")
    no_open_requests(kb)
    expect_parts(kb, key, free="5.00")


@pytest.mark.parametrize("ledger", ["stopped", "hanging"])
def test_without_a_ledger_the_vendors_answer_comes_and_is_settled_later(kb: Keybrake, ledger: str) -> None:
    key, name, delay_s = issue(kb, "5.00"), fresh_key("pending"), 0.8
    kb.fault({"kind": "delay", "delay_ms": round(delay_s * 1000), "when": "after"}, idempotency_key=name)

    def settle_without_it(charging: Callable[[], httpx.Response]) -> httpx.Response:
        if ledger == "hanging":
            with hanging(kb.stack.ledger.child):
                return charging()
        kb.stack.ledger.stop()
        try:
            return charging()
        finally:
            kb.stack.ledger.start()

    with ThreadPoolExecutor(1) as clients:
        begun = clients.submit(timed, kb.charge, key, CENTS, idempotency_key=name)
        executed(kb, name)
        answer = settle_without_it(lambda: begun.result()[0])
    seconds = begun.result()[1]
    assert (answer.status_code, answer.headers["keybrake-settlement"]) == (200, "pending")
    assert delay_s + SETTLE_WAIT_S <= seconds < delay_s + SETTLE_WAIT_S + SLACK_S
    eventually_parts(kb, key, free="2.01", settled="2.99")
    no_open_requests(kb)
    assert only_entry(kb, idempotency_key=name)["stripe_charge_id"] == answer.json()["id"]
    again = kb.charge(key, CENTS, idempotency_key=name)
    assert (again.json()["id"], "keybrake-settlement" in again.headers) == (answer.json()["id"], False)
    expect_at_vendor(kb, name, requests=1, executions=1)


def test_a_stack_that_is_taken_down_answers_and_settles_what_it_has_begun(fresh: Callable[..., Keybrake]) -> None:
    kb = fresh()
    key, flight, count = issue(kb, "100.00"), fresh_key("down"), 20
    names = [f"{flight}-{number}" for number in range(count)]
    kb.fault({"kind": "delay", "delay_ms": 2_000, "when": "after"}, times=count, idempotency_key=f"{flight}-*")
    said: list[str] = []
    with ThreadPoolExecutor(count) as clients:
        begun = [clients.submit(kb.charge, key, CENTS, idempotency_key=name) for name in names]
        eventually(lambda: kb.counts()["executions_total"] == count, PATIENCE_S, "all of them at the vendor")
        ended = down(kb.stack.folder, PATIENCE_S, said.append)
        answers = [each.result() for each in begun]
    assert {answer.status_code for answer in answers} == {200}
    assert [answer.headers.get("keybrake-settlement") for answer in answers] == [None] * count
    assert [child.name for child in ended] == ["envoy", "ledger", "sandbox"]
    assert "still open" not in "\n".join(said)
    assert not any(child.alive() for child in kb.stack.children())

    # Both books as they were left.
    assert kb.stack.sandbox is not None
    kb.stack.sandbox.start()
    kb.stack.ledger.start()
    shown = call("GET", f"{kb.stack.ledger_url}/admin/vault_keys/{key.key_id}", bearer=kb.stack.admin_key).json()
    balance = next(balance for balance in shown["balances"] if balance["window"] == "lifetime")
    assert [float(balance[part]) for part in ("free", "held", "settled", "unknown")] == [40.20, 0, 59.80, 0]
    assert executed_cents(kb) == count * CENTS
    expect_whole_chain(kb)


def test_a_request_in_a_slot_is_counted_until_the_ledger_knows(kb: Keybrake) -> None:
    key = issue(kb, "10.00")
    assert kb.charge(key, CENTS).status_code == 200
    no_open_requests(kb)
    with hanging(kb.stack.ledger.child):
        # The client has its 503; that the hold is given back, the ledger does not know yet.
        expect_unavailable_in_time(timed(kb.charge, key, CENTS))
        assert open_slots(kb) == 1
    no_open_requests(kb)
    expect_parts(kb, key, free="7.01", settled="2.99")
