"""Ends what a test run started when the run itself is gone, even by SIGKILL.

Started by `conftest.py` with a pipe as standard input and a folder as argument. When the pipe closes, every program
that a pid file under that folder names is ended; pids that now belong to somebody else are left alone (`Child.found`).
"""

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from stack.child import Child  # noqa: E402

for stopped in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(stopped, signal.SIG_IGN)
sys.stdin.buffer.read()
for file in Path(sys.argv[1]).glob("**/pids/*.json"):
    child = Child.found(file.stem, file, file.with_suffix(".log"))
    if child is not None:
        child.kill(signal.SIGKILL)
