"""How ZenML is run here: its local stack with a database and artifacts on disk, and nobody to talk to."""

from __future__ import annotations

from pathlib import Path

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


def _settings(folder: Path) -> dict[str, str]:
    return {
        "ZENML_CONFIG_PATH": str(folder / "zenml"),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_ENABLE_RICH_TRACEBACK": "false",
    }


ZENML = Orchestrator("zenml", _settings)


class ZenmlCase(JobCase):
    """With one step at once where the run is to die in one."""

    def start_job(self) -> Program:
        """Starts a run of the pipeline."""
        at_once = "1" if self.hazard == "replay" else "3"
        job = self.orchestrator.jobs / f"billing_{self.form}.py"
        return self.start("python", str(job), self.hazard, PERIOD, ZENML_DYNAMIC_PIPELINE_WORKER_COUNT=at_once)


HAZARDS = hazards(
    ZENML,
    ("retry", "retry after a failed write", write_fails_once),
    ("fan_out", "steps fail in part, run again", fan_out_fails_in_part),
    ("replay", "run killed, run again from its cache", killed_and_run_again),
    cases=ZenmlCase,
)
