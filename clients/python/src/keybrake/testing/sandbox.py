"""The sandbox vendor's own books: the referee of tests."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Optional

import httpx

__all__ = ["Sandbox"]

TIMEOUT_S = 10.0


class Sandbox:
    """The control API of a sandbox vendor: what it received and executed, whatever Keybrake says about it."""

    def __init__(self, control_url: str) -> None:
        self._http = httpx.Client(base_url=control_url, timeout=TIMEOUT_S, trust_env=False)

    def counts(self) -> dict[str, Any]:
        """`requests`, `executions_total`, `executed_minor` (by currency), `by_key`, …"""
        counted: dict[str, Any] = self._call("GET", "/counts")
        return counted

    def executions(self, idempotency_key: str) -> int:
        """How often something was executed under this key."""
        return int(self.counts()["by_key"].get(idempotency_key, {}).get("executions", 0))

    def requests(self, idempotency_key: str) -> int:
        """How many requests came in under this key."""
        return int(self.counts()["by_key"].get(idempotency_key, {}).get("requests", 0))

    def charges(self, customer: str) -> list[dict[str, Any]]:
        """The charges that succeeded for this customer, oldest first."""
        found: list[dict[str, Any]] = self._call("GET", "/objects/charges")["data"]
        return [charge for charge in found if charge["customer"] == customer and charge["status"] == "succeeded"]

    def fault(self, fault: Mapping[str, Any], *, times: Optional[int] = 1, **matching: str) -> None:
        """Misbehaves on the next `times` requests that match (`method`, `path`, `idempotency_key`, `body_contains`);
        None is for ever. `{"kind": "reset_before_answer"}` executes and loses the answer."""
        self._call("POST", "/faults", {"match": matching, "times": times, "fault": dict(fault)})

    def faults(self) -> list[dict[str, Any]]:
        """All faults, with what is left of their `times`."""
        listed: list[dict[str, Any]] = self._call("GET", "/faults")["faults"]
        return listed

    def clear_faults(self) -> None:
        """Ends all faults."""
        self._call("DELETE", "/faults")

    def close(self) -> None:
        """Ends the connections."""
        self._http.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def _call(self, method: str, path: str, body: Optional[object] = None) -> Any:
        answer = self._http.request(method, path, json=body)
        answer.raise_for_status()
        return answer.json()
