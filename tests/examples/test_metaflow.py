"""`make example-metaflow`, whole: real Metaflow, Stripe's SDK, Envoy, ledger and sandbox; each row of its table."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hazards.scenarios import HAZARDS

from examples.runner.referee import Tally
from examples.runner.table import Row, cells
from stack.build import ROOT, build
from stack.polling import eventually

PYTHON = ROOT / ".tools" / "examples" / "metaflow" / "bin" / "python"
DEADLINE_S = 900.0

# Charges without Keybrake, with it, and the reasons of what was refused. Five seconds after a branch has failed
# Metaflow kills the others: on a very slow machine one may charge once more without Keybrake, or be refused nothing.
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


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """What the runner would else build within its own time."""
    build()


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The runner as `make` starts it, in a shell that knows of a real vendor and of another stack."""
    shell = {
        "KEYBRAKE_VENDOR": "stripe",
        "STRIPE_SECRET_KEY": "sk_live_never_used",
        "KEYBRAKE_URL": "http://127.0.0.1:9",
    }
    return subprocess.Popen(
        [PYTHON, "-m", "hazards", *arguments],
        env={**os.environ, **shell, "PYTHONPATH": f"{ROOT / 'examples' / 'metaflow'}:{ROOT}", **environment},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def report() -> Iterator[dict[str, Any]]:
    """The runner's JSON."""
    with start("--json") as runner:
        try:
            said, wrong = runner.communicate(timeout=DEADLINE_S)
        finally:
            if runner.poll() is None:
                runner.terminate()
    assert runner.returncode in (0, 1), wrong
    told: dict[str, Any] = json.loads(said)
    assert (runner.returncode == 0) == told["holds"], "the exit code says whether all of it holds"
    yield told


@pytest.mark.parametrize("name", [hazard.name for hazard in HAZARDS])
def test_a_hazard_costs_nothing_more_with_keybrake(report: dict[str, Any], name: str) -> None:
    row = next(row for row in report["rows"] if row["name"] == name)
    assert row["problems"] == []
    charges_without, charges_with, refused = EXPECTED[name]
    assert row["with_keybrake"] == row["due"]
    assert row["with_keybrake"]["charges"] == charges_with
    assert row["without"]["charges"] >= charges_without
    assert row["without"]["cents"] > row["due"]["cents"]
    assert bool(row["refused"]) == bool(refused)
    assert not Counter(row["refused"]) - Counter(refused), row["refused"]


@pytest.mark.parametrize("document", ["README.md", "docs/guides/README.md"])
def test_the_table_in_the_documents_is_what_came_out(report: dict[str, Any], document: str) -> None:
    text = (ROOT / document).read_text()
    for told in report["rows"]:
        tallies = {part: Tally(**told[part]) for part in ("due", "without", "with_keybrake")}
        row = Row(told["name"], told["what"], refused=told["refused"], problems=told["problems"], **tallies)
        written = [re.split(r" {2,}", line) for line in text.splitlines() if line.startswith(row.what)]
        came = [cell.strip() for cell in cells(row)]
        charges_without, _, refused = EXPECTED[row.name]
        if (row.without.charges, row.refused) != (charges_without, refused):
            came[2], came[4] = written[0][2], written[0][4]
        assert written == [came], document


def test_ledger_and_vendor_agree_to_the_cent_over_all_of_it(report: dict[str, Any]) -> None:
    assert report["problems"] == []
    assert report["holds"]


def until_the_stack_is_up(runner: subprocess.Popen[str], folder: Path) -> None:
    """Reads what the runner says so far."""
    assert runner.stderr is not None
    said = []
    for line in runner.stderr:
        said.append(line)
        if "the stack is up" in line:
            break
    assert list(folder.glob("keybrake-metaflow-*/run/pids/*.json")), said


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
    # The flows that were at work go on until they find nobody.
    eventually(lambda: not programs_in(tmp_path), 60, "the end of everything that the run had started")


def programs_in(folder: Path) -> list[str]:
    """The programs whose command line or environment names this folder, as that of everything that the run starts does
    (TMPDIR)."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            named = command + (process / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in named:
            found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found
