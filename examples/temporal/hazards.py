"""How Temporal's activities are run here: in its `ActivityEnvironment`; `attempts.py` plays the server's part."""

from __future__ import annotations

from examples.runner.case import PERIOD
from examples.runner.jobs import (
    JobCase,
    Orchestrator,
    fan_out_fails_in_part,
    hazards,
    killed_and_run_again,
    write_fails_once,
)
from examples.runner.program import Program
from stack.build import ROOT

TEMPORAL = Orchestrator("temporal")


class TemporalCase(JobCase):
    """Its programs share a history, in which an execution that has ended leaves nothing."""

    def start_job(self) -> Program:
        """Starts an execution, or goes on with the one whose worker is dead."""
        return self.start(
            "python",
            str(ROOT / "examples" / "temporal" / "attempts.py"),
            f"billing_{self.form}",
            self.hazard,
            PERIOD,
            str(self.folder / "history.json"),
        )


HAZARDS = hazards(
    TEMPORAL,
    ("retry", "next attempt after a failed write", write_fails_once),
    ("fan_out", "activities fail in part, run again", fan_out_fails_in_part),
    ("replay", "worker killed, activity redelivered", killed_and_run_again),
    cases=TemporalCase,
)
