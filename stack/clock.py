"""The clock that tests move."""

from __future__ import annotations

import datetime
import time
from pathlib import Path

# The ledger keeps what it read of the moved clock for 5 ms. Nothing tells when it has read it again.
CLOCK_READ_EVERY_S = 0.01


class MovedClock:
    """The time that ledger and sandbox of one stack both read: the system's and what a file adds to it, in ms
    (`Options.test_clock`). It goes forward only."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("0")

    def ahead_ms(self) -> int:
        """How far it is ahead of the system's."""
        return int(self.file.read_text())

    def now(self) -> datetime.datetime:
        """The moved time, in UTC."""
        return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(milliseconds=self.ahead_ms())

    def advance(self, *, hours: float = 0, seconds: float = 0) -> None:
        """Moves it; back when ledger and sandbox know."""
        made = self.file.with_suffix(".new")
        made.write_text(str(self.ahead_ms() + round((hours * 3600 + seconds) * 1000)))
        made.replace(self.file)
        time.sleep(CLOCK_READ_EVERY_S)
