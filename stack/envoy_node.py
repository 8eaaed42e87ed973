"""One running Envoy: start, proof that its gate works, drain, end."""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
import signal
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from stack.calls import NoAnswer, call
from stack.child import Child
from stack.envoy_config import Changes, Surroundings, plugin_configuration, render
from stack.polling import eventually
from stack.ports import LOOPBACK
from stack.run_folder import RunFolder, write_private

START_DEADLINE_S = 30.0
# A gate that works is proven at the first try unless clients are at work already.
PROOF_DEADLINE_S = 5.0
END_PATIENCE_S = 5.0
# After the call to drain, Envoy takes connections for this long (`--drain-time-s`).
DRAIN_S = 1
GAUGE = "keybrake_open_requests"


class EnvoyNode:
    """An Envoy of the stack. More than one may stand before one ledger."""

    def __init__(
        self,
        name: str,
        binary: Path,
        folder: RunFolder,
        around: Surroundings,
        changes: Changes,
        environment: Mapping[str, str],
    ) -> None:
        self.name = name
        self.ports = around.ports
        self.around = around
        self.changes = changes
        self.access_log = around.access_log
        self.config_file = folder.path / f"{name}.yaml"
        argv = [
            binary,
            "-c",
            self.config_file,
            "--concurrency",
            around.workers,
            "--disable-hot-restart",
            "-l",
            "warning",
        ]
        argv += ["--file-flush-interval-msec", 200, "--drain-time-s", DRAIN_S, "--drain-strategy", "immediate"]
        self.child = Child(
            name,
            argv,
            pid_file=folder.pid_file(name),
            log_file=folder.log_file(name),
            environment=environment,
            note=self.admin_url,
        )

    @property
    def url(self) -> str:
        """The egress listener."""
        return f"http://{LOOPBACK}:{self.ports.envoy}"

    @property
    def stripe_url(self) -> str:
        """Stripe's own listener."""
        return f"http://{LOOPBACK}:{self.ports.stripe}"

    @property
    def admin_url(self) -> str:
        """Envoy's admin port."""
        return f"http://{LOOPBACK}:{self.ports.envoy_admin}"

    def start(self, changes: Optional[Changes] = None) -> None:
        """Starts and waits until the gate is proven. Raises `StackError`."""
        self.changes = changes or self.changes
        self.ports.check_free(("envoy", "stripe", "envoy_admin"))
        write_private(self.config_file, render(self.around, self.changes))
        self.child.start()
        self.child.until(self._says_live, START_DEADLINE_S, "GET /ready on its admin port")
        if "wasm" not in self.changes.without:
            self.prove_gate()

    def restart(self, changes: Optional[Changes] = None) -> None:
        """Ends it without a drain and starts it again."""
        self.child.stop(END_PATIENCE_S)
        self.start(changes)

    def reconfigure(self, **changed: Any) -> None:
        """Starts it again with these fields of its `Changes` replaced."""
        self.restart(dataclasses.replace(self.changes, **changed))

    def kill(self, sent: int = signal.SIGKILL) -> None:
        """Sends a signal."""
        self.child.kill(sent)

    def prove_gate(self) -> None:
        """A vault key that nobody issued has to be refused by the filter, on the ledger's word, on each listener, with
        a body and without, and not one byte may go to the vendor. Raises `StackError`."""
        for url in (f"{self.url}/stripe/v1/charges", f"{self.stripe_url}/v1/charges"):
            self._prove_gate_for("GET", url, None)
            self._prove_gate_for("POST", url, {"amount": 100, "currency": "usd"})

    def _prove_gate_for(self, method: str, url: str, form: Optional[Mapping[str, object]]) -> None:
        what = "the gate's answer to a key that nobody issued"
        asked = f"{method} {url} with a vault key that nobody issued"
        ends = time.monotonic() + PROOF_DEADLINE_S
        while True:
            before = self._calls_to_vendor()
            refused = self.child.until(lambda: self._canary(method, url, form), START_DEADLINE_S, what)
            if refused != "vault_key_invalid":
                raise self.child.failure(f"has a gate that does not work: {asked} gave {refused!r}")
            if self._calls_to_vendor() == before:
                return
            # Clients that waited for this Envoy may have come in between; a gate that leaks does so each time.
            if time.monotonic() >= ends:
                raise self.child.failure(f"has a gate that does not work: {asked} went to the vendor")

    def _canary(self, method: str, url: str, form: Optional[Mapping[str, object]]) -> Optional[str]:
        """The reason that the refusal gives; None while the ledger cannot be reached yet."""
        headers = {"Idempotency-Key": f"canary-{secrets.token_hex(8)}"} if form else {}
        try:
            answer = call(method, url, bearer=unissued_vault_key(), headers=headers, form=form, timeout_s=5)
        except NoAnswer:
            return None
        if answer.status == 503:
            return None
        return answer.headers.get("keybrake-reason", f"status {answer.status}")

    def _calls_to_vendor(self) -> dict[str, int]:
        """Connections, requests and bytes to the vendor. The first two are counted before the client has its answer,
        the bytes only when a connection stands."""
        counted = self.stats(r"^cluster\.stripe\.upstream_(cx_total|cx_tx_bytes_total|rq_total)$")
        assert len(counted) == 3, counted
        return counted

    def _says_live(self) -> bool:
        try:
            return call("GET", f"{self.admin_url}/ready", timeout_s=2).status == 200
        except NoAnswer:
            return False

    def stats(self, pattern: str) -> dict[str, int]:
        """The counters and gauges whose names match, with their values. Raises `NoAnswer`."""
        return stats(self.admin_url, pattern)

    def bytes_to_vendor(self) -> int:
        """How many bytes this Envoy has sent to the vendor."""
        return sum(self.stats("^cluster.stripe.upstream_cx_tx_bytes_total$").values())

    def drain(self, patience_s: Optional[float] = None) -> int:
        """Closes the listeners and waits until no request is open; how many still are when patience ends. By default
        patience is what the longest request may take."""
        if patience_s is None:
            plugin = plugin_configuration(self.changes.plugin)
            patience_s = (plugin["forward_timeout_ms"] + plugin["settle_wait_ms"]) / 1000 + DRAIN_S + 2
        return drain(self.admin_url, patience_s)

    def stop(self) -> None:
        """Ends it. Drain first where requests may be open."""
        self.child.stop(END_PATIENCE_S)


def drain(admin_url: str, patience_s: float) -> int:
    """See `EnvoyNode.drain`."""
    began = time.monotonic()

    def idle() -> bool:
        return time.monotonic() - began > DRAIN_S and open_requests(admin_url) == 0

    try:
        call("POST", f"{admin_url}/drain_listeners?graceful")
        eventually(idle, patience_s, "no open request")
    except (TimeoutError, NoAnswer):
        return open_requests(admin_url)
    return 0


def open_requests(admin_url: str) -> int:
    """Requests that hold a slot (reserved, their outcome not on the ledger's disk yet), or downstream requests that
    are being answered, whichever is more. An Envoy that does not answer has none."""
    try:
        slots = sum(stats(admin_url, GAUGE).values())
        return max(slots, sum(stats(admin_url, r"^http\.(egress|stripe)\.downstream_rq_active$").values()))
    except NoAnswer:
        return 0


def stats(admin_url: str, pattern: str) -> dict[str, int]:
    """The counters and gauges of an Envoy whose names match. Raises `NoAnswer`."""
    query = urllib.parse.urlencode({"format": "json", "filter": pattern})
    listed = call("GET", f"{admin_url}/stats?{query}").json() or {}
    return {entry["name"]: entry["value"] for entry in listed.get("stats", []) if "value" in entry}


def unissued_vault_key() -> str:
    """A well-formed vault key (prefix, 48 hexadecimal digits, 8 of checksum) that nobody issued."""
    prefix, body = "vault_key_", secrets.token_hex(24)
    hasher = hashlib.sha256()
    for part in (prefix.encode(), body.encode()):
        hasher.update(len(part).to_bytes(8, "big") + part)
    return f"{prefix}{body}{hasher.hexdigest()[:8]}"
