"""A run of examples as `make` starts it, and what of it is still there."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from examples.runner.referee import Tally
from examples.runner.table import Row
from stack.build import ROOT

DEADLINE_S = 900.0


def start(argv: Sequence[str], **environment: str) -> subprocess.Popen[str]:
    """Starts a runner, in a shell that knows of a real vendor and of another stack."""
    shell = {
        "KEYBRAKE_VENDOR": "stripe",
        "STRIPE_SECRET_KEY": "sk_live_never_used",
        "KEYBRAKE_URL": "http://127.0.0.1:9",
    }
    return subprocess.Popen(
        argv,
        env={**os.environ, **shell, **environment},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def report_of(started: subprocess.Popen[str]) -> dict[str, Any]:
    """The JSON of a runner that was asked for it, once it has ended."""
    with started as runner:
        try:
            said, wrong = runner.communicate(timeout=DEADLINE_S)
        finally:
            if runner.poll() is None:
                runner.terminate()
    assert runner.returncode in (0, 1) and said, wrong
    told: dict[str, Any] = json.loads(said)
    assert (runner.returncode == 0) == told["holds"], "the exit code says whether all of it holds"
    return told


def row(told: Mapping[str, Any]) -> Row:
    """A row of the report as the table's."""
    tallies = {part: Tally(**told[part]) for part in ("due", "without", "with_keybrake")}
    return Row(told["name"], told["what"], refused=told["refused"], problems=told["problems"], **tallies)


def until_the_stack_is_up(runner: subprocess.Popen[str], folder: Path) -> None:
    """Reads what the runner says so far; `folder` is its temporary one."""
    assert runner.stderr is not None
    said = []
    for line in runner.stderr:
        said.append(line)
        if "the stack is up" in line:
            break
    assert list(folder.glob("keybrake-*/run/pids/*.json")), said


def programs_in(folder: Path) -> list[str]:
    """The programs whose command line or environment names this folder, as that of everything that a run with this
    TMPDIR starts does."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            named = command + (process / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in named:
            found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found
