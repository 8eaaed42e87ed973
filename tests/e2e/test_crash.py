"""The ledger stops, hangs and dies: nothing is forwarded without it, and nothing is lost or spent twice by it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Callable

import httpx
import pytest
from crash import (
    PATIENCE_S,
    RESERVE_DEADLINE_S,
    SLACK_S,
    eventually_parts,
    executed_cents,
    expect_at_vendor,
    expect_parts,
    expect_unavailable_in_time,
    hanging,
    issue,
    kill,
    no_open_requests,
    timed,
)
from harness import Keybrake, VaultKey, eventually, fresh_key
from ledger_side import expect_whole_chain, only_entry
from vendor_side import nothing_reaches_the_vendor

from stack.build import Artifacts

CENTS = 299
ENDPOINTS = ["POST /v1/charges", "GET /v1/charges"]


@pytest.fixture(scope="module")
def kb(stacks_folder: Path, artifacts: Artifacts, envoy: Path) -> Iterator[Keybrake]:
    """One stack for the tests of this file that put its ledger back in order. With one worker, a grant that is known is
    known to whoever serves the next request."""
    kb = Keybrake.start(stacks_folder / "crash", artifacts, envoy=envoy, workers=1)
    yield kb
    kb.stop()


def ask_everything(kb: Keybrake, keys: list[tuple[VaultKey, str]]) -> list[tuple[httpx.Response, float]]:
    """With each key, all at once: a charge, a read and a call that the key does not allow. Each with its time."""
    with ThreadPoolExecutor(3 * len(keys)) as clients:
        asked = [
            begun
            for key, name in keys
            for begun in (
                clients.submit(timed, kb.charge, key, CENTS, idempotency_key=name),
                clients.submit(timed, kb.get, key, "/v1/charges"),
                clients.submit(timed, kb.post, key, "/v1/refunds", {"charge": "ch_1"}),
            )
        ]
        return [each.result() for each in asked]


def test_without_a_ledger_nothing_is_forwarded_and_the_next_request_after_it_is_back_works(kb: Keybrake) -> None:
    known, unknown = issue(kb, "10.00", allowed_endpoints=ENDPOINTS), issue(kb, "10.00", allowed_endpoints=ENDPOINTS)
    assert kb.charge(known, CENTS).status_code == 200
    # One whose grant is in the filter's cache, and one whose is not.
    names = [fresh_key("stopped") for _ in range(2)]
    envoy_pid = kb.stack.envoy.child.pid

    kb.stack.ledger.stop()
    with nothing_reaches_the_vendor(kb):
        for asked in ask_everything(kb, [(known, names[0]), (unknown, names[1])]):
            expect_unavailable_in_time(asked)
    kb.stack.ledger.start()

    for key, name, settled, free in ((known, names[0], "5.98", "4.02"), (unknown, names[1], "2.99", "7.01")):
        answer, seconds = timed(kb.charge, key, CENTS, idempotency_key=name)
        assert answer.status_code == 200, answer.text
        assert seconds < RESERVE_DEADLINE_S + SLACK_S
        expect_at_vendor(kb, name, requests=1, executions=1)
        expect_parts(kb, key, free=free, settled=settled)
    no_open_requests(kb)
    assert kb.stack.envoy.child.pid == envoy_pid and kb.stack.envoy.child.alive()


def test_a_ledger_that_hangs_leaves_no_hold_and_no_debit_behind(kb: Keybrake) -> None:
    known, unknown = issue(kb, "30.00"), issue(kb, "30.00")
    assert kb.charge(known, CENTS).status_code == 200
    names = [fresh_key("hang") for _ in range(6)]
    asking = [(key, name) for key in (known, unknown) for name in names]

    with ThreadPoolExecutor(len(asking)) as clients:
        with nothing_reaches_the_vendor(kb), hanging(kb.stack.ledger.child):
            asked = [
                clients.submit(timed, kb.charge, key, CENTS, idempotency_key=f"{name}-{key.key_id}")
                for key, name in asking
            ]
            for each in asked:
                expect_unavailable_in_time(each.result())
        # Those behind them are served at once, and what came late is given back.
        behind = [clients.submit(timed, kb.charge, key, 1) for key in (known, unknown)]
        for each in behind:
            answer, seconds = each.result()
            assert answer.status_code == 200, answer.text
            assert seconds < RESERVE_DEADLINE_S + SLACK_S
    no_open_requests(kb)
    expect_parts(kb, known, free="27", settled="3.00")
    expect_parts(kb, unknown, free="29.99", settled="0.01")
    for key, name in asking:
        expect_at_vendor(kb, f"{name}-{key.key_id}", requests=0, executions=0)
        assert kb.charge(key, CENTS, idempotency_key=f"{name}-{key.key_id}").status_code == 200
        expect_at_vendor(kb, f"{name}-{key.key_id}", requests=1, executions=1)
    expect_parts(kb, known, free="9.06", settled="20.94")
    expect_parts(kb, unknown, free="12.05", settled="17.95")
    expect_whole_chain(kb)


def ledger_failures(kb: Keybrake) -> int:
    """How many batches of commands came to nothing at the filter."""
    return sum(kb.stack.envoy.stats("keybrake_ledger_failures").values())


class Clients:
    """Eight clients that charge under given idempotency keys; each asks again until it has a yes or a no to keep."""

    # What a client repeats with the same key: nothing decided yet.
    REPEATED = frozenset({409, 503})

    def __init__(self, kb: Keybrake, key: VaultKey) -> None:
        self.kb = kb
        self.key = key
        self.finals: dict[str, httpx.Response] = {}
        self.repeats = 0
        self._lock = threading.Lock()

    def charge(self, name: str) -> None:
        """One business action, to its end."""

        def final() -> bool:
            answer = self.kb.charge(self.key, CENTS, idempotency_key=name)
            if answer.status_code in self.REPEATED:
                assert answer.headers["stripe-should-retry"] == "true", answer.text
                with self._lock:
                    self.repeats += 1
                return False
            with self._lock:
                self.finals[name] = answer
            return True

        eventually(final, 60, f"a final answer for {name}")

    def done(self) -> int:
        """How many actions have ended."""
        return len(self.finals)

    def ended_with(self, status: int) -> list[str]:
        """The idempotency keys of those that ended so."""
        return [name for name, answer in self.finals.items() if answer.status_code == status]


def test_a_ledger_killed_under_load_loses_nothing_and_passes_no_cap(fresh: Callable[..., Keybrake]) -> None:
    kb, names, fitting, kills = fresh(), [fresh_key("load") for _ in range(200)], 150, 8
    # One cent is left when all that fit have been executed.
    key = issue(kb, "448.51")
    clients = Clients(kb, key)
    with ThreadPoolExecutor(8) as pool:
        begun: list[Future[None]] = [pool.submit(clients.charge, name) for name in names]
        for number in range(1, kills + 1):
            eventually(lambda: clients.done() >= 15 * number, 60, f"load for kill {number}")  # noqa: B023
            assert clients.done() < fitting, "the load was over before the last kill"
            failures = ledger_failures(kb)
            kill(kb.stack.ledger.child)
            # Once it stays away so long that clients notice; else the filter repeats until it is back.
            if number == kills // 2:
                eventually(lambda: clients.repeats > 0, 60, "a client that was turned away")
            eventually(lambda: ledger_failures(kb) > failures, 60, "a batch without an answer")  # noqa: B023
            kb.stack.ledger.start()
        for each in begun:
            each.result()

    paid, turned = clients.ended_with(200), clients.ended_with(402)
    assert len(paid) + len(turned) == len(names), {name: str(answer) for name, answer in clients.finals.items()}
    assert len(paid) <= fitting
    no_open_requests(kb)
    expect_books_of(kb, clients, paid, turned)

    # What a lost answer had set aside is free again: exactly those that fit get through in the end.
    for name in turned:
        clients.charge(name)
    paid, turned = clients.ended_with(200), clients.ended_with(402)
    assert (len(paid), len(turned)) == (fitting, len(names) - fitting)
    expect_books_of(kb, clients, paid, turned)
    expect_parts(kb, key, free="0.01", settled="448.50")


def expect_books_of(kb: Keybrake, clients: Clients, paid: list[str], turned: list[str]) -> None:
    """Ledger, vendor, audit and clients say the same."""
    settled = len(paid) * CENTS
    assert executed_cents(kb) == settled
    expect_parts(kb, clients.key, free=str((44_851 - settled) / 100), settled=str(settled / 100))
    by_key = kb.counts()["by_key"]
    assert {name: by_key.get(name, {}).get("executions", 0) for name in paid} == dict.fromkeys(paid, 1)
    assert [name for name in turned if name in by_key] == []
    settled_entries = {
        entry["idempotency_key"]: entry["stripe_charge_id"]
        for entry in kb.audit(key_id=clients.key.key_id, outcome="settled")
    }
    assert settled_entries == {name: clients.finals[name].json()["id"] for name in paid}
    expect_whole_chain(kb)


def test_an_outcome_of_a_ledger_that_was_killed_is_settled_once_it_is_back(kb: Keybrake) -> None:
    key, name = issue(kb, "10.00"), fresh_key("settle")
    kb.fault({"kind": "delay", "delay_ms": 800, "when": "after"}, idempotency_key=name)
    with ThreadPoolExecutor(1) as clients:
        charging = clients.submit(kb.charge, key, CENTS, idempotency_key=name)
        eventually(lambda: kb.executions(name) == 1, PATIENCE_S, "the execution")
        kill(kb.stack.ledger.child)
        answer = charging.result()
    assert (answer.status_code, answer.headers["keybrake-settlement"]) == (200, "pending")
    kb.stack.ledger.start()
    eventually_parts(kb, key, free="7.01", settled="2.99")
    no_open_requests(kb)
    entry = only_entry(kb, idempotency_key=name)
    assert (entry["outcome"], entry["stripe_charge_id"]) == ("settled", answer.json()["id"])
    again = kb.charge(key, CENTS, idempotency_key=name)
    assert (again.json()["id"], again.headers["idempotent-replayed"]) == (answer.json()["id"], "true")
    expect_at_vendor(kb, name, requests=1, executions=1)
    expect_parts(kb, key, free="7.01", settled="2.99")
