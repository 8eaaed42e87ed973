"""How many keys are revoked at the end of a block, and how those are told that are not, without hiding what happened
before."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Optional

from keybrake.keys import VaultKey

__all__ = ["in_time", "not_revoked"]

LOG = logging.getLogger("keybrake")

# Seconds after the first revocation in which another may begin.
REVOKING_S = 30.0


def in_time(keys: Sequence[VaultKey], body: Optional[BaseException]) -> Iterator[VaultKey]:
    """The keys that are to be revoked, one by one, until `REVOKING_S` are over; what is left then is told as not
    revoked. Where nobody answers, a thousand keys would otherwise hold up the end of a block for hours."""
    ends = time.monotonic() + REVOKING_S
    for key in keys:
        if time.monotonic() < ends:
            yield key
        else:
            not_revoked(key, TimeoutError(f"revoking the keys before it took {REVOKING_S:g} seconds"), body)


def not_revoked(key: VaultKey, failure: Exception, body: Optional[BaseException]) -> None:
    """Logs it as an error, which Python shows on standard error by itself; notes it on what the body raised, if it
    raised (Python 3.11 and newer print such notes)."""
    line = f"vault key {key.key_id} ({key.label}) is not revoked and lives until {key.expires_at}: {failure}"
    LOG.error(line)
    note = getattr(body, "add_note", None)
    if note is not None:
        note(line)
