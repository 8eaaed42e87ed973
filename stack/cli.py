"""`python3 -m stack run|up|down|status|env`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Callable, TextIO

from stack import demo
from stack.errors import StackError
from stack.interruption import Interrupted, signals_raise
from stack.local import Options, Stack, down, parts_of, run_dir
from stack.run_folder import RunFolder

EXIT_FAILED = 1
EXIT_NOT_RUNNING = 3
# How long `down` waits for open requests: the longest that one may take, and a little.
DRAIN_PATIENCE_S = 95.0

DESCRIPTION = """\
The local stack: a sandbox vendor, the ledger and Envoy with the filter, on loopback.

Ports, run folder and vendor come from the environment: KEYBRAKE_ENVOY_PORT, KEYBRAKE_STRIPE_PORT,
KEYBRAKE_ENVOY_ADMIN_PORT, KEYBRAKE_LEDGER_PORT, KEYBRAKE_SANDBOX_PORT, KEYBRAKE_RUN_DIR, KEYBRAKE_DATABASE_URL,
KEYBRAKE_RATES_FILE, KEYBRAKE_VENDOR=stripe with STRIPE_SECRET_KEY and STRIPE_UPSTREAM, ENVOY_BIN.
"""


class Paint:
    """Colours: on a terminal only, and not where NO_COLOR is set to anything (no-color.org)."""

    def __init__(self, stream: TextIO) -> None:
        self._on = stream.isatty() and not os.environ.get("NO_COLOR")

    def green(self, text: str) -> str:
        """Went well."""
        return f"\x1b[32m{text}\x1b[0m" if self._on else text

    def red(self, text: str) -> str:
        """Did not."""
        return f"\x1b[31m{text}\x1b[0m" if self._on else text

    def faint(self, text: str) -> str:
        """Beside the point."""
        return f"\x1b[2m{text}\x1b[0m" if self._on else text


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    commands: Mapping[str, Callable[[argparse.Namespace], int]] = {
        "run": _run,
        "up": _up,
        "down": _down,
        "status": _status,
        "env": _env,
    }
    asked = _parser().parse_args(arguments)
    try:
        return commands[asked.command](asked)
    except StackError as error:
        paint = Paint(sys.stderr)
        print(paint.red(f"keybrake: {error.line}"), file=sys.stderr)
        for line in error.log_tail.splitlines():
            print(f"  | {line}", file=sys.stderr)
        return error.exit_code
    except Interrupted:
        print("keybrake: interrupted; everything is ended", file=sys.stderr)
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m stack", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="start, show the main job once, stay until Ctrl-C")
    run.add_argument("--once", action="store_true", help="end after the demo")
    commands.add_parser("up", help="start in the background")
    commands.add_parser("down", help="drain and end what `up` or `run` started")
    commands.add_parser("status", help="what runs")
    commands.add_parser("env", help="print the file to source: keys, URL and more")
    return parser


def _say(line: str) -> None:
    print(f"keybrake: {line}", flush=True)


def _run(asked: argparse.Namespace) -> int:
    stack = Stack(Options.from_environment(os.environ), _say)
    paint = Paint(sys.stdout)
    with signals_raise():
        stack.start()
        try:
            if not _demo(stack, paint):
                return EXIT_FAILED
            if not asked.once:
                _tell_how_to_go_on(stack)
                _stay(stack)
            return 0
        except Interrupted:
            return 0
        finally:
            _end(stack)


def _demo(stack: Stack, paint: Paint) -> bool:
    if not stack.vendor.allows_demo:
        _say("no demo: STRIPE_SECRET_KEY is not a test key (sk_test_…, rk_test_…), so nothing is charged")
        return True

    def tell(step: demo.Step) -> None:
        print(f"  {paint.green('✓')} {step.what}\n      {paint.faint(step.proves)}", flush=True)

    try:
        demo.run(stack, tell)
        return True
    except demo.StepFailed as error:
        print(paint.red(f"  ✗ {error}"), file=sys.stderr, flush=True)
        return False


def _tell_how_to_go_on(stack: Stack) -> None:
    env = stack.folder.path / "env"
    near = os.path.relpath(env)
    _say("the stack stays up; Ctrl-C ends it. In another shell:")
    print(f"  source {shlex.quote(near if not near.startswith('..') else str(env))}")
    print('  curl "$KEYBRAKE_URL/audit?limit=5" -H "Authorization: Bearer $KEYBRAKE_AUDIT_KEY"', flush=True)


def _stay(stack: Stack) -> None:
    """Until a signal comes (as `Interrupted`) or a part ends by itself."""
    while True:
        for child in stack.children():
            if not child.alive():
                raise child.failure("ended by itself")
        time.sleep(0.5)


def _end(stack: Stack) -> None:
    """Drains and ends; a second Ctrl-C skips the wait."""
    try:
        with signals_raise():
            _say("ending: no new requests; waiting for those that are open")
            stack.stop()
    except Interrupted:
        stack.stop(drained=False)
    _say("ended")


def _up(_: argparse.Namespace) -> int:
    stack = Stack(Options.from_environment(os.environ), _say)
    with signals_raise():
        stack.start()
    _say(f"up; `source {shlex.quote(str(stack.folder.path / 'env'))}` for the keys, `make down` ends it")
    return 0


def _down(_: argparse.Namespace) -> int:
    folder = RunFolder(run_dir(os.environ))
    if not folder.path.is_dir() or not down(folder, DRAIN_PATIENCE_S, _say):
        _say("nothing was running")
    return 0


def _status(_: argparse.Namespace) -> int:
    folder = RunFolder(run_dir(os.environ))
    running, dead = parts_of(folder)
    for child in running:
        _say(f"{child.name} runs, pid {child.pid}, log {child.log_file}")
    for name in dead:
        _say(f"{name}: not running, it died; log {folder.log_file(name)}")
    if not running:
        _say("nothing is running")
        return EXIT_NOT_RUNNING
    if dead:
        _say("`make down` and `make up` start the stack anew")
    return EXIT_FAILED if dead else 0


def _env(_: argparse.Namespace) -> int:
    path = run_dir(os.environ) / "env"
    if not path.is_file():
        raise StackError(f"{path} is not there: `make up` or `make run` writes it")
    sys.stdout.write(path.read_text())
    return 0
