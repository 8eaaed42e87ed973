"""Ends the programs of stacks whose user is gone, even by SIGKILL: `python3 -m stack.watchdog FOLDER`.

Standard input is a pipe that its user holds open. When it closes, every program that a pid file under that folder
names is ended, with its process group: each of them leads one. Pids that now belong to somebody else are left alone
(`Child.found`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from stack.build import ROOT
from stack.child import Child
from stack.interruption import SIGNALS


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[None]:
    """While this is entered, a watchdog looks after the stacks under this folder."""
    argv = [sys.executable, "-m", "stack.watchdog", str(folder)]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True):
        yield


def main(folder: Path) -> None:
    """Waits for the end of its user, then ends what is left."""
    for stopped in SIGNALS:
        signal.signal(stopped, signal.SIG_IGN)
    sys.stdin.buffer.read()
    for file in folder.glob("**/pids/*.json"):
        child = Child.found(file.stem, file, file.with_suffix(".log"))
        if child is not None and child.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
