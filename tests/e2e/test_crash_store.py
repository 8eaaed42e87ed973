"""A database that cannot be trusted and a clock that runs backwards: not ready, nothing forwarded, and a way back."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from crash import (
    PATIENCE_S,
    expect_at_vendor,
    expect_parts,
    expect_unavailable_in_time,
    issue,
    no_open_requests,
    timed,
)
from harness import Keybrake, eventually, fresh_key
from ledger_side import expect_whole_chain
from vendor_side import nothing_reaches_the_vendor

from stack import StackError
from stack.build import Artifacts
from stack.calls import call

CENTS = 299
# The ledger takes no commands when its clock is further behind its last event than this.
BEHIND_S = 60


@pytest.fixture(scope="module")
def kb(stacks_folder: Path, artifacts: Artifacts, envoy: Path) -> Iterator[Keybrake]:
    """One stack for the tests of this file that put its ledger back in order."""
    kb = Keybrake.start(stacks_folder / "crash-store", artifacts, envoy=envoy)
    yield kb
    kb.stop()


def into_one_file(database: Path) -> None:
    """Moves what the write-ahead log holds into the database itself: else the log would mend the damage."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0


def overwrite_header(database: Path) -> None:
    """The file is no database any more."""
    with open(database, "r+b") as file:
        file.write(b"\xff" * 100)


def cut_in_half(database: Path) -> None:
    """The second half of the file is gone."""
    with open(database, "r+b") as file:
        file.truncate(database.stat().st_size // 2)


@pytest.mark.parametrize("damage", [overwrite_header, cut_in_half])
def test_a_corrupt_database_keeps_the_ledger_from_starting(
    kb: Keybrake, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    key, before, during = issue(kb, "10.00"), fresh_key("before"), fresh_key("during")
    assert kb.charge(key, CENTS, idempotency_key=before).status_code == 200
    no_open_requests(kb)
    ledger, folder = kb.stack.ledger, kb.stack.folder.path
    ledger.stop()
    into_one_file(folder / "keybrake.db")
    for file in folder.glob("keybrake.db*"):
        shutil.copy2(file, tmp_path)

    damage(folder / "keybrake.db")
    with pytest.raises(StackError) as failed:
        ledger.start()
    assert "ended before it was ready" in failed.value.line
    said = [line for line in ledger.child.output().splitlines() if line.startswith("keybrake:")]
    assert len(said) == 1 and "keybrake.db" in said[0], ledger.child.output()
    assert not ledger.child.alive()
    with nothing_reaches_the_vendor(kb):
        expect_unavailable_in_time(timed(kb.charge, key, CENTS, idempotency_key=during))

    for file in folder.glob("keybrake.db*"):
        file.unlink()
    for file in tmp_path.glob("keybrake.db*"):
        shutil.copy2(file, folder)
    ledger.start()
    assert kb.charge(key, CENTS, idempotency_key=during).status_code == 200
    assert kb.charge(key, CENTS, idempotency_key=before).headers["idempotent-replayed"] == "true"
    for name in (before, during):
        expect_at_vendor(kb, name, requests=1, executions=1)
    expect_parts(kb, key, free="4.02", settled="5.98")
    expect_whole_chain(kb)


def set_clock(kb: Keybrake, offset_s: float) -> None:
    """Puts the clock of ledger and sandbox there, also backwards."""
    made = kb.clock.with_suffix(".set")
    made.write_text(str(round(offset_s * 1000)))
    made.replace(kb.clock)


def readiness(kb: Keybrake) -> tuple[int, Any]:
    """What the ledger says of itself."""
    answer = call("GET", f"{kb.stack.ledger_url}/readyz")
    return answer.status, answer.json()


def test_a_clock_far_behind_the_last_event_admits_nothing_until_it_is_right(kb: Keybrake) -> None:
    key, late = issue(kb, "10.00"), fresh_key("late")
    kb.advance(hours=1)
    ahead_s = int(kb.clock.read_text()) / 1000
    assert kb.charge(key, CENTS).status_code == 200

    # A little is no more than what clocks do.
    set_clock(kb, ahead_s - BEHIND_S / 2)
    assert kb.charge(key, CENTS).status_code == 200
    assert readiness(kb) == (200, {"ready": True, "reasons": []})

    set_clock(kb, ahead_s - 2 * BEHIND_S)
    status, said = eventually(
        lambda: found if (found := readiness(kb))[0] == 503 else None, PATIENCE_S, "the ledger is not ready"
    )
    assert status == 503 and not said["ready"]
    assert "behind the last audit event" in said["reasons"][0]
    with nothing_reaches_the_vendor(kb):
        expect_unavailable_in_time(timed(kb.charge, key, CENTS, idempotency_key=late))
    assert "keybrake" in call("GET", f"{kb.stack.ledger_url}/metrics").body.decode()

    set_clock(kb, ahead_s)
    eventually(lambda: readiness(kb)[0] == 200, PATIENCE_S, "the ledger is ready")
    assert kb.charge(key, CENTS, idempotency_key=late).status_code == 200
    expect_at_vendor(kb, late, requests=1, executions=1)
    no_open_requests(kb)
    expect_parts(kb, key, free="1.03", settled="8.97")
    expect_whole_chain(kb)


def test_a_ledger_that_starts_with_its_clock_behind_is_not_ready(kb: Keybrake) -> None:
    key = issue(kb, "10.00")
    kb.advance(hours=1)
    ahead_s = int(kb.clock.read_text()) / 1000
    assert kb.charge(key, CENTS).status_code == 200
    no_open_requests(kb)

    kb.stack.ledger.stop()
    set_clock(kb, ahead_s - 2 * BEHIND_S)
    kb.stack.ledger.child.start()
    kb.stack.ledger.child.ready_line(PATIENCE_S)
    assert readiness(kb)[0] == 503
    with nothing_reaches_the_vendor(kb):
        expect_unavailable_in_time(timed(kb.charge, key, CENTS))

    set_clock(kb, ahead_s)
    eventually(lambda: readiness(kb)[0] == 200, PATIENCE_S, "the ledger is ready")
    assert kb.charge(key, CENTS).status_code == 200
    expect_parts(kb, key, free="4.02", settled="5.98")
