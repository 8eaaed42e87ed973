"""The sandbox vendor's control API: what it received and executed, and how it shall misbehave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from stack.calls import call
from stack.errors import StackError


class SandboxControl:
    """Words for the control API of one sandbox; src/sandbox/README.md describes it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def counts(self) -> dict[str, Any]:
        """What it counted: `requests`, `executions_total`, `by_key`, `bytes_received`, …"""
        counted: dict[str, Any] = self._call("GET", "/counts")
        return counted

    def requests(self) -> list[dict[str, Any]]:
        """The requests that it logged, oldest first."""
        listed: list[dict[str, Any]] = self._call("GET", "/requests")["requests"]
        return listed

    def objects(self, kind: str) -> list[dict[str, Any]]:
        """All `charges`, `payment_intents`, `refunds`, … in its books, oldest first."""
        found: list[dict[str, Any]] = self._call("GET", f"/objects/{kind}")["data"]
        return found

    def fault(self, fault: Mapping[str, Any], *, times: Optional[int] = 1, **matching: Any) -> None:
        """Makes it misbehave on the next `times` requests that match (`method`, `path`, `idempotency_key`,
        `body_contains`); None is for ever."""
        self._call("POST", "/faults", {"match": matching, "times": times, "fault": dict(fault)})

    def clear_faults(self) -> None:
        """Ends all faults."""
        self._call("DELETE", "/faults")

    def _call(self, method: str, path: str, json_body: Optional[object] = None) -> Any:
        answer = call(method, self.url + path, json_body=json_body)
        if answer.status not in (200, 201):
            raise StackError(f"{method} {path} at the sandbox: {answer.status} {answer.body[:300]!r}")
        return answer.json()
