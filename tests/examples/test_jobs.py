"""`make examples`, whole: real agents and Celery, Stripe's SDK, Envoy, ledger and sandbox; each row of its tables."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from examples.celery.hazards import newest_child
from examples.runner.program import Program
from examples.runner.table import Row, cells
from stack.build import ROOT, build
from stack.polling import eventually
from tests.examples import runs
from tests.examples.runs import programs_in, until_the_stack_is_up

NAMES = ("agent", "celery")
CAP, TRIPPED = "spend_cap_exceeded", "budget_tripped"
# The reasons of what was refused.
REFUSED = {
    "agent_retry": [],
    "agent_fan_out": [TRIPPED, TRIPPED, CAP],
    "agent_replay": [],
    "celery_retry": [],
    "celery_fan_out": [CAP],
    "celery_replay": [],
}


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """What the runner would else build within its own time."""
    build()


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The runner as `make examples` starts it."""
    return runs.start([sys.executable, "-m", "examples.runner", *arguments], **environment)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """The runner's JSON."""
    return runs.report_of(start(*NAMES, "--", "--json"))


@pytest.fixture(scope="module")
def rows(report: dict[str, Any]) -> list[Row]:
    """What each hazard came to."""
    return [runs.row(told) for told in report["rows"]]


def test_every_hazard_holds_and_is_refused_what_it_is_to_be(report: dict[str, Any], rows: list[Row]) -> None:
    assert [row.problems for row in rows] == [[]] * len(REFUSED)
    assert (report["problems"], report["holds"]) == ([], True)
    assert {row.name: row.refused for row in rows} == REFUSED


@pytest.mark.parametrize(("name", "guide"), [("agent", "agents.md"), ("celery", "celery.md")])
def test_the_tables_in_the_documents_are_what_came_out(rows: list[Row], name: str, guide: str) -> None:
    mine = [row for row in rows if row.name.startswith(f"{name}_")]
    table = written_in(ROOT / "docs" / "guides" / guide, "| hazard | due |")
    assert [line[1:] for line in table] == [figures(row)[:4] for row in mine]
    # The others are in this table too; a part of it begins with a link to its guide.
    what, told = "", []
    for line in written_in(ROOT / "README.md", "| what | hazard |"):
        what = line[0] or what
        if what.endswith(f"(docs/guides/{guide})"):
            told.append(line[1:4])
    assert told == [[row.what.partition(": ")[2], *figures(row)[1:3]] for row in mine]


def figures(row: Row) -> list[str]:
    """Due, without, with, refused, as tables have them."""
    return [cell.strip() for cell in cells(row)[1:]]


def written_in(document: Path, head: str) -> Iterator[list[str]]:
    """The cells of each line of the table that begins so."""
    lines = iter(document.read_text().splitlines())
    assert any(line.startswith(head) for line in lines), f"{document} has the table"
    next(lines)
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


# Two workers, one for each form. Its job is run again once it has failed.
ONE_HAZARD = ("celery", "--", "celery_fan_out")


def until_a_worker_is_up(runner: subprocess.Popen[str], folder: Path) -> None:
    """Until one of the two forms' workers has a pool."""
    until_the_stack_is_up(runner, folder)

    def workers() -> bool:
        return sum("celery -A billing" in program for program in programs_in(folder)) > 2

    eventually(workers, 60, "a worker of Celery with a pool")


def test_a_run_that_is_interrupted_again_and_again_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither a program nor a file; and what a scenario would do next is not waited for."""
    with start(*ONE_HAZARD, TMPDIR=str(tmp_path)) as runner:
        until_a_worker_is_up(runner, tmp_path)

        def ended() -> Optional[bool]:
            if runner.poll() is None:
                runner.send_signal(signal.SIGTERM)
            return runner.poll() is not None

        eventually(ended, 60, "the end of the run")
    assert list(tmp_path.iterdir()) == []
    assert programs_in(tmp_path) == []


def test_workers_of_a_run_that_is_killed_end(tmp_path: Path) -> None:
    with start(*ONE_HAZARD, TMPDIR=str(tmp_path)) as runner:
        until_a_worker_is_up(runner, tmp_path)
        runner.kill()
    eventually(lambda: not programs_in(tmp_path), 60, "the end of everything that the run had started")


def test_a_worker_without_a_pool_has_no_child_to_be_killed(tmp_path: Path) -> None:
    alone = Program(["sleep", "600"], {}, tmp_path / "alone")
    parent = Program(["sh", "-c", "sleep 600 & wait"], {}, tmp_path / "parent")
    try:
        assert newest_child(alone) is None
        assert eventually(lambda: newest_child(parent), 10, "a child") > 1
    finally:
        alone.kill()
        parent.kill()
