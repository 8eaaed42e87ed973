"""How Prefect is run here: a server for each run on this machine, results on disk, and nobody to talk to."""

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
    home = folder / "prefect"
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_LOCAL_STORAGE_PATH": str(home / "results"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
        "DO_NOT_TRACK": "1",
    }


PREFECT = Orchestrator("prefect", _settings)

HAZARDS = hazards(
    PREFECT,
    ("retry", "retries after a failed write", write_fails_once),
    ("fan_out", "submit fails in part, run again", fan_out_fails_in_part),
    ("replay", "run killed, run again from results", killed_and_run_again),
)
