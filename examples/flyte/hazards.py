"""How Flyte is run here: its local execution, with a cache on disk, and nobody to talk to."""

from __future__ import annotations

from pathlib import Path

from examples.runner.jobs import (
    Orchestrator,
    fan_out_fails_in_part,
    hazards,
    killed_and_run_again,
    write_fails_once,
)


def _settings(folder: Path) -> dict[str, str]:
    # Flyte's local cache is in the home of its user; it reports errors to its makers unless told not to.
    return {"HOME": str(folder), "FLYTE_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


FLYTE = Orchestrator("flyte", _settings)

HAZARDS = hazards(
    FLYTE,
    ("retry", "retries after a failed write", write_fails_once),
    ("fan_out", "map fails in part, run again", fan_out_fails_in_part),
    ("replay", "run killed, run again from its cache", killed_and_run_again),
)
