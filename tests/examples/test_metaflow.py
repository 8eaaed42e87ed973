"""`make example-metaflow`, whole: real Metaflow, Stripe's SDK, Envoy, ledger and sandbox; each row of its table."""

from __future__ import annotations

import re
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hazards.scenarios import HAZARDS

from examples.runner.table import cells
from stack.build import ROOT, build
from stack.polling import eventually
from tests.examples import runs
from tests.examples.runs import programs_in, until_the_stack_is_up

PYTHON = ROOT / ".tools" / "examples" / "metaflow" / "bin" / "python"

# Charges without Keybrake, with it, and the reasons of what was refused.
CAP, TRIPPED = "spend_cap_exceeded", "budget_tripped"
EXPECTED: dict[str, tuple[int, int, list[str]]] = {
    "retry": (4, 3, []),
    "fan_out_one": (3, 3, [CAP]),
    "fan_out_all": (3, 3, [CAP, CAP, CAP]),
    "fan_out_braked": (3, 3, [TRIPPED, TRIPPED, CAP]),
    "resume": (5, 3, []),
    "resume_later": (5, 3, []),
    "killed": (5, 3, []),
    "partial": (4, 3, []),
    "overlap": (6, 3, []),
    "artifact": (5, 3, [CAP, "vault_key_expired"]),
    "artifact_kept_out": (5, 3, []),
    "unreachable": (5, 3, []),
    "unchanged": (10, 6, []),
}
# Five seconds after a branch has failed Metaflow kills the others. On a very slow machine one of these is therefore
# killed after it has charged and before that is written down, and charges once more without Keybrake,
MAY_CHARGE_MORE = {"partial"}
# or one of these is killed before it is refused.
MAY_BE_REFUSED_LESS = {"fan_out_all", "fan_out_braked"}


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """What the runner would else build within its own time."""
    build()


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The runner as `make example-metaflow` starts it."""
    path = f"{ROOT / 'examples' / 'metaflow'}:{ROOT}"
    return runs.start([str(PYTHON), "-m", "hazards", *arguments], PYTHONPATH=path, **environment)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """The runner's JSON."""
    return runs.report_of(start("--json"))


@pytest.mark.parametrize("name", [hazard.name for hazard in HAZARDS])
def test_a_hazard_costs_nothing_more_with_keybrake(report: dict[str, Any], name: str) -> None:
    row = next(row for row in report["rows"] if row["name"] == name)
    assert row["problems"] == []
    charges_without, charges_with, refused = EXPECTED[name]
    assert row["with_keybrake"] == row["due"]
    assert row["with_keybrake"]["charges"] == charges_with
    assert row["without"]["cents"] > row["due"]["cents"]
    if name in MAY_CHARGE_MORE:
        assert row["without"]["charges"] >= charges_without
    else:
        assert row["without"]["charges"] == charges_without
    if name in MAY_BE_REFUSED_LESS:
        assert row["refused"] and not Counter(row["refused"]) - Counter(refused), row["refused"]
    else:
        assert row["refused"] == sorted(refused)


@pytest.mark.parametrize("document", ["README.md", "docs/guides/README.md"])
def test_the_table_in_the_documents_is_what_came_out(report: dict[str, Any], document: str) -> None:
    text = (ROOT / document).read_text()
    for told in report["rows"]:
        row = runs.row(told)
        written = [re.split(r" {2,}", line) for line in text.splitlines() if line.startswith(row.what)]
        came = [cell.strip() for cell in cells(row)]
        charges_without, _, refused = EXPECTED[row.name]
        if row.name in MAY_CHARGE_MORE and row.without.charges != charges_without:
            came[2] = written[0][2]
        if row.name in MAY_BE_REFUSED_LESS and len(row.refused) != len(refused):
            came[4] = written[0][4]
        assert written == [came], document


def test_ledger_and_vendor_agree_to_the_cent_over_all_of_it(report: dict[str, Any]) -> None:
    assert report["problems"] == []
    assert report["holds"]


def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither a program nor a file."""
    with start("resume", TMPDIR=str(tmp_path)) as runner:
        until_the_stack_is_up(runner, tmp_path)
        runner.send_signal(signal.SIGTERM)
        _, wrong = runner.communicate(timeout=60)
    assert (runner.returncode, "interrupted" in wrong) == (1, True), wrong
    assert list(tmp_path.iterdir()) == []
    assert programs_in(tmp_path) == []


def test_the_stack_of_a_run_that_is_killed_ends(tmp_path: Path) -> None:
    with start("resume", TMPDIR=str(tmp_path)) as runner:
        until_the_stack_is_up(runner, tmp_path)
        assert any("keybrake serve" in program for program in programs_in(tmp_path))
        runner.kill()
    eventually(lambda: not programs_in(tmp_path), 60, "the end of everything that the run had started")
