"""The rows, as a table and as JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from examples.runner.referee import Tally

HEAD = ("hazard", "due", "without Keybrake", "with Keybrake", "refused", "")


@dataclasses.dataclass(frozen=True)
class Row:
    """What one hazard came to."""

    name: str
    what: str
    due: Tally
    without: Tally
    with_keybrake: Tally
    # The reason of each refusal.
    refused: list[str]
    # What is not as it must be.
    problems: list[str]

    def as_json(self) -> dict[str, Any]:
        """With amounts in cents."""
        return {**dataclasses.asdict(self), "holds": not self.problems}


def lines(rows: list[Row]) -> list[str]:
    """The table."""
    shown = [HEAD, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in shown) for column in range(len(HEAD))]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in shown]


def cells(row: Row) -> tuple[str, ...]:
    """One line, under `HEAD`."""
    tallies = (row.due, row.without, row.with_keybrake)
    return (row.what, *map(_tally, tallies), str(len(row.refused)), "✗" if row.problems else "✓")


def _tally(tally: Tally) -> str:
    return f"{tally.charges:2} for ${tally.cents / 100:,.2f}"
