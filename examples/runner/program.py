"""One program of an example, such as a run, a worker or an agent, as a process."""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from stack.child import write_pid_file
from stack.interruption import signals_held

# A job of these takes seconds; one that hangs fails its hazard.
DEADLINE_S = 180.0
LOG_TAIL_LINES = 25


class Ended(enum.Enum):
    """How a program is to end."""

    WELL = "well"
    FAILED = "failed"


class ScenarioFailed(Exception):
    """Something did not happen as the scenario needs it, or a job did not do what its form promises."""


class Program:
    """A started program. Its children are in a process group of their own with it, which `stack.watchdog` ends should
    the runner be killed."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        (folder / "pids").mkdir(parents=True, exist_ok=True)
        self.log = folder / "log"
        with self.log.open("wb") as log, contextlib.ExitStack() as otherwise:
            with signals_held():
                self._popen = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=dict(environment),
                    cwd=folder,
                    start_new_session=True,
                )
                otherwise.callback(self.kill)
                write_pid_file(folder / "pids" / "program.json", self._popen.pid)
            otherwise.pop_all()
        self._began = time.monotonic()

    @property
    def pid(self) -> int:
        """Of the program itself."""
        return self._popen.pid

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

    def expect_running(self) -> None:
        """Raises `ScenarioFailed` when it has ended."""
        code = self._popen.poll()
        if code is not None:
            raise ScenarioFailed(f"a program was to run on; its exit code is {code}:\n{self._tail()}")

    def kill(self) -> None:
        """SIGKILL to it and its children, when it still runs."""
        if self._popen.poll() is None:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"  | {line}" for line in lines[-LOG_TAIL_LINES:])
