"""One started program: its pid file, its log, its end.

Only programs that the stack started are ever signalled: a pid file names the pid and the moment that pid began, and
both must fit.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Callable, Optional

from stack.errors import StackError
from stack.interruption import signals_held
from stack.polling import INTERVAL_S, Found, eventually

LOG_TAIL_LINES = 12
KILL_WAIT_S = 10.0


class Child:
    """A program of the stack, started here or found through its pid file."""

    def __init__(
        self,
        name: str,
        argv: Sequence[object],
        *,
        pid_file: Path,
        log_file: Path,
        environment: Optional[Mapping[str, str]] = None,
        note: str = "",
    ) -> None:
        self.name = name
        self.argv = [str(part) for part in argv]
        self.pid_file = pid_file
        self.log_file = log_file
        self.environment = dict(environment or {})
        # What somebody who finds it through its pid file has to know.
        self.note = note
        self.pid: Optional[int] = None
        self._began: Optional[str] = None
        self._popen: Optional[subprocess.Popen[bytes]] = None
        self._log_start = 0

    @classmethod
    def found(cls, name: str, pid_file: Path, log_file: Path) -> Optional[Child]:
        """The running program behind this pid file; None when there is none. A stale file is removed."""
        child = cls.noted(name, pid_file, log_file)
        if child is None:
            pid_file.unlink(missing_ok=True)
        return child

    @classmethod
    def noted(cls, name: str, pid_file: Path, log_file: Path) -> Optional[Child]:
        """The same, and a stale file stays."""
        try:
            noted = json.loads(pid_file.read_text())
            pid, began, note = int(noted["pid"]), str(noted["began"]), str(noted["note"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if pid <= 0 or began_at(pid) != began:
            return None
        child = cls(name, [], pid_file=pid_file, log_file=log_file, note=note)
        child.pid, child._began = pid, began
        return child

    def start(self) -> None:
        """Starts the program in a session of its own, so that a Ctrl-C reaches the launcher alone."""
        if self.alive():
            raise StackError(f"{self.name} is running already, pid {self.pid}")
        self._log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
        with open(self.log_file, "ab", opener=_private) as log, signals_held():
            self._popen = self._spawn(log)
            self.pid = self._popen.pid
            self._began = write_pid_file(self.pid_file, self.pid, self.note)

    def _spawn(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
                umask=0o077,
            )
        except OSError as error:
            raise StackError(f"{self.name} cannot be started: {self.argv[0]}: {error.strerror}") from error

    def alive(self) -> bool:
        """Whether it runs (a zombie does not)."""
        if self._popen is not None:
            return self._popen.poll() is None
        return self.pid is not None and began_at(self.pid) == self._began

    def kill(self, sent: int = signal.SIGKILL) -> None:
        """Sends a signal, if it still runs."""
        if self.pid is not None and self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sent)

    def wait(self, deadline_s: float) -> bool:
        """Waits for its end; whether it came in time."""
        ends = time.monotonic() + deadline_s
        while self.alive():
            if time.monotonic() >= ends:
                return False
            time.sleep(INTERVAL_S)
        return True

    def stop(self, patience_s: float) -> None:
        """SIGTERM, and SIGKILL when that takes longer than `patience_s`. Removes the pid file."""
        self.kill(signal.SIGTERM)
        if not self.wait(patience_s):
            self.kill(signal.SIGKILL)
            self.wait(KILL_WAIT_S)
        self.pid_file.unlink(missing_ok=True)

    def output(self) -> str:
        """What it wrote since its start."""
        try:
            with open(self.log_file, "rb") as log:
                log.seek(self._log_start)
                return log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def ready_line(self, deadline_s: float) -> Mapping[str, Any]:
        """The JSON line with `"ready": true` that it prints once it serves. Raises `StackError`."""
        return self.until(self._find_ready_line, deadline_s, "its ready line")

    def until(self, probe: Callable[[], Optional[Found]], deadline_s: float, what: str) -> Found:
        """Polls like `eventually`, but gives up at once when the program ends. Raises `StackError`."""

        def watched() -> Optional[Found]:
            running = self.alive()
            found = probe()
            if not found and not running:
                raise self.failure("ended before it was ready")
            return found

        try:
            return eventually(watched, deadline_s, what)
        except TimeoutError:
            raise self.failure(f"was not ready within {deadline_s:g} s ({what})") from None

    def failure(self, what: str) -> StackError:
        """An error about this program, with the last lines of its log."""
        tail = "\n".join(self.output().strip().splitlines()[-LOG_TAIL_LINES:])
        return StackError(f"{self.name} {what}; its log is {self.log_file}", tail)

    def _find_ready_line(self) -> Optional[Mapping[str, Any]]:
        for line in self.output().splitlines():
            if line.startswith("{") and '"ready"' in line:
                try:
                    said = json.loads(line)
                except ValueError:
                    continue
                if isinstance(said, dict) and said.get("ready") is True:
                    return said
        return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def write_pid_file(file: Path, pid: int, note: str = "") -> Optional[str]:
    """Writes what `Child.found` reads; when the program began."""
    began = began_at(pid)
    file.write_text(json.dumps({"pid": pid, "began": began, "note": note}))
    return began


def began_at(pid: int) -> Optional[str]:
    """When the program behind `pid` began, as the system writes it; None when there is none (a zombie is none)."""
    try:
        # The name in parentheses may hold anything; what follows it is: state, then 18 fields, then the start time.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (FileNotFoundError, ProcessLookupError, IndexError):
        if Path("/proc/self").exists():
            return None
    asked = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None
