"""How Celery is run here: a real worker, an SQLite file as broker, and what happens to both forms of its tasks."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Optional

from examples.runner.jobs import JobCase, Orchestrator, fan_out_fails_in_part, hazards, write_fails_once
from examples.runner.program import Program
from examples.runner.trial import Trial


def _settings(folder: Path) -> dict[str, str]:
    (folder / "celery" / "results").mkdir(parents=True, exist_ok=True)
    return {"CELERY_FOLDER": str(folder / "celery")}


CELERY = Orchestrator("celery", _settings)


class CeleryCase(JobCase):
    """With a worker, from the first job to the end of the trial."""

    def __init__(self, trial: Trial, hazard: str, orchestrator: Orchestrator, through_keybrake: bool) -> None:
        super().__init__(trial, hazard, orchestrator, through_keybrake)
        # One task at once where the one that is at work is to die.
        at_once = "1" if hazard == "replay" else "3"
        app = f"billing_{self.form}"
        self._worker = self.start("celery", "-A", app, "worker", "--concurrency", at_once, "--loglevel", "INFO")

    def start_job(self) -> Program:
        """Starts it once the worker listens: the two would make the broker's tables at the same time."""

        def is_ready() -> bool:
            self._worker.expect_running()
            return " ready." in self._worker.log.read_text(errors="replace")

        self.trial.until(is_ready, "a worker that is ready")
        return super().start_job()

    def kill_task(self) -> None:
        """SIGKILL to the process that works on a task, as the kernel does it when memory is short."""
        found = self.trial.until(lambda: newest_child(self._worker), "a process of the worker's pool")
        os.kill(found, signal.SIGKILL)


def newest_child(program: Program) -> Optional[int]:
    """The pid of the newest of its children; None while it has none."""
    children = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
    return int(children[-1]) if children else None


def killed_and_redelivered(case: JobCase) -> None:
    """The message was not acknowledged, so Celery gives it to the next process."""
    assert isinstance(case, CeleryCase)
    case.answer_late("b")
    run = case.start_job()
    case.until_charged("b")
    case.kill_task()
    run.wait()


HAZARDS = hazards(
    CELERY,
    ("retry", "autoretry after a failed write", write_fails_once),
    ("fan_out", "group fails in part, sent again", fan_out_fails_in_part),
    ("replay", "worker killed, task redelivered", killed_and_redelivered),
    cases=CeleryCase,
)
