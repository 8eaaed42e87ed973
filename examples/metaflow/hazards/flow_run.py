"""One run of a flow, as a process of Metaflow's own command line."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from examples.runner.program import DEADLINE_S, Program
from stack.polling import eventually

FLOWS = Path(__file__).resolve().parent.parent / "flows"


class FlowRun(Program):
    """A started run. Its tasks are its children."""

    def __init__(self, flow: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self._run_id = folder / "run-id"
        argv = [sys.executable, str(FLOWS / flow), "--quiet", "--no-pylint", *arguments]
        super().__init__([*argv, "--run-id-file", str(self._run_id)], environment, folder)

    @property
    def run_id(self) -> str:
        """Metaflow's id of the run."""
        return self._run_id.read_text().strip()

    def kill_task(self, step: str) -> None:
        """SIGKILL to the newest task of this step, as a machine that is taken away does it."""

        def newest() -> Optional[int]:
            found = re.findall(rf"/{step}/\d+ \(pid (\d+)\)\] Task is starting", self.log.read_text(errors="replace"))
            return int(found[-1]) if found else None

        os.kill(eventually(newest, DEADLINE_S, f"a task of step {step}"), signal.SIGKILL)
