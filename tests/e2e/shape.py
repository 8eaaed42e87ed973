"""The shape that every refusal has on the vendor path (DESIGN.md, section 7)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

# Members that Stripe's SDKs read, and that every refusal has.
ALWAYS = {"type", "code", "message"}


class Answered(Protocol):
    """An answer of httpx or of `wire`."""

    @property
    def status_code(self) -> int:
        """HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """By name in lower case."""

    @property
    def content(self) -> bytes:
        """The whole body."""


def expect_refusal(
    answer: Answered, status: int, code: str, *, kind: str = "invalid_request_error", retry: str = "false"
) -> dict[str, Any]:
    """Fails unless this is that refusal in Stripe's shape; gives the members of its `error` beyond the common ones."""
    what = f"{answer.status_code} {answer.headers.get('keybrake-reason')} {answer.content[:400]!r}"
    assert answer.status_code == status, what
    assert answer.headers["content-type"] == "application/json", what
    assert answer.headers["keybrake-reason"] == code, what
    assert answer.headers["stripe-should-retry"] == retry, what
    body = json.loads(answer.content)
    assert set(body) == {"error"}, what
    error = body["error"]
    assert (error["type"], error["code"]) == (kind, code), what
    assert error["message"].startswith("Keybrake: "), what
    # Dunning code branches on it: a refusal of ours must never look like a card's.
    assert "decline_code" not in error and "charge" not in error, what
    assert None not in error.values(), what
    return {name: value for name, value in error.items() if name not in ALWAYS}
