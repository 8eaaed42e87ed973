"""Drives `python3 -m stack` from outside, as a user's shell does, and looks at what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional

from stack import Ports
from stack.local import running_children
from stack.polling import eventually
from stack.ports import VARIABLES, is_free
from stack.run_folder import RunFolder

ROOT = Path(__file__).resolve().parent.parent.parent
# A first build is under way in none of these: the session's fixtures have built already.
DEADLINE_S = 90.0


@dataclass(frozen=True)
class Ended:
    """How a launcher ended."""

    code: int
    out: str
    err: str


@dataclass
class Launcher:
    """One user: a run folder, ports, an environment."""

    run_dir: Path
    ports: Ports = field(default_factory=Ports.free)
    more: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """The shell's, with this user's run folder and ports, and `more`."""
        numbers = {variable: str(getattr(self.ports, name)) for name, variable in VARIABLES.items()}
        return {**os.environ, **numbers, "KEYBRAKE_RUN_DIR": str(self.run_dir), **self.more}

    def run(self, *arguments: str) -> Ended:
        """Runs the launcher to its end."""
        with self.begin(*arguments) as running:
            out, err = running.communicate(timeout=DEADLINE_S)
            return Ended(running.returncode, out, err)

    @contextmanager
    def begin(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Starts the launcher; ends it when the block is left, or when it takes longer than any test needs."""
        with subprocess.Popen(
            [sys.executable, "-m", "stack", *arguments],
            cwd=ROOT,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            too_long = threading.Timer(DEADLINE_S, running.terminate)
            too_long.start()
            try:
                yield running
            finally:
                too_long.cancel()
                running.terminate()

    def end_leftovers(self) -> None:
        """Ends what a failed test has left."""
        for child in running_children(RunFolder(self.run_dir)):
            child.kill()
            child.wait(10)

    def leaves_nothing(self) -> bool:
        """No port is held, no pid file is there and no program names the run folder."""
        ports_free = all(is_free(getattr(self.ports, name)) for name in VARIABLES)
        return ports_free and not list(self.run_dir.glob("pids/*.json")) and not programs_naming(self.run_dir)


# What the fixture `launchers` gives.
Launchers = Callable[..., Launcher]


def programs_naming(path: Path) -> list[str]:
    """The command lines of programs that name this path in their arguments or environment."""
    found = []
    needle = os.fsencode(path)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            if folder.name != str(os.getpid()) and needle in command + (folder / "environ").read_bytes():
                found.append(f"{folder.name}: {command.decode(errors='replace')}")
        except OSError:
            continue
    return found


def one_clear_line(ended: Ended) -> str:
    """The line of a failed launcher: the only one on standard error, apart from a quoted log."""
    assert ended.code != 0, ended
    lines = [line for line in ended.err.splitlines() if not line.startswith("  | ")]
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("keybrake: "), lines
    assert "Traceback" not in ended.err
    return lines[0]


def end(running: subprocess.Popen[str], sent: int = signal.SIGTERM) -> Ended:
    """Ends a launcher with a signal and collects it."""
    running.send_signal(sent)
    out, err = running.communicate(timeout=DEADLINE_S)
    return Ended(running.returncode, out, err)


def wait_for_line(running: subprocess.Popen[str], part: str, seen: Optional[list[str]] = None) -> list[str]:
    """Reads the launcher's output up to the line that holds `part`."""
    assert running.stdout is not None
    lines = seen if seen is not None else []
    for line in running.stdout:
        lines.append(line.rstrip("\n"))
        if part in line:
            return lines
    _, err = running.communicate(timeout=DEADLINE_S)
    raise AssertionError(f"ended without {part!r}:\n" + "\n".join(lines) + "\n" + err)


def gone(launcher: Launcher, deadline_s: float = 10.0) -> None:
    """Waits until the launcher has left nothing behind."""
    eventually(launcher.leaves_nothing, deadline_s, f"nothing left of {launcher.run_dir}")
