"""What the ledger says about a key, for assertions."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Optional

from harness import Keybrake, VaultKey


def expect_balance(
    kb: Keybrake,
    key: VaultKey,
    *,
    free: str,
    held: str = "0",
    settled: str = "0",
    unknown: str = "0",
    window: str = "day:",
) -> None:
    """Fails unless the newest balance of that window is this, to the micro-dollar."""
    balance = kb.balance(key, window)
    shown = (balance.free, balance.held, balance.settled, balance.unknown)
    wanted = tuple(Decimal(amount) for amount in (free, held, settled, unknown))
    assert shown == wanted, f"(free, held, settled, unknown) in {window}: {shown}"


def audited(kb: Keybrake, key: VaultKey) -> list[tuple[str, str, Optional[str], Optional[str]]]:
    """The audit of one key in short, oldest first: verdict, operation, outcome or reason, cost."""
    return [
        (entry["verdict"], entry["operation"], entry["outcome"] or entry["reason"], entry["cost_usd"])
        for entry in reversed(kb.audit(key_id=key.key_id))
    ]


def only_entry(kb: Keybrake, **filters: Any) -> dict[str, Any]:
    """The one audit entry that fits."""
    entries = kb.audit(**filters)
    assert len(entries) == 1, entries
    return entries[0]
