"""What the ledger says about a key, for assertions."""

from __future__ import annotations

import subprocess
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


def expect_whole_chain(kb: Keybrake, database: Optional[str] = None) -> None:
    """Fails unless `keybrake audit verify` finds the chain whole; in the stack's SQLite file unless told otherwise."""
    url = database or f"sqlite:{kb.stack.folder.path / 'keybrake.db'}"
    argv = [str(kb.stack.artifacts.ledger), "audit", "verify", "--database-url", url]
    environment = kb.stack.child_environment()
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "the audit chain is whole" in ended.stdout, ended.stdout
