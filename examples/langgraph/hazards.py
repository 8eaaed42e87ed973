"""How LangGraph is run here: a graph without a model, its checkpoints in a file, and nobody to talk to."""

from __future__ import annotations

from pathlib import Path

from examples.runner.case import PERIOD, PRICES_USD
from examples.runner.jobs import (
    JobCase,
    Orchestrator,
    fan_out_fails_in_part,
    hazards,
    killed_and_run_again,
    write_fails_once,
)


def _settings(folder: Path) -> dict[str, str]:
    return {"AGENT_CHECKPOINTS": str(folder / "checkpoints.db"), "LANGSMITH_TRACING": "false"}


LANGGRAPH = Orchestrator("langgraph", _settings)


def calls_fail_in_part(case: JobCase) -> None:
    """All calls are of one message. With Keybrake the audit has each of them, under the thread's id."""
    fan_out_fails_in_part(case)
    if case.through_keybrake:
        told = {entry["run_id"] for entry in case.entries()}
        case.expect(told == {f"billing-{PERIOD}"}, f"the audit names the thread, not {told}")


def killed_when_all_are_charged(case: JobCase) -> None:
    """One of the calls is without its answer; the others have theirs."""
    killed_and_run_again(case, charged="".join(PRICES_USD))


HAZARDS = hazards(
    LANGGRAPH,
    ("retry", "RetryPolicy after a failed write", write_fails_once),
    ("fan_out", "parallel calls fail in part, resumed", calls_fail_in_part),
    ("replay", "killed while charging, resumed", killed_when_all_are_charged),
)
