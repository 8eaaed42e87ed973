"""Plays hazards, both forms of each, on one stack, and tells what they came to."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Callable, Generic, Optional, TypeVar

from examples.runner import referee
from examples.runner.case import Case
from examples.runner.program import ScenarioFailed
from examples.runner.referee import Tally
from examples.runner.table import Row, lines
from examples.runner.trial import Trial
from stack import StackError
from stack.calls import NoAnswer
from stack.interruption import Interrupted, first_signal_raises, signals_held
from stack.watchdog import watched

# A job mostly starts Python; two at once for each core keep it busy.
AT_ONCE = 2 * (os.cpu_count() or 1)
# Past the 24 hours for which Stripe knows an idempotency key, and past the end of every vault key.
LATER_HOURS = 40 * 24

Later = Callable[[], None]
AnyCase = TypeVar("AnyCase", bound=Case)


@dataclasses.dataclass(frozen=True)
class Hazard(Generic[AnyCase]):
    """One row of the table."""

    name: str
    what: str
    # The case of one form; the second argument says whether through Keybrake or straight to the vendor.
    case: Callable[[Trial, bool], AnyCase]
    # What happens to both forms, and what happens when much time has passed.
    scenario: Callable[[AnyCase], Optional[Later]]


class Played:
    """A hazard with its two cases, and what went wrong while it was played."""

    def __init__(self, trial: Trial, hazard: Hazard[Any]) -> None:
        self.hazard = hazard
        self.unsafe = hazard.case(trial, False)
        self.safe = hazard.case(trial, True)
        self.problems: list[str] = []

    def tried(self, case: Case, part: Callable[[], Optional[Later]]) -> Optional[Later]:
        """What this part of the scenario gives; None also when it fails, which is then among the problems."""
        try:
            return part()
        except (ScenarioFailed, TimeoutError, StackError, NoAnswer) as error:
            self.problems.append(f"{case.name}: {error}")
            return None

    def row(self, entries: Mapping[str, list[Mapping[str, Any]]]) -> Row:
        """What it came to; `entries` are the audit's, by customer."""
        without, with_keybrake = self.unsafe.charges(), self.safe.charges()
        own = [entry for customer in self.safe.customers.values() for entry in entries.get(customer, [])]
        unsafe = referee.unsafe_problems(without, self.unsafe.due())
        safe = referee.safe_problems(with_keybrake, self.safe.due(), own)
        return Row(
            name=self.hazard.name,
            what=self.hazard.what,
            due=Tally.of_due(self.safe.due()),
            without=Tally.of(without),
            with_keybrake=Tally.of(with_keybrake),
            refused=referee.refusals(own),
            problems=[
                *self.problems,
                *(f"{self.unsafe.name}: {problem}" for problem in unsafe),
                *(f"{self.safe.name}: {problem}" for problem in safe),
            ],
        )


def play(trial: Trial, hazards: list[Hazard[Any]], say: Callable[[str], None]) -> tuple[list[Row], list[str]]:
    """Runs all of it; the rows, and what does not add up over all of them."""
    played = [Played(trial, hazard) for hazard in hazards]
    parts = [(one, case) for one in played for case in (one.unsafe, one.safe)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            first = [pool.submit(_first, one, case, say) for one, case in parts]
            later = [after for done in as_completed(first) if (after := done.result()) is not None]
            if later:
                trial.clock.advance(hours=LATER_HOURS)
                say(f"the clock is moved on by {LATER_HOURS // 24} days")
            for done in as_completed([pool.submit(one.tried, case, after) for one, case, after in later]):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            trial.kill_programs()
            raise
    entries = referee.by_customer(trial.audit_entries())
    through_keybrake = [charge for one in played for charge in one.safe.charges()]
    return [one.row(entries) for one in played], referee.balance_problems(trial.vault_keys(), through_keybrake)


def _first(one: Played, case: Case, say: Callable[[str], None]) -> Optional[tuple[Played, Case, Later]]:
    def scenario() -> Optional[Later]:
        began = time.monotonic()
        later: Optional[Later] = one.hazard.scenario(case)
        say(f"{case.name} ({time.monotonic() - began:.0f} s)")
        return later

    later = one.tried(case, scenario)
    return (one, case, later) if later else None


def main(arguments: list[str], hazards: Sequence[Hazard[Any]], name: str) -> int:
    """The command line of the examples called `name`; its exit code: 0 when every row holds."""
    parser = argparse.ArgumentParser(
        prog=f"make example-{name} EXAMPLE_ARGS=", description=f"{name}: what goes wrong without Keybrake and with it"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document; amounts in cents")
    parser.add_argument("--keep", action="store_true", help="keep the folder with logs, books and datastores")
    known = {hazard.name: hazard for hazard in hazards}
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(known)}")
    asked = parser.parse_args(arguments)
    unknown = [one for one in asked.names if one not in known]
    if unknown:
        parser.error(f"no such hazard: {', '.join(unknown)}")

    def say(line: str) -> None:
        print(f"keybrake: {line}", file=sys.stderr, flush=True)

    say("starting a stack (the first time it is built, which takes some minutes)")
    try:
        with first_signal_raises(), _folder(name, asked.keep) as folder, watched(folder), Trial(folder) as trial:
            say("the stack is up; every job runs twice, without Keybrake and with it")
            rows, sums = play(trial, [known[one] for one in asked.names] or list(hazards), say)
    except (StackError, NoAnswer) as error:
        say(str(error))
        return 1
    except Interrupted:
        say("interrupted; everything is ended")
        return 1
    return report(rows, sums, as_json=asked.json)


@contextlib.contextmanager
def _folder(name: str, kept: bool) -> Iterator[Path]:
    """For everything that the jobs and the stack write; removed at the end, unless it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix=f"keybrake-{name}-"))
    try:
        yield folder
    finally:
        if kept:
            print(f"keybrake: kept: {folder}", file=sys.stderr, flush=True)
        else:
            with signals_held():
                shutil.rmtree(folder, ignore_errors=True)


def report(rows: list[Row], sums: list[str], *, as_json: bool) -> int:
    """Prints what it came to; the exit code."""
    problems = [problem for row in rows for problem in row.problems] + sums
    if as_json:
        print(json.dumps({"holds": not problems, "rows": [row.as_json() for row in rows], "problems": sums}, indent=2))
    else:
        print("\n".join(lines(rows)))
    for problem in problems:
        print(f"✗ {problem}", file=sys.stderr)
    return 1 if problems else 0
