"""What the filter accepts, Rack, Ruby's JSON and Python's readers must read as the same fields, with the same single
integer amount and the same currency. `python tests/fuzz/differential.py --help`.

One seed is one run. A disagreement is cut down to a body from which nothing can be left out, and printed with the seed.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent / "e2e")]

import bodies  # noqa: E402
import hostile_table  # noqa: E402
from readers import Body, Readers, Reading, readers  # noqa: E402

CORPUS = HERE / "corpus.jsonl"
BATCH = 500
# Longer bodies are not kept, and there are never more.
MAX_KEPT_BYTES = 200
MAX_KEPT = 1_500


@dataclass
class Run:
    """What a run has seen."""

    seed: int
    executions: int = 0
    accepted: int = 0
    disagreement: Optional[Body] = None
    # Each kind of outcome once: what the readers say, and the first body of which they say it.
    outcomes: dict[tuple[str, ...], Body] = field(default_factory=dict)


def objection(ours: Reading, other: Reading) -> str:
    """Why the other reader's reading is not the filter's, which accepts the body; empty when it is."""
    if other.fields is None:
        return f"does not read it ({other.why})"
    if ours.fields is None or ours.cost is None:
        return "the filter reads no cost"
    if other.odd:
        return f"takes these for something else, or for more than one: {', '.join(other.odd)}"
    amount, currency = ours.cost
    cost = (other.fields.get("amount"), (other.fields.get("currency") or "").lower())
    if cost != (str(amount), currency.lower()):
        return f"reads {cost}, not {ours.cost}"
    if set(other.fields) != set(ours.fields):
        return f"reads fields {sorted(other.fields)}, not {sorted(ours.fields)}"
    unlike = [name for name, value in other.fields.items() if value not in (None, ours.fields[name])]
    return f"reads other values in {unlike}" if unlike else ""


def objections(tried: Readers, asked: Sequence[Body]) -> Iterator[tuple[Body, Reading, dict[str, str]]]:
    """Each body with the filter's reading, and what the others have against it if it is accepted."""
    ours, ruby, python = tried.ours(asked), tried.ruby(asked), tried.python(asked)
    for body, mine, rubys, pythons in zip(asked, ours, ruby, python):
        found = {}
        if mine.fields is not None:
            found = {"ruby": objection(mine, rubys), "python": objection(mine, pythons)}
        yield body, mine, {name: what for name, what in found.items() if what}


def outcome(body: Body, ours: Reading) -> tuple[str, ...]:
    """What makes a body worth keeping: why it is refused, or what is in it that is accepted all the same."""
    if ours.fields is None:
        return (body.kind, re.sub(r"[0-9]+", "0", ours.why))
    names = "".join(ours.fields)
    marks = [mark for mark in ("%", "+", "\\", "[0]", "][", ".", "-") if mark in body.content.decode("latin-1") + names]
    return (body.kind, "accepted", str(min(len(ours.fields), 5)), *marks)


def smallest(tried: Readers, body: Body) -> Body:
    """Takes pieces out for as long as somebody objects."""
    size = max(1, len(body.content) // 2)
    while True:
        starts = range(0, len(body.content), size)
        shorter = [Body(body.kind, body.content[:at] + body.content[at + size :]) for at in starts]
        still = next((one for one, _, found in objections(tried, shorter) if found), None)
        if still is not None:
            body = still
        elif size == 1:
            return body
        else:
            size = max(1, size // 2)


def run(tried: Readers, seed: int, kept: Sequence[Body], executions: int, seconds: float = float("inf")) -> Run:
    """So many bodies from this seed, the kept ones first, or as many as the seconds allow. Ends at a disagreement."""
    dice, seen, ends = random.Random(seed), Run(seed), time.monotonic() + seconds
    waiting = list(kept)
    told = time.monotonic()
    while seen.executions < executions and time.monotonic() < ends:
        asked, waiting = waiting[:BATCH], waiting[BATCH:]
        asked += [bodies.body(dice, kept) for _ in range(BATCH - len(asked))]
        for body, ours, found in objections(tried, asked):
            seen.executions += 1
            seen.accepted += ours.fields is not None
            seen.outcomes.setdefault(outcome(body, ours), body)
            if found:
                seen.disagreement = smallest(tried, body)
                return seen
        if sys.stderr.isatty() and time.monotonic() - told > 1:
            told = time.monotonic()
            print(f"\r{seen.executions} bodies, {seen.accepted} accepted", end="", file=sys.stderr)
    return seen


def report(tried: Readers, seen: Run) -> str:
    """What a failing run has to say."""
    body = seen.disagreement
    assert body is not None
    (ours,), (ruby,), (python,) = tried.ours([body]), tried.ruby([body]), tried.python([body])
    (_, _, found), *_ = objections(tried, [body])
    said = [f"{name} {what}" for name, what in found.items()]
    return "\n".join(
        [f"seed {seen.seed}, after {seen.executions} bodies: the readers disagree about this {body.kind}:"]
        + [f"  {body.content!r}", *said, f"  filter: {ours}", f"  ruby:   {ruby}", f"  python: {python}"]
    )


def corpus() -> list[Body]:
    """The kept bodies, and those of the tables of hostile requests."""
    kept = [
        Body(told["kind"], told["body"].encode("latin-1")) for told in map(json.loads, CORPUS.read_text().splitlines())
    ]
    for table in ("forms", "bodies"):
        for case in hostile_table.read(table):
            if case.body and len(case.body) <= 10 * MAX_KEPT_BYTES and "$" not in case.body:
                kept.append(Body("json" if "acme" in case.by else "form", case.body.encode("latin-1")))
    return kept


def keep(seen: Run, known: set[tuple[str, ...]]) -> int:
    """Adds the first body of each outcome that is new to the kept ones; how many."""
    told = CORPUS.read_text().splitlines()
    new = [body for key, body in seen.outcomes.items() if key not in known and len(body.content) <= MAX_KEPT_BYTES]
    new = new[: max(0, MAX_KEPT - len(told))]
    told += [json.dumps({"kind": body.kind, "body": body.content.decode("latin-1")}) for body in new]
    CORPUS.write_text("".join(f"{line}\n" for line in told))
    return len(new)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compares the filter's readers with Rack's, Ruby's and Python's.")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--keep", action="store_true", help="add bodies with a new outcome to the corpus")
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder, readers(Path(folder)) as tried:
        kept = corpus()
        known = set(run(tried, asked.seed, kept, len(kept)).outcomes)
        seen = run(tried, asked.seed, kept, sys.maxsize, asked.seconds)
        if seen.disagreement is not None:
            print(report(tried, seen))
            return 1
        added = keep(seen, known) if asked.keep else 0
    print(f"{seen.executions} bodies, {seen.accepted} accepted, no disagreement, {added} new bodies kept")
    return 0


if __name__ == "__main__":
    sys.exit(main())
