"""What is compared: three Envoys from the shipped template (bare, no-op ext_authz, governed) before one vendor.

The vendor is a further Envoy that answers at once; so is the no-op ext_authz, on a Unix socket over HTTP/2 like the
ledger's. All have one worker.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from stack import envoy_binary
from stack.calls import NoAnswer, call
from stack.child import Child
from stack.envoy_config import Changes
from stack.envoy_node import EnvoyNode
from stack.local import Options, Stack
from stack.polling import eventually
from stack.ports import LOOPBACK, Ports, free_ports
from stack.vendor import Vendor

FAKE_SECRET = "sk_test_sandbox_bench"
SIDES = ("bare", "ext_authz", "governed")

CHARGE = {
    "id": "ch_bench",
    "object": "charge",
    "amount": 100,
    "amount_captured": 100,
    "amount_refunded": 0,
    "balance_transaction": "txn_bench",
    "billing_details": {"address": None, "email": None, "name": None},
    "captured": True,
    "created": 1700000000,
    "currency": "usd",
    "customer": "cus_bench",
    "description": "bench",
    "disputed": False,
    "livemode": False,
    "metadata": {},
    "outcome": {"network_status": "approved_by_network"},
    "paid": True,
    "payment_intent": None,
    "payment_method": "pm_bench",
    "refunded": False,
    "status": "succeeded",
}

HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
BUFFER = "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"


def _at(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


def _answering(name: str, address: dict[str, Any], codec: str, body: str) -> dict[str, Any]:
    """Answers with this text, in which Envoy puts in what stands between `%`."""
    answer = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 200},
        "response_headers_to_add": [{"header": {"key": "request-id", "value": "req_bench"}}],
    }
    manager = {
        "@type": HCM,
        "stat_prefix": name,
        "codec_type": codec,
        "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": [answer]}]},
        "local_reply_config": {
            "body_format": {"text_format_source": {"inline_string": body}, "content_type": "application/json"}
        },
        # A direct response does not wait for the body, and what answers before a request's end closes the connection;
        # vendors keep theirs.
        "http_filters": [
            {"name": "envoy.filters.http.buffer", "typed_config": {"@type": BUFFER, "max_request_bytes": 1 << 20}},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}},
        ],
    }
    return {
        "name": name,
        "address": address,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


AUTHZ_FILTER = """\
                  - name: ext_authz
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
                      http_service:
                        server_uri: {{uri: "http://authz", cluster: authz, timeout: 1s}}
{router}"""
AUTHZ_CLUSTER = """\
  clusters:
    - name: authz
      type: STATIC
      connect_timeout: 1s
      load_assignment:
        cluster_name: authz
        endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{pipe: {{path: {path}}}}}}}}}]}}]
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {{http2_protocol_options: {{}}}}
"""


def _with_authz(socket: Path) -> Callable[[str], str]:
    """Edits the filled template: asks the no-op service before the first listener's router."""

    def edit(text: str) -> str:
        router = "                  - &router\n"
        assert router in text, "the template's router has moved"
        text = text.replace(router, AUTHZ_FILTER.format(router=router), 1)
        text, count = re.subn(r"(?m)^  clusters:\n", lambda _: AUTHZ_CLUSTER.format(path=socket), text, count=1)
        assert count == 1, "the template's clusters have moved"
        return text

    return edit


@dataclass
class Sides:
    """The running Envoys, by name, and what is needed to call them."""

    stack: Stack
    nodes: dict[str, EnvoyNode]
    vault_key_file: Path

    def cpu_seconds(self, side: str) -> float:
        """CPU that this side's Envoy has used so far, user and system."""
        fields = Path(f"/proc/{self.nodes[side].child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Running:
    """Starts the vendor, the stack and the three sides; ends them all."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        self._children: list[Callable[[], object]] = []

    def __enter__(self) -> Sides:
        try:
            return self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __exit__(self, *_: object) -> None:
        for ender in reversed(self._children):
            ender()
        self._children.clear()

    def _start(self) -> Sides:
        vendor_port, vendor_admin = free_ports(2)
        authz_socket = self._folder / "authz.sock"
        vendor = Vendor.stripe(FAKE_SECRET, f"http://{LOOPBACK}:{vendor_port}")
        stack = Stack(Options(run_dir=self._folder / "run", ports=Ports.free(), vendor=vendor, workers=1), self._say)
        stack.folder.make()
        self._start_vendor(stack, vendor_port, vendor_admin, authz_socket)
        self._children.append(lambda: stack.stop(drained=False))
        stack.start()
        nodes = {"governed": stack.envoy}
        plain = ("wasm", "rbac")
        nodes["bare"] = stack.add_envoy(Ports.free(), Changes(without=plain))
        nodes["ext_authz"] = stack.add_envoy(Ports.free(), Changes(without=plain, edit=_with_authz(authz_socket)))
        key_file = self._folder / "vault_key"
        key_file.write_text(issue(stack))
        key_file.chmod(0o600)
        return Sides(stack, nodes, key_file)

    def _start_vendor(self, stack: Stack, port: int, admin: int, authz_socket: Path) -> None:
        config = {
            "node": {"id": "bench-vendor", "cluster": "bench"},
            "admin": {"address": _at(admin)},
            "static_resources": {
                "listeners": [
                    _answering("vendor", _at(port), "HTTP1", json.dumps({**CHARGE, "id": "ch_%REQ(X-REQUEST-ID)%"})),
                    _answering("authz", {"pipe": {"path": str(authz_socket)}}, "HTTP2", ""),
                ]
            },
        }
        file = self._folder / "vendor.json"
        file.write_text(json.dumps(config))
        binary = envoy_binary.find(os.environ)
        argv = [binary, "-c", file, "--concurrency", 1, "--disable-hot-restart", "-l", "warning"]
        child = Child(
            "vendor",
            argv,
            pid_file=self._folder / "vendor.pid.json",
            log_file=self._folder / "vendor.log",
            environment=stack.child_environment(),
        )
        child.start()
        self._children.append(lambda: child.stop(5.0))

        def live() -> bool:
            try:
                return call("GET", f"http://{LOOPBACK}:{admin}/ready", timeout_s=2).status == 200
            except NoAnswer:
                return False

        eventually(live, 30.0, "the vendor's Envoy")


def issue(stack: Stack) -> str:
    """A vault key for charges and reads, with a cap that no run reaches."""
    answer = call(
        "POST",
        f"{stack.ledger_url}/admin/vault_keys",
        bearer=stack.admin_key,
        json_body={
            "label": "bench",
            "vendor": "stripe",
            "allowed_endpoints": ["POST /v1/charges", "GET /v1/charges/{id}"],
            "daily_usd_cap": "9999999999.99",
            "expires_in_seconds": 7200,
        },
    )
    assert answer.status == 201, answer.body
    return str(answer.json()["vault_key"])
