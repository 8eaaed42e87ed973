"""Playing hazards: what goes wrong with one does not end the others."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from examples.runner.case import Case
from examples.runner.play import Hazard, Played
from examples.runner.program import Program, ScenarioFailed
from examples.runner.trial import Trial
from stack.calls import call
from stack.interruption import SIGNALS, Interrupted, first_signal_raises
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
