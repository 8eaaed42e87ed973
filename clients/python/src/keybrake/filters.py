"""What lists may be asked by. An element has to fit every filter."""

from __future__ import annotations

from typing import Literal, TypedDict

__all__ = ["AuditFilters", "KeyFilters"]


class AuditFilters(TypedDict, total=False):
    """Filters of `GET /audit`."""

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


class KeyFilters(TypedDict, total=False):
    """Filters of `GET /admin/vault_keys`."""

    label_prefix: str
    vendor: str
    workspace: str
    budget: str
    """This budget or one below it."""
    status: Literal["active", "expired", "revoked"]
