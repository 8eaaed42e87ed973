"""How many keys are revoked at the end of a block, and how those are told that are not, without hiding what happened
before."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from typing import Optional

from keybrake.keys import VaultKey

__all__ = ["BlockEnd"]

LOG = logging.getLogger("keybrake")

# Seconds after a revocation that succeeds, or after the start of the first, in which another may begin.
REVOKING_S = 30.0


class BlockEnd:
    """What is left to do when a block that has these keys ends. It is made when the block begins."""

    def __init__(self, keys: Sequence[VaultKey]) -> None:
        self._keys = keys
        self._process = os.getpid()
        self._failures = 0
        self.raised: Optional[BaseException] = None
        """What the block raised."""

    def in_time(self) -> Iterator[VaultKey]:
        """The keys that are to be revoked, one by one, until none was for `REVOKING_S`; what is left then is told as
        not revoked. Where nobody answers, a thousand keys would otherwise hold up the end of a block for hours.

        None in a process that the block has forked: there the block ends as well, while it still goes on here."""
        if os.getpid() != self._process:
            return
        ends = time.monotonic() + REVOKING_S
        for key in self._keys:
            if time.monotonic() >= ends:
                self.not_revoked(
                    key, TimeoutError(f"of the keys before it none was revoked for {REVOKING_S:g} seconds")
                )
                continue
            failures = self._failures
            yield key
            if self._failures == failures:
                ends = time.monotonic() + REVOKING_S

    def not_revoked(self, key: VaultKey, failure: Exception) -> None:
        """Logs it as an error, which Python shows on standard error by itself; notes it on what the block raised, if it
        raised (Python 3.11 and newer print such notes)."""
        self._failures += 1
        line = f"vault key {key.key_id} ({key.label}) is not revoked and lives until {key.expires_at}: {failure}"
        LOG.error(line)
        note = getattr(self.raised, "add_note", None)
        if note is not None:
            note(line)
