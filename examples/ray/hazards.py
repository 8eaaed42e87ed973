"""How Ray is run here: a cluster of its own for each run, on this machine's loopback, and what happens to its tasks."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Optional

from examples.runner.jobs import JobCase, Orchestrator, fan_out_fails_in_part, hazards, write_fails_once


def _settings(folder: Path) -> dict[str, str]:
    return {
        "RAY_ADDRESS": "local",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Only the loopback, also on Linux: Ray's switch for it is named after where it is the default.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Workers stay in the process group of the script, so that they end with it whatever state they are in.
        "RAY_process_group_cleanup_enabled": "0",
        # For the token that a cluster makes in its user's home: clusters that start at once must not share it.
        "HOME": str(folder),
    }


RAY = Orchestrator("ray", _settings)


def process_at(task: str, parent: int) -> Optional[int]:
    """The pid of the process under `parent` that works on the Ray task of this name; None when none does."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if Path(f"/proc/{parent}/cmdline").read_bytes().startswith(f"ray::{task}".encode()):
            return parent
        below = [file.read_text().split() for file in Path(f"/proc/{parent}/task").glob("*/children")]
        return next(filter(None, (process_at(task, int(pid)) for pids in below for pid in pids)), None)
    return None


def killed_and_run_by_ray_again(case: JobCase) -> None:
    """SIGKILL to the process that works on a task, as the kernel does it when memory is short."""
    case.answer_late("b")
    run = case.start_job()
    case.until_charged("b")
    os.kill(case.trial.until(lambda: process_at("bill", run.pid), "a process at the task"), signal.SIGKILL)
    run.wait()


HAZARDS = hazards(
    RAY,
    ("retry", "retry_exceptions after a failed write", write_fails_once),
    ("fan_out", "remote tasks fail in part, run again", fan_out_fails_in_part),
    ("replay", "worker killed, Ray runs the task again", killed_and_run_by_ray_again),
)
