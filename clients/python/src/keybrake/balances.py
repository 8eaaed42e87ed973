"""What is left of caps, and statements of how it came about. Money is exact: US dollars as `Decimal`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Optional

from keybrake.errors import MalformedAnswer
from keybrake.reading import member, object_of, objects_of, optional_member

__all__ = ["Balance", "Line", "Parts", "Statement", "StatementWindow", "read_balances", "read_money", "read_statement"]

MONEY = re.compile(r"-?[0-9]+\.[0-9]{2,6}")


@dataclasses.dataclass(frozen=True)
class Parts:
    """The four parts of a cap, which add up to it."""

    free: Decimal
    """May still be spent; below zero after an overrun."""
    held: Decimal
    """Set aside for requests on their way."""
    settled: Decimal
    """Spent."""
    unknown: Decimal
    """Set aside for requests whose outcome nobody knows."""


@dataclasses.dataclass(frozen=True)
class Balance(Parts):
    """A cap in one of its windows."""

    limit: str
    """`daily_usd_cap`, …"""
    window: str
    """`day:2026-11-23`, `month:2026-11`, `rolling`, `lifetime`."""
    cap: Decimal


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a statement."""

    count: int
    usd: Decimal


@dataclasses.dataclass(frozen=True)
class StatementWindow:
    """A cap's window from opening to closing. The lines are counted from the requests, the closing is the balance."""

    limit: str
    window: str
    begins_at: Optional[str]
    ends_at: Optional[str]
    cap: Decimal
    opening: Parts
    holds: Line
    beyond: Line
    """Taken by the vendor beyond what was held."""
    held: Line
    settlements: Line
    unknowns: Line
    releases: Line
    closing: Parts
    adds_up: bool
    """False: the database was tampered with, or the ledger has a bug."""


@dataclasses.dataclass(frozen=True)
class Statement:
    """All windows of a key or a budget; iterating gives them one by one."""

    time_zone: str
    windows: Sequence[StatementWindow]

    @property
    def adds_up(self) -> bool:
        """Whether every window does."""
        return all(window.adds_up for window in self.windows)

    def __iter__(self) -> Iterator[StatementWindow]:
        return iter(self.windows)


def read_money(text: str) -> Decimal:
    """An amount as the API writes it; "NaN" is none."""
    if not MONEY.fullmatch(text):
        raise MalformedAnswer(f"{text!r} is no amount of money")
    return Decimal(text)


def read_balances(parent: Mapping[str, Any]) -> list[Balance]:
    """The member `balances`."""
    return [
        Balance(
            limit=member(found, "limit", str),
            window=member(found, "window", str),
            cap=_usd(found, "cap"),
            **dataclasses.asdict(_parts(found)),
        )
        for found in objects_of(parent, "balances")
    ]


def read_statement(answer: Any) -> Statement:
    """A statement from its JSON."""
    found = object_of(answer, "the statement")
    windows = [_window(window) for window in objects_of(found, "windows")]
    return Statement(time_zone=member(found, "time_zone", str), windows=windows)


def _window(found: Mapping[str, Any]) -> StatementWindow:
    lines = ("holds", "beyond", "held", "settlements", "unknowns", "releases")
    return StatementWindow(
        limit=member(found, "limit", str),
        window=member(found, "window", str),
        begins_at=optional_member(found, "begins_at", str),
        ends_at=optional_member(found, "ends_at", str),
        cap=_usd(found, "cap"),
        opening=_parts(object_of(found.get("opening"), "the opening")),
        closing=_parts(object_of(found.get("closing"), "the closing")),
        adds_up=member(found, "adds_up", bool),
        **{name: _line(object_of(found.get(name), name)) for name in lines},
    )


def _parts(found: Mapping[str, Any]) -> Parts:
    return Parts(
        free=_usd(found, "free"),
        held=_usd(found, "held"),
        settled=_usd(found, "settled"),
        unknown=_usd(found, "unknown"),
    )


def _line(found: Mapping[str, Any]) -> Line:
    return Line(count=member(found, "count", int), usd=_usd(found, "usd"))


def _usd(found: Mapping[str, Any], name: str) -> Decimal:
    return read_money(member(found, name, str))
