"""Entries of the audit: one for each admitted request, and for each refused one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Optional

from keybrake.balances import read_money
from keybrake.errors import MalformedAnswer
from keybrake.reading import member, optional_member

__all__ = ["Entry", "read_entry"]

VERDICTS = frozenset({"admitted", "refused"})
OUTCOMES = frozenset({"in_flight", "held", "settled", "released", "unknown", "abandoned"})


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry. `shown` has all that the API said; its documentation is at `/openapi.json`."""

    id: str
    time: str
    """When it was decided; RFC 3339, UTC."""
    key_id: str
    label: str
    vendor: str
    operation: str
    """`charges.create`; empty when the vendor pack has no such endpoint."""
    method: str
    idempotency_key: Optional[str]
    client_idempotency_key: Optional[str]
    """As the caller sent it, where another one was used."""
    amount: Optional[int]
    """In the currency's smallest unit."""
    currency: Optional[str]
    cost_usd: Optional[Decimal]
    verdict: str
    """`admitted` or `refused`."""
    reason: Optional[str]
    """Code of the refusal."""
    outcome: Optional[str]
    """`in_flight`, `held`, `settled`, `released`, `unknown`, `abandoned`; None when refused."""
    vendor_object_id: Optional[str]
    stripe_charge_id: Optional[str]
    replays: int
    """How often the stored answer was given again."""
    shown: Mapping[str, Any] = dataclasses.field(repr=False)


def read_entry(found: Mapping[str, Any]) -> Entry:
    """An entry from its JSON. A verdict or outcome of another version is not guessed at."""
    verdict = member(found, "verdict", str)
    outcome = optional_member(found, "outcome", str)
    if verdict not in VERDICTS or (outcome is not None and outcome not in OUTCOMES):
        raise MalformedAnswer(f"an entry with verdict {verdict!r} and outcome {outcome!r}: unknown to this version")
    cost_usd = optional_member(found, "cost_usd", str)
    return Entry(
        id=member(found, "id", str),
        time=member(found, "time", str),
        key_id=member(found, "key_id", str),
        label=member(found, "label", str),
        vendor=member(found, "vendor", str),
        operation=member(found, "operation", str),
        method=member(found, "method", str),
        idempotency_key=optional_member(found, "idempotency_key", str),
        client_idempotency_key=optional_member(found, "client_idempotency_key", str),
        amount=optional_member(found, "amount", int),
        currency=optional_member(found, "currency", str),
        cost_usd=None if cost_usd is None else read_money(cost_usd),
        verdict=verdict,
        reason=optional_member(found, "reason", str),
        outcome=outcome,
        vendor_object_id=optional_member(found, "vendor_object_id", str),
        stripe_charge_id=optional_member(found, "stripe_charge_id", str),
        replays=member(found, "replays", int),
        shown=found,
    )
