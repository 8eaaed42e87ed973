"""For which vendor a ledger was begun. One that has the sandbox's charges on record must not answer for Stripe, nor
one with a test key's for a live key: it would give charges again that the customer never paid.

A file beside the database says it; never a key. It is written before the ledger first starts.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from stack.errors import StackError, WrongUse
from stack.run_folder import RunFolder, write_private

SANDBOX = "sandbox"
STRIPE_TEST = "stripe test"
STRIPE_LIVE = "stripe live"
_NAMES = {
    SANDBOX: "the sandbox vendor",
    STRIPE_TEST: "Stripe with a test key",
    STRIPE_LIVE: "Stripe with a live key",
}


class LedgerMark:
    """The marks of one ledger: in the run folder, and beside an SQLite file that stands elsewhere."""

    def __init__(self, folder: RunFolder, database_url: Optional[str]) -> None:
        self._folder = folder.path
        self._elsewhere = database_url is not None
        self._databases: Sequence[Path] = tuple(
            dict.fromkeys(Path(os.path.realpath(file)) for file in (folder.database, sqlite_file(database_url)) if file)
        )

    def check(self, serves: str) -> None:
        """Raises `WrongUse` when the ledger was begun for another vendor than `serves`, or another kind of key."""
        for database in self._databases:
            mark = _beside(database)
            if mark.is_file():
                begun, why = mark.read_text(errors="replace").strip(), ""
            elif database.exists():
                # From before there were marks.
                begun, why = SANDBOX, f" (there is no {mark}, which would say something else)"
            else:
                continue
            if begun != serves:
                raise WrongUse(
                    f"the ledger in {database.parent} was begun for {_name(begun)}{why}, not for {_name(serves)}: it "
                    f"would give old charges again instead of making new ones, and count their spend; "
                    f"{self._advice(serves)}"
                )

    def write(self, serves: str) -> None:
        """Notes for whom the ledger is begun. Raises `StackError`."""
        for database in self._databases:
            mark = _beside(database)
            try:
                if not mark.is_file():
                    write_private(mark, serves + "\n")
            except OSError as error:
                raise StackError(f"{mark} cannot be written: {error.strerror}") from error

    def _advice(self, serves: str) -> str:
        other = self._folder.with_name(f"{self._folder.name}-{serves.replace(' ', '-')}")
        database = " and another KEYBRAKE_DATABASE_URL" if self._elsewhere else ""
        command = f"export KEYBRAKE_RUN_DIR={shlex.quote(str(other))}"
        return f"take another run folder{database}, then start again: {command}"


def sqlite_file(database_url: Optional[str]) -> Optional[Path]:
    """The file that a URL names, absolute; None for other databases."""
    if database_url is None or not database_url.startswith("sqlite:"):
        return None
    path = database_url.removeprefix("sqlite:")
    return Path(os.path.abspath(path.removeprefix("//"))) if path else None


def _beside(database: Path) -> Path:
    return database.with_name(f"{database.name}.vendor")


def _name(kind: str) -> str:
    return _NAMES.get(kind, repr(kind))
