"""What can go wrong, as exceptions. All of them are `Error`; none of them ever carries a secret."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    from keybrake.entries import Entry

__all__ = [
    "ApiError",
    "ApiUnavailable",
    "Error",
    "FieldError",
    "MalformedAnswer",
    "SettingMissing",
    "Unavailable",
    "Unknown",
]


class Error(Exception):
    """Anything that Keybrake's client raises about Keybrake."""


class SettingMissing(Error):
    """The URL or a key was neither given nor found in the environment."""


class FieldError(NamedTuple):
    """One field of a request that was not accepted."""

    field: str
    """`daily_usd_cap`, `keys[3].label`; empty for the body as a whole."""
    message: str


class ApiError(Error):
    """Keybrake answered with a problem document (RFC 9457)."""

    def __init__(self, code: str, title: str, detail: str, status: int, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(code, title, detail, status, tuple(errors))
        self.code = code
        """Stable word, the end of the document's `type`: `invalid_request`, `unauthenticated`, `not_found`, …"""
        self.title = title
        self.detail = detail
        self.status = status
        """HTTP status."""
        self.errors = tuple(errors)
        """The fields that were not accepted, all of them."""

    def __str__(self) -> str:
        return f"{self.title}: {self.detail} ({self.status} {self.code})"


class Unavailable(Error):
    """Nobody could be asked: no connection, no answer in time, or an answer that is not Keybrake's.

    For a call that changes something this also means that it may have been done.
    """


class MalformedAnswer(Unavailable):
    """Somebody answered, but not as Keybrake does: a gateway's error page, a cut body, a field of another kind."""


class ApiUnavailable(ApiError, Unavailable):
    """Keybrake itself says that it cannot answer now (500 or 503)."""


class Unknown(Error):
    """Whether the money moved is not known (yet): the request is under way, or its answer was lost.

    Do not charge under another idempotency key. The same key may be tried again; it is never executed twice.
    """

    def __init__(self, message: str, entry: Optional[Entry] = None) -> None:
        super().__init__(message)
        self.entry = entry
        """The entry of the audit that says so."""
