"""What the vendor saw and did, for assertions: counts before and after, and its own books."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from harness import Keybrake, eventually


@dataclasses.dataclass(frozen=True)
class Seen:
    """The vendor's counters at one moment, and the bytes that the first Envoy had sent to it."""

    requests: int
    executions: int
    replays: int
    bytes_received: int
    bytes_sent_by_envoy: int
    captured_usd_cents: int

    @classmethod
    def now(cls, kb: Keybrake) -> Seen:
        """The counters as they are."""
        counts = kb.counts()
        return cls(
            requests=counts["requests"],
            executions=counts["executions_total"],
            replays=counts["replays"],
            bytes_received=counts["bytes_received"],
            bytes_sent_by_envoy=kb.stack.envoy.bytes_to_vendor(),
            captured_usd_cents=counts["executed_minor"].get("usd", 0),
        )


@contextlib.contextmanager
def nothing_reaches_the_vendor(kb: Keybrake) -> Iterator[None]:
    """Not a request, not a byte."""
    before = Seen.now(kb)
    yield
    assert Seen.now(kb) == before


@contextlib.contextmanager
def vendor_sees(kb: Keybrake, *, requests: int, executions: int) -> Iterator[None]:
    """Exactly so many requests, and so many of them executed something."""
    before = Seen.now(kb)
    yield
    after = Seen.now(kb)
    seen = (after.requests - before.requests, after.executions - before.executions)
    assert seen == (requests, executions), f"(requests, executions) at the vendor: {seen}"


def books(kb: Keybrake, kind: str) -> list[dict[str, Any]]:
    """All `charges`, `payment_intents` or `refunds` in the vendor's books, oldest first."""
    return kb.sandbox.objects(kind)


def charged_cents(kb: Keybrake, customer: str) -> list[int]:
    """What the vendor took from this customer, one amount per charge."""
    return [
        charge["amount_captured"]
        for charge in books(kb, "charges")
        if charge["customer"] == customer and charge["status"] == "succeeded"
    ]


def arrives_at_the_vendor(kb: Keybrake, idempotency_key: str) -> None:
    """Waits for the first request under this key. (It is answered later, when a fault delays it.)"""
    eventually(lambda: bool(kb.vendor_requests(idempotency_key)), 5, f"{idempotency_key} at the vendor")
