"""One run of a flow, as a process of Metaflow's own command line."""

from __future__ import annotations

import enum
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from stack.polling import eventually

FLOWS = Path(__file__).resolve().parent.parent / "flows"
# A flow of these takes seconds; one that hangs fails its hazard.
DEADLINE_S = 180.0
LOG_TAIL_LINES = 25


class Ended(enum.Enum):
    """How a run is to end."""

    WELL = "well"
    FAILED = "failed"


class ScenarioFailed(Exception):
    """Something did not happen as the scenario needs it, or a flow did not do what its form promises."""


class FlowRun:
    """A started run. Its tasks are its children, in a process group of their own with it."""

    def __init__(self, flow: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        folder.mkdir(parents=True)
        self.log = folder / "log"
        self._run_id = folder / "run-id"
        argv = [sys.executable, str(FLOWS / flow), "--quiet", "--no-pylint", *arguments]
        with self.log.open("wb") as log:
            self._popen = subprocess.Popen(
                [*argv, "--run-id-file", str(self._run_id)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
            )
        self._began = time.monotonic()

    @property
    def run_id(self) -> str:
        """Metaflow's id of the run."""
        return self._run_id.read_text().strip()

    def wait(self, ends: Ended = Ended.WELL) -> float:
        """Waits for its end; the seconds it took. Raises `ScenarioFailed` when it ends otherwise, or not in time."""
        try:
            code = self._popen.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ScenarioFailed(f"a run did not end within {DEADLINE_S:g} s:\n{self._tail()}") from None
        if (code == 0) != (ends is Ended.WELL):
            raise ScenarioFailed(f"a run was to end {ends.value}; its exit code is {code}:\n{self._tail()}")
        return time.monotonic() - self._began

    def kill_task(self, step: str) -> None:
        """SIGKILL to the newest task of this step, as a machine that is taken away does it."""

        def newest() -> Optional[int]:
            found = re.findall(rf"/{step}/\d+ \(pid (\d+)\)\] Task is starting", self.log.read_text(errors="replace"))
            return int(found[-1]) if found else None

        os.kill(eventually(newest, DEADLINE_S, f"a task of step {step}"), signal.SIGKILL)

    def kill(self) -> None:
        """Ends the run and its tasks, when it still runs."""
        if self._popen.poll() is None:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:])
