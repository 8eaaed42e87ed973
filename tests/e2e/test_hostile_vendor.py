"""The vendor misbehaves: every line of `hostile/vendor.jsonl`, over HTTP/1.1 and over HTTP/2.

Never a fake success: what cannot be read leaves the money unknown and gives the client an error in the vendor's shape.
Nothing that a vendor writes gets into a log or the audit as anything but a value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hostile_table
import pytest
from harness import Keybrake, VaultKey, eventually, fresh_key
from ledger_side import expect_balance, only_entry
from shape import expect_refusal
from vendor_side import vendor_sees
from ways import WAYS, Way
from wire import Reply

from stack.build import Artifacts

pytestmark = pytest.mark.gate

PLAIN_ID = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Misbehaviour:
    """One line."""

    name: str
    fault: Mapping[str, Any]
    executes: int
    status: int = 502

    def __str__(self) -> str:
        return self.name


LINES = [Misbehaviour(**told) for told in hostile_table.lines(hostile_table.TABLES / "vendor.jsonl")]
BOTH = [way for way in WAYS if way.by == "prefix" and not way.trailers]


@pytest.fixture(scope="module")
def kb(stacks_folder: Path, artifacts: Artifacts, envoy: Path) -> Iterator[Keybrake]:
    """A stack that does not wait long for the vendor."""
    plugin = {"forward_timeout_ms": 1500}
    made = Keybrake.start(stacks_folder / "misbehaves", artifacts, envoy=envoy, plugin=plugin)
    yield made
    made.stop()


def expect_unknown(kb: Keybrake, key: VaultKey, name: str, line: Misbehaviour, reply: Reply) -> None:
    """The client is told so, and the money stays put aside."""
    extra = expect_refusal(reply, line.status, "outcome_unknown", kind="api_error", retry="true")
    assert (extra, reply.headers["keybrake-outcome"]) == ({}, "unknown")
    expect_balance(kb, key, free="0", unknown="2.99", window="lifetime")
    assert only_entry(kb, idempotency_key=name)["outcome"] == "unknown"


def expect_settled(kb: Keybrake, key: VaultKey, name: str) -> None:
    """One execution, one debit, and nothing in the record but plain values."""
    expect_balance(kb, key, free="0", settled="2.99", window="lifetime")
    entry = only_entry(kb, idempotency_key=name)
    assert entry["outcome"] == "settled" and PLAIN_ID.fullmatch(entry["stripe_charge_id"])
    assert entry["vendor_request_id"] is None or PLAIN_ID.fullmatch(entry["vendor_request_id"])
    assert kb.executions(name) == 1


@pytest.mark.parametrize("line", LINES, ids=str)
def test_the_vendor_misbehaves(kb: Keybrake, line: Misbehaviour) -> None:
    told: set[tuple[int, bytes]] = set()
    for way in BOTH:
        key, name = kb.issue(daily_usd_cap=None, lifetime_usd_cap="2.99"), fresh_key()
        kb.fault(line.fault, idempotency_key=name)
        with vendor_sees(kb, requests=1, executions=line.executes):
            reply = way.charge(kb, key, idempotency_key=name)
        if line.status == 200:
            assert (reply.status_code, reply.json()["object"]) == (200, "charge")
            expect_settled(kb, key, name)
            continue
        told.add((reply.status_code, reply.content))
        expect_unknown(kb, key, name, line, reply)
        expect_repeat(kb, way, key, name, line)
    assert len(told) <= 1, "the answer depends on the protocol"


def expect_repeat(kb: Keybrake, way: Way, key: VaultKey, name: str, line: Misbehaviour) -> None:
    """The same idempotency key again: the vendor is asked on the same hold, and what it says settles it."""
    with vendor_sees(kb, requests=1, executions=1 - line.executes):
        again = way.charge(kb, key, idempotency_key=name)
    assert (again.status_code, again.json()["object"]) == (200, "charge")
    expect_settled(kb, key, name)


def test_no_line_of_a_log_was_written_by_the_vendor(kb: Keybrake) -> None:
    """Runs after the lines above: each line of the access log is one object of ours, and none of the others begins with
    the vendor's words."""
    count = 2 * len(LINES)
    log = kb.stack.envoy.access_log
    eventually(lambda: len(log.read_text().splitlines()) >= count, 10, "the access log")
    for text in log.read_text().splitlines():
        entry = json.loads(text, object_pairs_hook=once)
        assert entry["vendor_request_id"] is None or PLAIN_ID.fullmatch(entry["vendor_request_id"]), entry
    for name in ("ledger", "envoy"):
        for text in kb.stack.folder.log_file(name).read_text(errors="replace").splitlines():
            assert not text.lstrip().startswith("INJECTED"), text


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which no name stands twice."""
    found = dict(pairs)
    assert len(found) == len(pairs), pairs
    return found
