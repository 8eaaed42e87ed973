"""Where the jobs run: one local stack with a clock that can be moved, and a folder for everything."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Optional, TypeVar

from examples.runner.program import DEADLINE_S, Program, ScenarioFailed
from stack import Ports, Stack, StackError, start_on_free_ports
from stack.calls import call
from stack.clock import MovedClock
from stack.envoy_node import EnvoyNode
from stack.polling import eventually
from stack.sandbox_control import SandboxControl

# The company's books and its way to Stripe, which every job imports.
COMPANY = Path(__file__).resolve().parent.parent / "company"
# What of the caller's environment the jobs see: nothing of Stripe's, Keybrake's, an orchestrator's or a proxy's.
KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")

Found = TypeVar("Found")


class Trial:
    """The stack behind all cases, and every program that was started.

    Once it ends, a scenario that still goes on gets `ScenarioFailed` from the next program that it starts, from the
    sandbox and from what it waits for: it would wait for programs that are gone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = MovedClock(folder / "clock")
        self.stack: Stack
        self.second_envoy: EnvoyNode
        self._programs: list[Program] = []
        self._ends = False
        self._lock = threading.Lock()

    def __enter__(self) -> Trial:
        # Without the reconciler: its reads are not among what is counted here.
        self.stack = start_on_free_ports(self.folder / "run", test_clock=self.clock.file, reconcile_seconds=None)
        try:
            self.second_envoy = self.stack.add_envoy(Ports.free())
        except BaseException:
            self.stack.stop(drained=False)
            raise
        return self

    def __exit__(self, kind: Optional[type], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        try:
            self.kill_programs()
        finally:
            self.stack.stop(drained=False)

    def kill_programs(self) -> None:
        """Ends every program that still runs, and with them the trial."""
        with self._lock:
            self._ends = True
            programs = list(self._programs)
        for program in programs:
            program.kill()

    @property
    def sandbox(self) -> SandboxControl:
        """The vendor's side."""
        self._goes_on()
        assert self.stack.sandbox is not None
        return SandboxControl(self.stack.sandbox.control_url)

    def kept(self, program: Program) -> None:
        """The program ends with the trial at the latest."""
        with self._lock:
            self._programs.append(program)
        if self._ends:
            program.kill()
        self._goes_on()

    def _goes_on(self) -> None:
        if self._ends:
            raise ScenarioFailed("the trial ends")

    def until(self, probe: Callable[[], Optional[Found]], what: str) -> Found:
        """What `probe` gives in the end. Raises `TimeoutError` when that takes too long, and `ScenarioFailed` when the
        trial ends."""

        def found() -> Optional[Found]:
            self._goes_on()
            return probe()

        return eventually(found, DEADLINE_S, what)

    def environment(self) -> dict[str, str]:
        """What every program gets. What a killed one leaves in `HOME` or `TMPDIR` goes with the trial's folder."""
        known = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        own = {"HOME": str(self.folder), "TMPDIR": str(self.folder)}
        return {**known, **own, "NO_PROXY": "*", "PYTHONPATH": str(COMPANY)}

    def direct_environment(self) -> dict[str, str]:
        """The vendor itself, with its real secret."""
        assert self.stack.sandbox is not None
        return {
            "STRIPE_SECRET_KEY": self.stack.vendor_secret,
            "STRIPE_API_BASE": f"https://localhost:{self.stack.options.ports.sandbox}",
            "STRIPE_CA_BUNDLE": str(self.stack.sandbox.ca),
        }

    def admin(self, method: str, path: str, json_body: Optional[object] = None) -> Any:
        """A call of the admin API; its JSON. Raises `StackError`, and `NoAnswer` when nobody answers."""
        return self._asked(method, path, self.stack.admin_key, json_body)

    def vault_keys(self) -> list[dict[str, Any]]:
        """All keys, with their balances."""
        listed = self._pages("/admin/vault_keys", self.stack.admin_key, "keys")
        return [self.admin("GET", f"/admin/vault_keys/{key['key_id']}") for key in listed]

    def audit_entries(self) -> list[dict[str, Any]]:
        """The whole audit, newest first."""
        return self._pages("/audit", self.stack.audit_key, "entries")

    def _pages(self, path: str, bearer: str, member: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self._asked("GET", path + cursor, bearer)
            found += page[member]
            if page["next_cursor"] is None:
                return found
            cursor = f"?cursor={page['next_cursor']}"

    def _asked(self, method: str, path: str, bearer: str, json_body: Optional[object] = None) -> Any:
        answer = call(method, self.stack.url + path, bearer=bearer, json_body=json_body)
        if answer.status not in (200, 201):
            raise StackError(f"{method} {path}: {answer.status} {answer.body[:300].decode(errors='replace')}")
        return answer.json()
