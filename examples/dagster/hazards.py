"""How Dagster is run here: its instance in a folder, a process for each step, and nobody to talk to."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Optional

from examples.runner.jobs import JobCase, Orchestrator, fan_out_fails_in_part, hazards, write_fails_once
from examples.runner.program import Ended, Program


def _settings(folder: Path) -> dict[str, str]:
    home = folder / "dagster"
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    return {"DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "yes"}


DAGSTER = Orchestrator("dagster", _settings)


def step_process(run: Program, customer: str) -> Optional[int]:
    """The pid of the process that bills this customer, as Dagster's log has it; None before it has begun."""
    started = re.search(rf" - (\d+) - bill\[{customer}\] - STEP_START - ", run.log.read_text(errors="replace"))
    return int(started[1]) if started else None


def step_killed_and_executed_again(case: JobCase) -> None:
    """The process of one step is gone while it charges; somebody executes the run again, from failure."""
    case.answer_late("b")
    run = case.start_job()
    case.until_charged("b")
    pid = case.trial.until(lambda: step_process(run, case.customers["b"]), "the step that bills b")
    os.kill(pid, signal.SIGKILL)
    run.wait(Ended.FAILED)
    case.run()


HAZARDS = hazards(
    DAGSTER,
    ("retry", "RetryPolicy after a failed write", write_fails_once),
    ("fan_out", "map fails in part, from failure", fan_out_fails_in_part),
    ("replay", "step killed, run again from failure", step_killed_and_executed_again),
)
