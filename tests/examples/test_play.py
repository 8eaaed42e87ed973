"""Playing hazards: what goes wrong with one does not end the others."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from examples.ray.hazards import RAY, killed_and_run_by_ray_again
from examples.runner.case import Case
from examples.runner.jobs import JobCase
from examples.runner.play import Hazard, Played
from examples.runner.program import Program, ScenarioFailed
from examples.runner.trial import Trial
from stack.calls import call
from stack.child import write_pid_file
from stack.interruption import SIGNALS, Interrupted, first_signal_raises, signals_held
from stack.ports import Ports


def test_a_part_that_nobody_answers_is_a_problem_of_its_row(tmp_path: Path) -> None:
    port = Ports.free().envoy

    def asks_nobody(case: Case) -> None:
        call("GET", f"http://127.0.0.1:{port}/{case.name}")

    hazard = Hazard("gone", "nobody answers", lambda trial, safe: Case(trial, f"gone_{safe}"), asks_nobody)
    played = Played(Trial(tmp_path), hazard)
    assert played.tried(played.safe, lambda: hazard.scenario(played.safe)) is None
    [problem] = played.problems
    assert problem.startswith(f"gone_True: GET http://127.0.0.1:{port}/gone_True: ")


def test_a_scenario_of_a_trial_that_ends_does_not_wait_for_a_charge(tmp_path: Path) -> None:
    case = Case(Trial(tmp_path), "late")
    case.trial.kill_programs()
    with pytest.raises(ScenarioFailed, match="the trial ends"):
        case.until_charged("b")


def test_a_program_of_a_trial_that_ends_is_ended(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    trial.kill_programs()
    late = Program(["sleep", "600"], {}, tmp_path / "late")
    try:
        with pytest.raises(ScenarioFailed, match="the trial ends"):
            trial.kept(late)
        assert not Path(f"/proc/{late.pid}").exists()
    finally:
        late.kill()


def test_only_the_first_signal_interrupts() -> None:
    before = [signal.getsignal(sent) for sent in SIGNALS]
    with first_signal_raises():
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)
        for sent in SIGNALS:
            signal.raise_signal(sent)
    assert [signal.getsignal(sent) for sent in SIGNALS] == before


def test_a_program_that_begins_when_a_signal_comes_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def interrupted(file: Path, pid: int) -> None:
        begun.append(pid)
        signal.raise_signal(signal.SIGTERM)
        write_pid_file(file, pid)

    monkeypatch.setattr("examples.runner.program.write_pid_file", interrupted)
    with first_signal_raises(), pytest.raises(Interrupted):
        Program(["sleep", "600"], {}, tmp_path / "begun")
    [pid] = begun
    # It is known to the watchdog, and gone all the same.
    assert (tmp_path / "begun" / "pids" / "program.json").exists()
    assert not Path(f"/proc/{pid}").exists()


def test_another_thread_holds_no_signal_back() -> None:
    holds, ends = threading.Event(), threading.Event()

    def hold() -> None:
        with signals_held():
            holds.set()
            ends.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert holds.wait(60)
        with first_signal_raises(), pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)
    finally:
        ends.set()
        holder.join()


class Ending(JobCase):
    """A job of Ray's whose trial ends before the process at its task is found."""

    def _keybrake(self) -> dict[str, str]:
        return {}

    def answer_late(self, letter: str) -> None:
        """Nobody is charged here."""

    def start_job(self) -> Program:
        """One that works on no task."""
        job = Program(["sleep", "600"], {}, self.folder / "job")
        self.trial.kept(job)
        return job

    def until_charged(self, letter: str) -> None:  # noqa: ARG002 (that of the case)
        """Meanwhile somebody interrupts."""
        self.trial.kill_programs()


def test_a_scenario_of_a_trial_that_ends_does_not_wait_for_rays_process(tmp_path: Path) -> None:
    case = Ending(Trial(tmp_path), "replay", RAY, True)
    with pytest.raises(ScenarioFailed, match="the trial ends"):
        killed_and_run_by_ray_again(case)
