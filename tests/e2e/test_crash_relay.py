"""Between filter and ledger, answers get lost, come too late, or not at all: no hold is left behind, nothing is debited
twice, nothing is forwarded on a late yes, and requests behind it are not stuck."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from crash import (
    PATIENCE_S,
    RESERVE_DEADLINE_S,
    SLACK_S,
    executed,
    expect_at_vendor,
    expect_parts,
    expect_unavailable,
    expect_unavailable_in_time,
    issue,
    no_open_requests,
    timed,
)
from harness import Keybrake, VaultKey, eventually, fresh_key
from ledger_side import expect_whole_chain, only_entry
from relay import Relay
from vendor_side import nothing_reaches_the_vendor

from stack.build import Artifacts

CENTS = 299
# For tests in which a yes is too old although the answer is still waited for.
FORWARD_WITHIN_MS = 400


@pytest.fixture(scope="module")
def relayed(stacks_folder: Path, artifacts: Artifacts, envoy: Path) -> Iterator[tuple[Keybrake, Relay]]:
    """A stack whose Envoy, with one worker and so with one connection, reaches its ledger through a relay."""
    with tempfile.TemporaryDirectory(prefix="kb") as folder, Relay(Path(folder) / "relay.sock") as relay:
        kb = Keybrake.start(stacks_folder / "crash-relay", artifacts, envoy=envoy, edit=relay.edit, workers=1)
        yield kb, relay
        kb.stop()


@pytest.fixture
def kb(relayed: tuple[Keybrake, Relay]) -> Keybrake:
    """The stack."""
    return relayed[0]


@pytest.fixture
def relay(relayed: tuple[Keybrake, Relay]) -> Relay:
    """Its relay."""
    return relayed[1]


def known_key(kb: Keybrake, usd: str) -> VaultKey:
    """A key whose grant the filter has, with one cent spent: a charge of it is one reserve and one outcome."""
    key = issue(kb, usd)
    assert kb.charge(key, 1).status_code == 200
    return key


def expect_served(kb: Keybrake, key: VaultKey) -> None:
    """The next request is answered as if nothing had been."""
    answer, seconds = timed(kb.charge, key, 1)
    assert answer.status_code == 200, answer.text
    assert seconds < RESERVE_DEADLINE_S + SLACK_S


@pytest.mark.parametrize("after_head", [False, True], ids=["whole", "behind its headers"])
def test_a_reserve_whose_answer_got_lost_is_repeated_and_debits_once(
    kb: Keybrake, relay: Relay, after_head: bool
) -> None:
    key, name, lost = known_key(kb, "5.00"), fresh_key("lost"), relay.lost
    relay.lose_answers(1, after_head=after_head)
    answer = kb.charge(key, CENTS, idempotency_key=name)
    assert relay.lost == lost + 1
    assert answer.status_code == 200, answer.text
    expect_at_vendor(kb, name, requests=1, executions=1)
    expect_parts(kb, key, free="2.00", settled="3.00")
    assert only_entry(kb, idempotency_key=name)["attempts"] == 1
    no_open_requests(kb)


def test_an_outcome_whose_answer_got_lost_is_repeated_and_settles_once(kb: Keybrake, relay: Relay) -> None:
    key, name, lost = known_key(kb, "5.00"), fresh_key("lost"), relay.lost
    kb.fault({"kind": "delay", "delay_ms": 500, "when": "after"}, idempotency_key=name)
    with ThreadPoolExecutor(1) as clients:
        charging = clients.submit(kb.charge, key, CENTS, idempotency_key=name)
        executed(kb, name)
        relay.lose_answers(1)
        answer = charging.result()
    assert relay.lost == lost + 1
    assert answer.status_code == 200, answer.text
    assert "keybrake-settlement" not in answer.headers
    expect_at_vendor(kb, name, requests=1, executions=1)
    expect_parts(kb, key, free="2.00", settled="3.00")
    entry = only_entry(kb, idempotency_key=name)
    assert (entry["outcome"], entry["attempts"], entry["replays"]) == ("settled", 1, 0)
    no_open_requests(kb)


def test_batches_that_lose_their_answers_under_load_debit_nothing_twice(kb: Keybrake, relay: Relay) -> None:
    key, lost, names = known_key(kb, "150.00"), relay.lost, [fresh_key("load") for _ in range(100)]
    relay.lose_answers(10, every=3)
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda name: kb.charge(key, 100, idempotency_key=name), names))
    assert relay.lost == lost + 10
    assert {answer.status_code for answer in answers} == {200}
    no_open_requests(kb)
    expect_parts(kb, key, free="49.99", settled="100.01")
    by_key = kb.counts()["by_key"]
    assert [by_key[name] for name in names] == [{"requests": 1, "executions": 1}] * len(names)
    expect_whole_chain(kb)


def test_answers_that_come_after_their_time_leave_no_hold_and_no_forward(kb: Keybrake, relay: Relay) -> None:
    key, names = known_key(kb, "20.00"), [fresh_key("late") for _ in range(5)]
    with nothing_reaches_the_vendor(kb):
        with ThreadPoolExecutor(len(names)) as clients, relay.keeping_answers():
            asked = [clients.submit(timed, kb.charge, key, CENTS, idempotency_key=name) for name in names]
            for each in asked:
                expect_unavailable_in_time(each.result())
            # The ledger has said yes to all of them, and nobody has heard it.
            entries = [only_entry(kb, idempotency_key=name) for name in names]
            assert {entry["verdict"] for entry in entries} == {"admitted"}
        no_open_requests(kb)
    expect_parts(kb, key, free="19.99", settled="0.01")
    assert {only_entry(kb, idempotency_key=name)["outcome"] for name in names} == {"released"}
    expect_served(kb, key)
    for name in names:
        assert kb.charge(key, CENTS, idempotency_key=name).status_code == 200
        expect_at_vendor(kb, name, requests=1, executions=1)
    expect_parts(kb, key, free="5.03", settled="14.97")


def test_a_yes_that_is_too_old_is_given_back_and_not_forwarded(kb: Keybrake, relay: Relay) -> None:
    child = kb.stack.ledger.child
    usual = list(child.argv)
    child.argv += ["--forward-within-ms", str(FORWARD_WITHIN_MS)]
    try:
        kb.stack.ledger.restart()
        key, name = known_key(kb, "5.00"), fresh_key("old")
        with ThreadPoolExecutor(1) as clients, nothing_reaches_the_vendor(kb):
            with relay.keeping_answers():
                charging = clients.submit(kb.charge, key, CENTS, idempotency_key=name)
                eventually(lambda: kb.audit(idempotency_key=name), PATIENCE_S, "the ledger's yes")
                said = time.monotonic()
                # The filter still waits for it: a reserve's deadline is longer.
                eventually(lambda: time.monotonic() - said > 1.5 * FORWARD_WITHIN_MS / 1000, 5, "the yes to grow old")
            expect_unavailable(charging.result())
            no_open_requests(kb)
        expect_parts(kb, key, free="4.99", settled="0.01")
        assert only_entry(kb, idempotency_key=name)["outcome"] == "released"
    finally:
        child.argv = usual
        kb.stack.ledger.restart()
    assert kb.charge(key, CENTS, idempotency_key=name).status_code == 200
    expect_at_vendor(kb, name, requests=1, executions=1)
    expect_parts(kb, key, free="2.00", settled="3.00")


def test_a_black_hole_before_the_ledger_costs_503s_and_nothing_else(kb: Keybrake, relay: Relay) -> None:
    key, names = known_key(kb, "20.00"), [fresh_key("hole") for _ in range(5)]
    with nothing_reaches_the_vendor(kb):
        with ThreadPoolExecutor(len(names)) as clients, relay.keeping_requests():
            asked = [clients.submit(timed, kb.charge, key, CENTS, idempotency_key=name) for name in names]
            for each in asked:
                expect_unavailable_in_time(each.result())
            assert relay.keeping(), "nothing was on its way to the ledger"
            for connection in relay.keeping():
                connection.close()
        no_open_requests(kb)
    expect_parts(kb, key, free="19.99", settled="0.01")
    expect_served(kb, key)
    for name in names:
        assert kb.audit(idempotency_key=name) == [], "the ledger has never heard of it"
        assert kb.charge(key, CENTS, idempotency_key=name).status_code == 200
        expect_at_vendor(kb, name, requests=1, executions=1)


def test_requests_that_reach_the_ledger_late_and_in_order_are_given_back(kb: Keybrake, relay: Relay) -> None:
    key, name = known_key(kb, "5.00"), fresh_key("slow")
    with nothing_reaches_the_vendor(kb):
        with relay.keeping_requests():
            expect_unavailable_in_time(timed(kb.charge, key, CENTS, idempotency_key=name))
        no_open_requests(kb)
    expect_parts(kb, key, free="4.99", settled="0.01")
    expect_served(kb, key)
    assert kb.charge(key, CENTS, idempotency_key=name).status_code == 200
    expect_at_vendor(kb, name, requests=1, executions=1)


def test_a_reserve_that_comes_after_its_release_is_cancelled(kb: Keybrake, relay: Relay) -> None:
    key, name = known_key(kb, "5.00"), fresh_key("tomb")
    with nothing_reaches_the_vendor(kb):
        with ThreadPoolExecutor(1) as clients, relay.keeping_requests():
            charging = clients.submit(timed, kb.charge, key, CENTS, idempotency_key=name)
            late = eventually(lambda: relay.keeping() or None, PATIENCE_S, "the reserve on its way")[0]
            # Envoy gives this connection up; what it has sent there is still on its way.
            late.cut_envoy()
            expect_unavailable_in_time(charging.result())
            for connection in relay.keeping():
                connection.close()
        no_open_requests(kb)
        assert kb.audit(idempotency_key=name) == []

        relay.pass_kept_requests(late)
        eventually(lambda: b'"results"' in late.unheard, PATIENCE_S, "the answer to the late reserve")
        assert b'"cancelled"' in late.unheard, bytes(late.unheard)
        expect_parts(kb, key, free="4.99", settled="0.01")
        assert [entry for entry in kb.audit(idempotency_key=name) if entry["verdict"] == "admitted"] == []
        late.close()
    expect_served(kb, key)
    assert kb.charge(key, CENTS, idempotency_key=name).status_code == 200
    expect_at_vendor(kb, name, requests=1, executions=1)
    expect_parts(kb, key, free="1.99", settled="3.01")
    expect_whole_chain(kb)
