"""How a key that could not be revoked is told, without hiding what happened before."""

from __future__ import annotations

import logging
from typing import Optional

from keybrake.keys import VaultKey

__all__ = ["not_revoked"]

LOG = logging.getLogger("keybrake")


def not_revoked(key: VaultKey, failure: Exception, body: Optional[BaseException]) -> None:
    """Logs it as an error, which Python shows on standard error by itself; notes it on what the body raised, if it
    raised (Python 3.11 and newer print such notes)."""
    line = f"vault key {key.key_id} ({key.label}) is not revoked and lives until {key.expires_at}: {failure}"
    LOG.error(line)
    note = getattr(body, "add_note", None)
    if note is not None:
        note(line)
