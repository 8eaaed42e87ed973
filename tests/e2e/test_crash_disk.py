"""The disk fails under the ledger: the system calls of its commits give errors, or the ledger dies in them (`strace`
puts that in). What cannot be committed is answered 503 and not forwarded, the ledger ends rather than trust what it has
in mind, and it starts clean."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import httpx
import pytest
from crash import (
    LIFETIME,
    PATIENCE_S,
    expect_at_vendor,
    expect_unavailable,
    issue,
    no_open_requests,
)
from harness import Keybrake, VaultKey, eventually, fresh_key
from ledger_side import expect_whole_chain

from stack.build import Artifacts

CENTS = 100
# A charge of a known key is two commits, and a commit is one fdatasync: of two neighbours one hits a reserve, one an
# outcome.
NTH_SYNC = (7, 8)
# A commit writes a few pages with two calls each.
NTH_WRITE = (41, 44, 47, 50)
MOST_CHARGES = 60

FAULTS = [
    *(("fdatasync", f"error=EIO:when={nth}+") for nth in NTH_SYNC),
    *(("pwrite64", f"error=ENOSPC:when={nth}+") for nth in NTH_WRITE),
    *(("fdatasync", f"signal=KILL:when={nth}") for nth in NTH_SYNC),
    *(("pwrite64", f"signal=KILL:when={nth}") for nth in NTH_WRITE),
]


@pytest.fixture(scope="module")
def kb(stacks_folder: Path, artifacts: Artifacts, envoy: Path) -> Iterator[Keybrake]:
    """One stack for all tests of this file. At the end its whole chain is verified."""
    kb = Keybrake.start(stacks_folder / "crash-disk", artifacts, envoy=envoy, workers=1)
    yield kb
    expect_whole_chain(kb)
    kb.stop()


@contextlib.contextmanager
def failing_disk(kb: Keybrake, call: str, fault: str) -> Iterator[None]:
    """The ledger runs in here with this fault in its write-ahead log, until it has ended."""
    strace = shutil.which("strace")
    assert strace, "strace is missing: install it (Debian package strace)"
    child, log = kb.stack.ledger.child, kb.stack.folder.path / "keybrake.db-wal"
    usual = list(child.argv)
    # -D: the ledger itself stays our child, the tracer is its grandchild and ends with it.
    watched = [strace, "-D", "-f", "-qq", "-o", "/dev/null", "-P", str(log)]
    kb.stack.ledger.stop()
    child.argv = [*watched, "-e", f"trace={call}", "-e", f"inject={call}:{fault}", *usual]
    try:
        kb.stack.ledger.start()
        yield
    finally:
        child.argv = usual
        child.stop(PATIENCE_S)


def known_key(kb: Keybrake) -> VaultKey:
    """A key whose grant the filter has."""
    key = issue(kb, "1000.00")
    assert kb.charge(key, CENTS).status_code == 200
    no_open_requests(kb)
    return key


def charge_until_it_fails(kb: Keybrake, key: VaultKey) -> tuple[list[str], str, httpx.Response]:
    """The keys of the charges that were answered and settled; the key and the answer of the first that was not."""
    fine: list[str] = []
    while len(fine) < MOST_CHARGES:
        name = fresh_key("disk")
        answer = kb.charge(key, CENTS, idempotency_key=name)
        if answer.status_code != 200 or "keybrake-settlement" in answer.headers:
            return fine, name, answer
        fine.append(name)
    raise AssertionError("the fault never struck")


@pytest.mark.parametrize(("call", "fault"), FAULTS)
def test_a_commit_that_fails_forwards_nothing_and_loses_nothing(kb: Keybrake, call: str, fault: str) -> None:
    key = known_key(kb)
    ledger = kb.stack.ledger
    with failing_disk(kb, call, fault):
        fine, struck, answer = charge_until_it_fails(kb, key)
        assert ledger.child.wait(PATIENCE_S), "the ledger goes on with a store that has failed"
        said = [line for line in ledger.child.output().splitlines() if line.startswith("keybrake:")]
        if "KILL" not in fault:
            assert len(said) == 1 and "the store failed" in said[0], ledger.child.output()
    if answer.status_code == 200:
        # Executed before the disk failed; the filter goes on telling the outcome.
        assert answer.headers["keybrake-settlement"] == "pending"
        expect_at_vendor(kb, struck, requests=1, executions=1)
    else:
        expect_unavailable(answer)
        assert kb.vendor_requests(struck) == []

    ledger.start()
    no_open_requests(kb)
    repeated = eventually(lambda: settled_answer(kb, key, struck), PATIENCE_S, "the struck charge, repeated")
    if answer.status_code == 200:
        assert repeated.json()["id"] == answer.json()["id"]
    for name in [*fine, struck]:
        expect_at_vendor(kb, name, requests=1, executions=1)
    balance = kb.balance(key, LIFETIME)
    assert balance.held + balance.unknown == 0
    assert balance.settled * 100 == (len(fine) + 2) * CENTS
    settled = [entry["idempotency_key"] for entry in kb.audit(key_id=key.key_id, outcome="settled")]
    assert set(settled) >= {*fine, struck}


def settled_answer(kb: Keybrake, key: VaultKey, name: str) -> Optional[httpx.Response]:
    """The charge's answer, once there is one."""
    answer = kb.charge(key, CENTS, idempotency_key=name)
    return answer if answer.status_code == 200 else None
