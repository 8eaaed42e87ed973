"""Was it done already? What the audit's entries for one idempotency key come to."""

from __future__ import annotations

from typing import Optional

from keybrake.entries import Entry
from keybrake.errors import MalformedAnswer, Unknown

__all__ = ["Preflight"]


class Preflight:
    """Takes the entries one by one, then tells. "Not charged" is only said when every entry says so."""

    def __init__(self, idempotency_key: str, vendor: str) -> None:
        if not idempotency_key.strip():
            raise ValueError("the idempotency key is empty: it would ask for everybody's charges")
        self.idempotency_key = idempotency_key
        self.vendor = vendor
        self._done: Optional[str] = None
        self._open: Optional[Unknown] = None

    def take(self, entry: Entry) -> None:
        """Counts one entry in. Raises `MalformedAnswer` when it is about something else."""
        named = (entry.idempotency_key, entry.client_idempotency_key)
        if self.idempotency_key not in named or entry.vendor != self.vendor:
            raise MalformedAnswer("the audit was asked for one idempotency key and answered about another")
        if entry.verdict == "refused" or entry.outcome == "released" or entry.method == "GET":
            return
        made = entry.stripe_charge_id or entry.vendor_object_id
        if entry.outcome in ("settled", "held") and entry.cost_usd and made:
            self._done = self._done or made
        elif self._open is None:
            self._open = Unknown(self._why(entry), entry)

    def result(self) -> Optional[str]:
        """The id of what was made, or None. Raises `Unknown`."""
        if self._done is None and self._open is not None:
            raise self._open
        return self._done

    def _why(self, entry: Entry) -> str:
        named = f"{entry.operation} under idempotency key {self.idempotency_key!r}"
        if entry.outcome == "in_flight":
            return f"{named} is under way; ask again, or repeat it with the same key"
        if entry.outcome in ("settled", "held"):
            return f"{named} was executed, and took nothing or made nothing that is known: no charge can be named"
        return f"nobody knows what became of {named}: reconcile or resolve it before anything is charged anew"
