"""Budgets: named caps that many keys share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Optional, TypedDict

from keybrake.balances import Balance, read_balances
from keybrake.keys import Usd, plain
from keybrake.reading import member, object_of, optional_member

__all__ = ["Budget", "BudgetCaps", "TripOn", "budget_body", "read_budget"]


class TripOn(TypedDict):
    """The brake: so many refusals of keys under the budget within so many seconds stop every key under it."""

    refusals: int
    within_seconds: int


class BudgetCaps(TypedDict, total=False):
    """What a budget may have beside its name. The fields are those of `POST /admin/budgets`."""

    parent: str
    daily_usd_cap: Usd
    monthly_usd_cap: Usd
    lifetime_usd_cap: Usd
    per_request_usd_cap: Usd
    rolling_usd_cap: Usd
    rolling_hours: int
    uncapped: bool
    time_zone: str
    trip_on: TripOn
    duplicate_window_seconds: int
    duplicate_fields: Sequence[str]
    metadata: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Budget:
    """A budget as it stands. `shown` has all that the API said."""

    name: str
    parent: Optional[str]
    state: str
    """`open`, `frozen`, `tripped` or `closed`; only an open one admits anything new."""
    tripped_at: Optional[str]
    """When its brake last tripped; RFC 3339, UTC."""
    balances: Sequence[Balance]
    """Of the present windows; empty in a list of budgets."""
    shown: Mapping[str, Any] = dataclasses.field(repr=False)


def budget_body(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON body of a wanted budget. A field that is None is left out. Raises `TypeError` for money as a float."""
    return {name: plain(name, value) for name, value in asked.items() if value is not None}


def read_budget(answer: Any) -> Budget:
    """A budget from its JSON."""
    found = object_of(answer, "the budget")
    return Budget(
        name=member(found, "name", str),
        parent=optional_member(found, "parent", str),
        state=member(found, "state", str),
        tripped_at=optional_member(found, "tripped_at", str),
        balances=read_balances(found) if "balances" in found else [],
        shown=found,
    )
