"""Envoy or the vendor dies between the vendor's execution and the settlement: the money stays counted, and a retry
ends in one execution and one debit."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Optional

import httpx
import pytest
from crash import (
    NEVER_MS,
    envoy_dies_before_settlement,
    eventually_parts,
    executed,
    expect_at_vendor,
    expect_parts,
    expect_unavailable,
    issue,
    kill,
    no_open_requests,
    sweep,
)
from harness import Keybrake, VaultKey, eventually, fresh_key
from ledger_side import expect_whole_chain, only_entry
from shape import expect_refusal
from vendor_side import books, nothing_reaches_the_vendor

from stack.build import Artifacts

CENTS = 299


@pytest.fixture(scope="module")
def kb(stacks_folder: Path, artifacts: Artifacts, envoy: Path) -> Iterator[Keybrake]:
    """One stack for the tests of this file; repeats of what is in flight are told so soon."""
    plugin = {"in_flight_patience_ms": 300}
    kb = Keybrake.start(stacks_folder / "crash-vendor", artifacts, envoy=envoy, plugin=plugin)
    yield kb
    kb.stop()


def test_a_charge_whose_envoy_died_is_settled_once_by_its_retry(kb: Keybrake) -> None:
    key, name = issue(kb, "5.00"), fresh_key("envoy")
    envoy_dies_before_settlement(kb, key, CENTS, name)
    expect_parts(kb, key, free="2.01", held="2.99")
    # Nobody can know yet that the attempt is lost.
    with nothing_reaches_the_vendor(kb):
        in_use = kb.charge(key, CENTS, idempotency_key=name)
        expect_refusal(in_use, 409, "idempotency_key_in_use", retry="true")

    sweep(kb)
    eventually_parts(kb, key, free="2.01", unknown="2.99")
    entry = only_entry(kb, idempotency_key=name)
    assert (entry["outcome"], entry["attempts"], entry["stripe_charge_id"]) == ("unknown", 1, None)
    with nothing_reaches_the_vendor(kb):
        expect_refusal(kb.charge(key, 202), 402, "spend_cap_exceeded")

    answer = kb.charge(key, CENTS, idempotency_key=name)
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] in [charge["id"] for charge in books(kb, "charges")]
    expect_at_vendor(kb, name, requests=2, executions=1)
    assert [seen["replayed"] for seen in kb.vendor_requests(name)] == [False, True]
    expect_parts(kb, key, free="2.01", settled="2.99")
    entry = only_entry(kb, idempotency_key=name)
    assert (entry["outcome"], entry["attempts"], entry["cost_usd"]) == ("settled", 2, "2.990000")
    assert entry["stripe_charge_id"] == answer.json()["id"]
    # And once more: now it is on record.
    with nothing_reaches_the_vendor(kb):
        assert kb.charge(key, CENTS, idempotency_key=name).json()["id"] == answer.json()["id"]
    expect_whole_chain(kb)


def test_after_the_vendors_window_an_unknown_charge_is_not_forwarded(kb: Keybrake) -> None:
    key, name = issue(kb, "5.00"), fresh_key("window")
    envoy_dies_before_settlement(kb, key, CENTS, name)
    kb.advance(hours=25)
    eventually_parts(kb, key, free="2.01", unknown="2.99")
    with nothing_reaches_the_vendor(kb):
        refused = kb.charge(key, CENTS, idempotency_key=name)
        expect_refusal(refused, 409, "outcome_unknown", kind="api_error")
        other = kb.charge(key, CENTS + 1, idempotency_key=name)
        assert (other.status_code, other.json()["error"]["type"]) == (400, "idempotency_error"), other.text
        expect_refusal(kb.charge(key, 202), 402, "spend_cap_exceeded")
    expect_at_vendor(kb, name, requests=1, executions=1)
    expect_parts(kb, key, free="2.01", unknown="2.99")
    # What is left can be spent.
    assert kb.charge(key, 201).status_code == 200
    expect_parts(kb, key, free="0", settled="2.01", unknown="2.99")


def test_a_vendor_that_dies_after_executing_leaves_an_unknown_that_its_retry_settles(kb: Keybrake) -> None:
    key, name = issue(kb, "5.00"), fresh_key("vendor")
    assert kb.stack.sandbox is not None
    kb.fault({"kind": "delay", "delay_ms": NEVER_MS, "when": "after"}, idempotency_key=name)
    with ThreadPoolExecutor(1) as clients:
        charging = clients.submit(kb.charge, key, CENTS, idempotency_key=name)
        executed(kb, name)
        kill(kb.stack.sandbox.child)
        lost = charging.result()
    expect_refusal(lost, 502, "outcome_unknown", kind="api_error", retry="true")
    expect_parts(kb, key, free="2.01", unknown="2.99")

    # Nothing listens there: the second attempt was certainly not executed, the first still may have been.
    expect_unavailable(kb.charge(key, CENTS, idempotency_key=name))
    expect_parts(kb, key, free="2.01", unknown="2.99")
    assert only_entry(kb, idempotency_key=name)["outcome"] == "unknown"

    kb.stack.sandbox.start()
    assert kb.executions(name) == 1, "the vendor has forgotten what it did"
    # Its certificate is new; Envoy takes that up when it sees the file.
    answer = eventually(lambda: retried(kb, key, name), 15, "the retry")
    assert answer.status_code == 200, answer.text
    assert kb.executions(name) == 1
    expect_parts(kb, key, free="2.01", settled="2.99")
    entry = only_entry(kb, idempotency_key=name)
    assert (entry["outcome"], entry["stripe_charge_id"]) == ("settled", answer.json()["id"])
    assert entry["attempts"] >= 3
    no_open_requests(kb)
    expect_whole_chain(kb)


def retried(kb: Keybrake, key: VaultKey, name: str) -> Optional[httpx.Response]:
    """The answer to a retry; None while the vendor cannot be reached."""
    answer = kb.charge(key, CENTS, idempotency_key=name)
    if answer.status_code == 503:
        expect_unavailable(answer)
        expect_parts(kb, key, free="2.01", unknown="2.99")
        return None
    return answer
