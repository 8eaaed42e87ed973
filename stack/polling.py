"""Waiting for something to become true, with a deadline."""

from __future__ import annotations

import time
from typing import Callable, Optional, TypeVar

Found = TypeVar("Found")

INTERVAL_S = 0.02


def eventually(probe: Callable[[], Optional[Found]], deadline_s: float, what: str) -> Found:
    """What `probe` gives once that is neither None nor False; asks again and again until `deadline_s` is over.

    Raises `TimeoutError` naming `what`. A probe that raises ends the wait.
    """
    ends = time.monotonic() + deadline_s
    while True:
        found = probe()
        if found is not None and found is not False:
            return found
        if time.monotonic() >= ends:
            raise TimeoutError(f"not within {deadline_s:g} s: {what}")
        time.sleep(INTERVAL_S)
