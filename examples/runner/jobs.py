"""How a job of an orchestrator is run in one form, and the hazards that are the same in several of them.

An orchestrator's folder has `jobs/billing_unsafe.py` and `jobs/billing_safe.py`, which end with 0 when everybody is
billed, and `hazards.py`, which says how they are started and what happens to them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Callable

from examples.runner.case import PERIOD, Case
from examples.runner.play import Hazard
from examples.runner.program import Ended, Program
from examples.runner.trial import Trial
from stack.build import ROOT


@dataclasses.dataclass(frozen=True)
class Orchestrator:
    """A folder under `examples`, and what of its own its programs need in the environment."""

    name: str
    settings: Callable[[Path], dict[str, str]] = lambda _: {}

    @property
    def bin(self) -> Path:
        """Where `make` installed it."""
        return ROOT / ".tools" / "examples" / self.name / "bin"

    @property
    def jobs(self) -> Path:
        """What a user copies."""
        return ROOT / "examples" / self.name / "jobs"


class JobCase(Case):
    """One form of a job. All its programs share one vault key, unless its folder says otherwise, or the account's
    secret."""

    def __init__(self, trial: Trial, hazard: str, orchestrator: Orchestrator, through_keybrake: bool) -> None:
        self.form = "safe" if through_keybrake else "unsafe"
        super().__init__(trial, f"{orchestrator.name}_{hazard}_{self.form}")
        self.hazard = hazard
        self.orchestrator = orchestrator
        self.through_keybrake = through_keybrake
        self._programs = 0
        self._access = self._keybrake() if through_keybrake else trial.direct_environment()

    def _keybrake(self) -> dict[str, str]:
        return {"KEYBRAKE_URL": self.trial.stack.url, "VAULT_KEY": self.issue()}

    def start(self, program: str, *arguments: str, **environment: str) -> Program:
        """Starts a program that the orchestrator's environment has."""
        self._programs += 1
        everything = {
            **self.trial.environment(),
            **self.books_environment(),
            **self._access,
            **self.orchestrator.settings(self.folder),
            **environment,
        }
        path = [everything["PYTHONPATH"], str(self.orchestrator.jobs)]
        everything["PYTHONPATH"] = ":".join(path)
        argv = [str(self.orchestrator.bin / program), *arguments]
        started = Program(argv, everything, self.folder / f"program-{self._programs}")
        self.trial.kept(started)
        return started

    def start_job(self) -> Program:
        """Starts the job, which is told the hazard and the period."""
        return self.start("python", str(self.orchestrator.jobs / f"billing_{self.form}.py"), self.hazard, PERIOD)

    def run(self, ends: Ended = Ended.WELL) -> None:
        """Runs it to its end."""
        self.start_job().wait(ends)

    def entries(self) -> list[dict[str, Any]]:
        """The audit of this case's customers, newest first."""
        mine = self.customers.values()
        return [one for one in self.trial.audit_entries() if (one["params"] or {}).get("customer") in mine]


def write_fails_once(case: JobCase) -> None:
    """The orchestrator tries the task again by itself."""
    case.fail_next_write("b")
    case.run()


def fan_out_fails_in_part(case: JobCase) -> None:
    """One write fails, and one price is a hundred times too high. The price is mended, and all of it is run again."""
    case.fail_next_write("b")
    case.price_list_in_cents("c")
    case.run(Ended.FAILED)
    if case.through_keybrake:
        case.expect(not case.charges("c"), "nothing is charged to c, whose price is wrong")
    case.price_list_mended()
    case.run()


def killed_and_run_again(case: JobCase, charged: str = "b") -> None:
    """The program is gone while it charges b, and these are charged; somebody starts it again, with what it
    remembers."""
    case.answer_late("b")
    run = case.start_job()
    for letter in charged:
        case.until_charged(letter)
    run.kill()
    case.run()


def hazards(
    orchestrator: Orchestrator,
    *rows: tuple[str, str, Callable[[JobCase], None]],
    cases: Callable[[Trial, str, Orchestrator, bool], JobCase] = JobCase,
) -> tuple[Hazard[JobCase], ...]:
    """Rows of the table from (hazard, what the table says, scenario); `cases` makes a form's case."""

    def hazard(name: str, what: str, scenario: Callable[[JobCase], None]) -> Hazard[JobCase]:
        return Hazard(
            f"{orchestrator.name}_{name}",
            f"{orchestrator.name}: {what}",
            lambda trial, through_keybrake: cases(trial, name, orchestrator, through_keybrake),
            scenario,
        )

    return tuple(hazard(*row) for row in rows)
