"""Fills in the template of the Envoy configuration.

The plugin configuration comes from `envoy/plugin.example.json`, so that the example is what runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any, Callable, Optional

from stack.ports import LOOPBACK, Ports
from stack.vendor import Vendor

ENVOY_FOLDER = Path(__file__).resolve().parent.parent / "envoy"
TEMPLATE = ENVOY_FOLDER / "envoy.yaml.in"
PLUGIN_EXAMPLE = ENVOY_FOLDER / "plugin.example.json"

# How much more than the forward time-out a silent stream gets before Envoy gives it up.
STREAM_IDLE_MARGIN_MS = 20_000
# How much more than the filter's limit Envoy buffers, so that the filter is the one that says no.
BUFFER_MARGIN_BYTES = 65_536
# Egress and Stripe's own listener: each has its own slots.
LISTENERS = 2


@dataclass(frozen=True)
class Changes:
    """What a test wants other than shipped. By default nothing."""

    # Fields of the plugin configuration, over those of `plugin.example.json`; None takes the field out.
    plugin: Mapping[str, Any] = field(default_factory=dict)
    # Blocks of the template to leave out: "wasm", "rbac".
    without: tuple[str, ...] = ()
    # A client has this long to send its request.
    request_timeout_ms: int = 30_000
    # None: the forward time-out and a margin, as shipped.
    stream_idle_timeout_ms: Optional[int] = None
    # The last word on the text of the configuration.
    edit: Optional[Callable[[str], str]] = None


@dataclass(frozen=True)
class LedgerAddress:
    """Where a ledger is reached over TCP (`keybrake serve --commands-listen`). A name may stand for several."""

    host: str
    api_port: int
    commands_port: int


@dataclass(frozen=True)
class Surroundings:
    """What the configuration of one Envoy names."""

    node: str
    ports: Ports
    vendor: Vendor
    wasm: Path
    sds: Path
    ledger_socket: Path
    access_log: Path
    workers: int
    # Of the listeners; the admin port is on loopback always.
    listen_address: str = LOOPBACK
    # In place of the socket and `ports.ledger`: ledgers on one database, with health checks.
    ledgers: tuple[LedgerAddress, ...] = ()
    # A listener for Prometheus.
    stats_port: Optional[int] = None


def plugin_configuration(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The egress listener's plugin configuration: the example, changed."""
    plugin = json.loads(PLUGIN_EXAMPLE.read_text())
    plugin.update(changes)
    return {name: value for name, value in plugin.items() if value is not None}


def render(around: Surroundings, changes: Changes) -> str:
    """The whole configuration as text."""
    egress = plugin_configuration(changes.plugin)
    for entry in egress["vendors"]:
        if entry["cluster"] == "stripe" and around.vendor.authority != "api.stripe.com":
            entry["authority"] = around.vendor.authority
    by_listener = {"pack": "stripe", "cluster": "stripe", "hosts": ["*"], "authority": around.vendor.authority}
    forward_ms = egress["forward_timeout_ms"]
    idle_ms = changes.stream_idle_timeout_ms or forward_ms + STREAM_IDLE_MARGIN_MS
    vendor = around.vendor
    values: dict[str, Any] = {
        "node": around.node,
        "envoy_port": around.ports.envoy,
        "stripe_port": around.ports.stripe,
        "envoy_admin_port": around.ports.envoy_admin,
        "ledger_port": around.ports.ledger,
        "buffer_limit_bytes": egress["max_request_bytes"] + BUFFER_MARGIN_BYTES,
        "request_timeout": _seconds(changes.request_timeout_ms),
        "stream_idle_timeout": _seconds(idle_ms),
        "forward_timeout": _seconds(forward_ms),
        "access_log_path": _text(around.access_log),
        "wasm_path": _text(around.wasm),
        "egress_plugin": _text(json.dumps(egress)),
        "stripe_plugin": _text(json.dumps({**egress, "vendors": [by_listener]})),
        "vendor_authority": _text(vendor.authority),
        "vendor_host": _text(vendor.host),
        "vendor_address": _text(vendor.address),
        "vendor_port": vendor.port,
        "vendor_max_requests": around.workers * LISTENERS * egress["max_open_requests"],
        "sds_folder": _text(around.sds),
        "sds_stripe_credential": _text(around.sds / "stripe_credential.json"),
        "sds_vendor_ca": _text(around.sds / "vendor_ca.json"),
        "sds_internal_key": _text(around.sds / "internal_key.json"),
        "ledger_socket": _text(around.ledger_socket),
        "listen_address": around.listen_address,
        "stats_port": around.stats_port,
        "commands_endpoints": "".join(
            _endpoint(at.host, at.commands_port, f", health_check_config: {{port_value: {at.api_port}}}")
            for at in around.ledgers
        ),
        "api_endpoints": "".join(_endpoint(at.host, at.api_port) for at in around.ledgers),
    }
    text = TEMPLATE.read_text()
    for block in (*changes.without, *_not_wanted(around)):
        text = _left_out(text, block)
    filled = Template(text).substitute(values)
    return changes.edit(filled) if changes.edit else filled


def _not_wanted(around: Surroundings) -> Iterator[str]:
    """Blocks that these surroundings have no use for."""
    if not around.vendor.tls:
        yield "tls"
    if around.stats_port is None:
        yield "stats"
    yield "one_ledger" if around.ledgers else "ledgers"


def _endpoint(host: str, port: int, more: str = "") -> str:
    address = f"address: {{socket_address: {{address: {_text(host)}, port_value: {port}}}}}"
    return f"\n              - endpoint: {{{address}{more}}}"


def _left_out(text: str, block: str) -> str:
    short, count = re.subn(rf"(?ms)^ *# <{block}>\n.*?^ *# </{block}>\n", "", text)
    assert count > 0, f"no block <{block}> in {TEMPLATE}"
    return short


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds // 1000}.{milliseconds % 1000:03}s"


def _text(value: object) -> str:
    """A YAML scalar that means exactly this text: JSON's quoting is YAML's as well."""
    return json.dumps(str(value))
