"""What the audit may be asked by."""

from __future__ import annotations

from typing import Literal, TypedDict

__all__ = ["AuditFilters"]


class AuditFilters(TypedDict, total=False):
    """Filters of `GET /audit`; an entry has to fit all of them."""

    idempotency_key: str
    """The vendor's or the caller's own."""
    key_id: str
    label: str
    """Exactly this label."""
    budget: str
    """This budget or one below it."""
    run_id: str
    """The caller's `x-agent-run-id`."""
    vendor: str
    operation: str
    outcome: Literal["in_flight", "held", "settled", "released", "unknown", "abandoned"]
    verdict: Literal["admitted", "refused"]
    vendor_object_id: str
    since: str
    """At or after this time (RFC 3339), or this day's midnight in UTC."""
    until: str
    """Before it."""
