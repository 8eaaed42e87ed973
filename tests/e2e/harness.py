"""What the end-to-end tests drive: a real stack (sandbox, ledger, Envoy with the filter) and short words for the
calls that most tests make.

A test takes a fixture of `conftest.py`:

- `keybrake`: one stack for the whole session, on free ports, with the configuration as shipped. Give every test its own
  vault key and its own idempotency keys (`fresh_key()`); never kill, reconfigure or move the clock of this one.
- `fresh`: makes stacks of the test's own, for everything that destroys or configures::

      def test_ledger_killed(fresh):
          kb = fresh(plugin={"forward_timeout_ms": 3000})
          kb.stack.ledger.kill(signal.SIGKILL)
          ...
          kb.stack.ledger.start()

The words::

    key = kb.issue(daily_usd_cap=10.99)                     # POST /admin/vault_keys -> VaultKey(secret, key_id, shown)
    answer = kb.charge(key, 299, idempotency_key="k1")      # POST /stripe/v1/charges -> httpx.Response
    kb.post(key, "/v1/refunds", {"charge": "ch_1"})         # any vendor call by path prefix; kb.get as well
    kb.audit(idempotency_key="k1")                          # entries of GET /audit, all pages
    kb.balance(key)                                         # today's Balance(cap, free, held, settled, unknown)
    kb.counts(), kb.executions("k1"), kb.vendor_requests()  # what the vendor received and executed
    kb.fault({"kind": "delay", "delay_ms": 2000}, path="/v1/charges")
    kb.advance(hours=25)                                    # the clock that ledger and sandbox share
    kb.second_envoy()                                       # one more Envoy on the same ledger -> EnvoyNode
    kb.stack                                                # processes: .ledger, .sandbox, .envoy: kill, start, restart
    eventually(probe, deadline_s, what)                     # never sleep a fixed time
"""

from __future__ import annotations

import dataclasses
import secrets
import ssl
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Callable, Optional

import httpx

from stack import Ports, Stack, start_on_free_ports
from stack.build import Artifacts
from stack.clock import MovedClock
from stack.envoy_config import Changes
from stack.envoy_node import EnvoyNode
from stack.polling import eventually
from stack.sandbox_control import SandboxControl

__all__ = ["Balance", "Keybrake", "VaultKey", "eventually", "fresh_key"]

# Longer than the longest forward time-out of a test that shortens it; a hanging stack fails, it does not hang the run.
CLIENT_TIMEOUT_S = 30.0


@dataclasses.dataclass(frozen=True)
class VaultKey:
    """An issued key: the secret, its public handle, and all that the answer showed."""

    secret: str = dataclasses.field(repr=False)
    key_id: str
    shown: Mapping[str, Any] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Balance:
    """The four parts of a cap, in US dollars. free + held + settled + unknown = cap, always."""

    cap: Decimal
    free: Decimal
    held: Decimal
    settled: Decimal
    unknown: Decimal

    def __post_init__(self) -> None:
        assert self.free + self.held + self.settled + self.unknown == self.cap, self


def fresh_key(prefix: str = "test") -> str:
    """An idempotency key that nobody has used."""
    return f"{prefix}-{secrets.token_hex(8)}"


class Keybrake:
    """A running stack in a test's words."""

    def __init__(self, stack: Stack, clock: MovedClock) -> None:
        self.stack = stack
        self.moved_clock = clock
        self.http = httpx.Client(timeout=CLIENT_TIMEOUT_S, trust_env=False)

    @classmethod
    def start(
        cls,
        run_dir: Path,
        artifacts: Artifacts,
        *,
        plugin: Optional[Mapping[str, Any]] = None,
        without: tuple[str, ...] = (),
        edit: Optional[Callable[[str], str]] = None,
        request_timeout_ms: int = Changes.request_timeout_ms,
        stream_idle_timeout_ms: Optional[int] = None,
        wasm: Optional[Path] = None,
        **options: Any,
    ) -> Keybrake:
        """Starts a stack. `plugin` changes fields of the plugin configuration; `without` leaves blocks of the Envoy
        template out ("wasm", "rbac"); `edit` has the last word on the configuration's text; `wasm` is another module;
        `options` are those of `stack.Options`."""
        clock = MovedClock(run_dir.parent / f"{run_dir.name}-clock")
        # Its reads would be among the requests that tests count.
        options.setdefault("reconcile_seconds", None)
        changes = Changes(plugin or {}, without, request_timeout_ms, stream_idle_timeout_ms, edit)
        if wasm is not None:
            artifacts = dataclasses.replace(artifacts, wasm=wasm)
        started = start_on_free_ports(run_dir, artifacts=artifacts, changes=changes, test_clock=clock.file, **options)
        return cls(started, clock)

    def stop(self, drained: bool = False) -> None:
        """Ends everything."""
        self.http.close()
        self.stack.stop(drained=drained)

    @property
    def url(self) -> str:
        """The egress listener of the first Envoy."""
        return self.stack.url

    @property
    def clock(self) -> Path:
        """The file that moves the clock."""
        return self.moved_clock.file

    @property
    def stripe_url(self) -> str:
        """Its listener for Stripe."""
        return self.stack.stripe_url

    # Admin and audit

    def admin(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """A call to the admin API through Envoy."""
        return self.http.request(
            method, self.url + path, headers={"Authorization": f"Bearer {self.stack.admin_key}"}, **arguments
        )

    def issue(self, **grant: Any) -> VaultKey:
        """Issues a key: `POST /v1/charges`, $10.99 a day, two hours, unless `grant` says otherwise. A field that is
        None is not sent."""
        wanted = {
            "label": fresh_key("label"),
            "vendor": "stripe",
            "allowed_endpoints": ["POST /v1/charges"],
            "daily_usd_cap": 10.99,
            "expires_in_seconds": 7200,
            **grant,
        }
        answer = self.admin(
            "POST", "/admin/vault_keys", json={name: value for name, value in wanted.items() if value is not None}
        )
        assert answer.status_code == 201, answer.text
        shown = answer.json()
        return VaultKey(shown["vault_key"], shown["key_id"], shown)

    def revoke(self, key: VaultKey) -> None:
        """Revokes a key."""
        answer = self.admin("DELETE", f"/admin/vault_keys/{key.key_id}")
        assert answer.status_code in (200, 204), answer.text

    def balance(self, key: VaultKey, window: str = "day:") -> Balance:
        """The newest balance of the key whose window begins so (`day:`, `month:`, `lifetime`)."""
        answer = self.admin("GET", f"/admin/vault_keys/{key.key_id}")
        assert answer.status_code == 200, answer.text
        found = [shown for shown in answer.json()["balances"] if shown["window"].startswith(window)]
        newest = max(found, key=lambda shown: shown["window"])
        return Balance(**{part.name: Decimal(newest[part.name]) for part in dataclasses.fields(Balance)})

    def audit(self, *, base: Optional[str] = None, **filters: Any) -> list[dict[str, Any]]:
        """All entries that fit the filters, over all pages; through Envoy, or from another `base` URL."""
        entries: list[dict[str, Any]] = []
        while True:
            headers = {"Authorization": f"Bearer {self.stack.audit_key}"}
            answer = self.http.get(f"{base or self.url}/audit", params=filters, headers=headers)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            entries += page["entries"]
            if page["next_cursor"] is None:
                return entries
            filters = {**filters, "cursor": page["next_cursor"]}

    # Vendor calls

    def request(
        self,
        method: str,
        path: str,
        *,
        key: Optional[VaultKey] = None,
        url: Optional[str] = None,
        headers: Optional[Mapping[str, str]] = None,
        **arguments: Any,
    ) -> httpx.Response:
        """A request to the vendor by path prefix, or to another base `url`."""
        sent = {"Authorization": f"Bearer {key.secret}"} if key else {}
        sent.update(headers or {})
        return self.http.request(method, (url or f"{self.url}/stripe") + path, headers=sent, **arguments)

    def get(self, key: VaultKey, path: str, **arguments: Any) -> httpx.Response:
        """A read."""
        return self.request("GET", path, key=key, **arguments)

    def post(
        self,
        key: VaultKey,
        path: str,
        form: Mapping[str, Any],
        *,
        idempotency_key: Optional[str] = None,
        headers: Optional[Mapping[str, str]] = None,
        **arguments: Any,
    ) -> httpx.Response:
        """A write with a form body, and a new idempotency key unless one is given."""
        sent = {"Idempotency-Key": idempotency_key or fresh_key(), **(headers or {})}
        return self.request("POST", path, key=key, headers=sent, data=dict(form), **arguments)

    def charge(
        self,
        key: VaultKey,
        cents: int,
        *,
        idempotency_key: Optional[str] = None,
        form: Optional[Mapping[str, Any]] = None,
        **arguments: Any,
    ) -> httpx.Response:
        """A charge of so many cents on Stripe's test card; `form` adds or replaces fields."""
        body = {"amount": cents, "currency": "usd", "source": "tok_visa", **(form or {})}
        return self.post(key, "/v1/charges", body, idempotency_key=idempotency_key, **arguments)

    # The vendor's side

    @property
    def sandbox(self) -> SandboxControl:
        """The sandbox's control API."""
        assert self.stack.sandbox is not None
        return SandboxControl(self.stack.sandbox.control_url)

    def counts(self) -> dict[str, Any]:
        """What the sandbox counted: `requests`, `executions_total`, `by_key`, `bytes_received`, …"""
        return self.sandbox.counts()

    def executions(self, idempotency_key: str) -> int:
        """How often the vendor executed something under this key."""
        return int(self.counts()["by_key"].get(idempotency_key, {}).get("executions", 0))

    def vendor_requests(self, idempotency_key: Optional[str] = None) -> list[dict[str, Any]]:
        """The requests that the vendor logged, of one idempotency key or all."""
        listed = self.sandbox.requests()
        return [entry for entry in listed if idempotency_key is None or entry.get("idempotency_key") == idempotency_key]

    def past_the_gate(self, method: str, path: str, form: Mapping[str, str], *, idempotency_key: str) -> httpx.Response:
        """A call straight to the vendor with the vendor's own secret: what somebody else's doing, or a gate that leaks,
        looks like to the vendor."""
        assert self.stack.sandbox is not None
        trusted = ssl.create_default_context(cafile=str(self.stack.sandbox.ca))
        headers = {"Authorization": f"Bearer {self.stack.vendor_secret}", "Idempotency-Key": idempotency_key}
        with httpx.Client(verify=trusted, trust_env=False) as client:
            url = f"https://localhost:{self.stack.options.ports.sandbox}{path}"
            return client.request(method, url, headers=headers, data=dict(form))

    def fault(self, fault: Mapping[str, Any], *, times: Optional[int] = 1, **matching: Any) -> None:
        """Makes the vendor misbehave on the next `times` requests that match (`method`, `path`, `idempotency_key`,
        `body_contains`); None is for ever. The kinds stand in the sandbox's README."""
        self.sandbox.fault(fault, times=times, **matching)

    def clear_faults(self) -> None:
        """Ends all faults."""
        self.sandbox.clear_faults()

    # Time and more Envoys

    def advance(self, *, hours: float = 0, seconds: float = 0) -> None:
        """Moves the clock that ledger and sandbox read. Never back."""
        self.moved_clock.advance(hours=hours, seconds=seconds)

    def second_envoy(self, changes: Optional[Changes] = None) -> EnvoyNode:
        """One more Envoy before the same ledger and vendor, on ports of its own."""
        return self.stack.add_envoy(Ports.free(), changes)
