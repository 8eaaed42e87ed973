"""The shipped Envoy configuration: who is routed where, what the vendor sees, Envoy's own answers, the access log."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import httpx
import pytest
from harness import Keybrake, eventually, fresh_key

from stack import StackError
from stack.ports import LOOPBACK, Ports

NOT_FOR_THE_VENDOR = re.compile(r"x-envoy-|x-forwarded-|keybrake-|x-request-id|x-agent-run-id|traceparent|tracestate")
FORGED = {
    "x-request-id": "00000000-0000-0000-0000-000000000000",
    "x-forwarded-for": "203.0.113.7",
    "x-forwarded-host": "evil.example",
    "x-envoy-retry-on": "5xx,reset,connect-failure,retriable-status-codes",
    "x-envoy-max-retries": "5",
    "x-envoy-upstream-rq-timeout-ms": "1",
    "x-envoy-upstream-alt-stat-name": "x",
    "x-envoy-decorator-operation": "x",
    "keybrake-internal-key": "forged",
    "keybrake-upstream": "1",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": "a=b",
    "x-agent-run-id": "run-1",
}
INTERNAL = {name: value for name, value in FORGED.items() if not name.startswith("x-forwarded-")}
READS = ["POST /v1/charges", "GET /v1/charges", "GET /v1/charges/{id}"]

LEDGER_ROUTES = [
    ("GET", "/healthz", 200),
    ("GET", "/readyz", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/audit", 401),
    ("GET", "/admin/vault_keys", 401),
    ("POST", "/admin/vault_keys", 401),
    ("DELETE", "/admin/vault_keys/vk_x", 401),
    ("PATCH", "/admin/vault_keys/vk_x", 401),
    ("GET", "/admin/requests", 401),
    ("POST", "/admin/requests/0123/resolve", 401),
]
NOT_ROUTED = [
    ("GET", "/metrics"),
    ("GET", "/internal"),
    ("POST", "/internal/v1/commands"),
    ("GET", "/"),
    ("GET", "/admin"),
    ("PUT", "/admin/vault_keys"),
    ("OPTIONS", "/admin/vault_keys"),
    ("HEAD", "/healthz"),
    ("POST", "/healthz"),
    ("POST", "/audit"),
    ("GET", "/audit/"),
    ("GET", "/audit/x"),
    ("GET", "/readyz/"),
    ("GET", "/admin/../metrics"),
    ("GET", "/admin/%2e%2e/metrics"),
    ("POST", "/admin/../internal/v1/commands"),
    ("POST", "/admin/..%2finternal/v1/commands"),
    ("POST", "/admin/%5c..%5cinternal/v1/commands"),
    ("POST", "//internal/v1/commands"),
    ("GET", "/stripe"),
    ("GET", "/stripefoo/v1/charges"),
    ("GET", "/v1/charges"),
]


def to_ledger(kb: Keybrake) -> int:
    """How many requests Envoy has routed to the ledger's public API."""
    return sum(kb.stack.envoy.stats(r"^cluster\.keybrake_api\.upstream_rq_total$").values())


def raw(port: int, request: bytes, deadline_s: float = 10.0) -> bytes:
    """Sends these bytes and reads one answer."""
    with socket.create_connection((LOOPBACK, port), timeout=deadline_s) as connection:
        connection.sendall(request)
        answer = b""
        while not whole(answer):
            part = connection.recv(65536)
            if not part:
                break
            answer += part
        return answer


def whole(answer: bytes) -> bool:
    """Whether the body is as long as its header says."""
    head, parted, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head)
    return bool(parted) and length is not None and len(body) >= int(length[1])


def line(method: str, path: str, host: str = "127.0.0.1", more: str = "") -> bytes:
    """A request whose path no client library has touched."""
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n".encode()


def status_of(answer: bytes) -> int:
    """Of a raw answer."""
    return int(answer.split(b" ", 2)[1])


def stripe_error(answer: httpx.Response) -> dict[str, Any]:
    """The error object of an answer that Stripe's SDKs understand."""
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, Any] = answer.json()["error"]
    assert error["message"].startswith("Keybrake: "), error
    return error


# Routes


@pytest.mark.parametrize(("method", "path", "status"), LEDGER_ROUTES)
def test_the_ledgers_public_api_is_routed(keybrake: Keybrake, method: str, path: str, status: int) -> None:
    before = to_ledger(keybrake)
    assert keybrake.http.request(method, keybrake.url + path).status_code == status
    assert to_ledger(keybrake) == before + 1


@pytest.mark.parametrize(("method", "path"), NOT_ROUTED)
def test_nothing_else_is_routed_anywhere(keybrake: Keybrake, method: str, path: str) -> None:
    before = (to_ledger(keybrake), keybrake.counts()["requests"])
    assert 400 <= status_of(raw(keybrake.stack.options.ports.envoy, line(method, path))) < 500
    assert (to_ledger(keybrake), keybrake.counts()["requests"]) == before


@pytest.mark.parametrize("path", ["/audit", "/readyz", "/healthz", "/admin/vault_keys", "/metrics", "/openapi.json"])
def test_stripes_own_listener_does_not_lead_to_the_ledger(keybrake: Keybrake, path: str) -> None:
    before = to_ledger(keybrake)
    assert 400 <= keybrake.http.get(keybrake.stripe_url + path).status_code < 500
    by_host = raw(keybrake.stack.options.ports.envoy, line("GET", path, host="api.stripe.com"))
    assert 400 <= status_of(by_host) < 500
    assert to_ledger(keybrake) == before


def test_a_vendor_is_reached_by_prefix_by_host_and_by_listener(keybrake: Keybrake) -> None:
    key = keybrake.issue(allowed_endpoints=READS)
    for base, host in (
        (f"{keybrake.url}/stripe", None),
        (f"{keybrake.url}/stripe", "api.stripe.com"),
        (keybrake.url, "api.stripe.com"),
        (keybrake.url, "api.stripe.com:443"),
        (keybrake.stripe_url, None),
        (keybrake.stripe_url, "api.stripe.com"),
    ):
        headers = {"Host": host} if host else {}
        idempotency_key = fresh_key()
        paid = keybrake.charge(key, 100, url=base, headers=headers, idempotency_key=idempotency_key)
        assert paid.status_code == 200, (base, host, paid.text)
        assert keybrake.executions(idempotency_key) == 1
        read = keybrake.get(key, f"/v1/charges/{paid.json()['id']}", url=base, headers=headers)
        assert read.json()["id"] == paid.json()["id"], (base, host)


def test_a_host_that_nobody_configured_is_misdirected(keybrake: Keybrake) -> None:
    answer = keybrake.charge(keybrake.issue(), 100, url=keybrake.url, headers={"Host": "api.evil.example"})
    assert answer.status_code == 421
    assert stripe_error(answer)["code"] == "host_not_allowed"


# What the vendor sees


# With a forged x-forwarded-for Envoy takes the client for external; without one it might take it for internal, and an
# internal client's x-envoy-* count.
@pytest.mark.parametrize("forged", [FORGED, {**FORGED, "x-forwarded-for": ""}, INTERNAL], ids=["all", "empty", "none"])
def test_the_vendor_sees_nothing_of_ours_and_nothing_forged(keybrake: Keybrake, forged: dict[str, str]) -> None:
    key = keybrake.issue(allowed_endpoints=READS)
    last = max((entry["n"] for entry in keybrake.vendor_requests()), default=0)
    paid = keybrake.charge(key, 100, headers=forged)
    assert paid.status_code == 200, paid.text
    assert keybrake.get(key, "/v1/charges", headers=forged).status_code == 200
    seen = [entry for entry in keybrake.vendor_requests() if entry["n"] > last]
    assert [entry["method"] for entry in seen] == ["POST", "GET"], "and no retry of ours"
    for entry in seen:
        names = [name.lower() for name, _ in entry["headers"]]
        assert not [name for name in names if NOT_FOR_THE_VENDOR.match(name)], names
        assert names.count("authorization") == 1
        assert dict(entry["headers"])["host"] == "api.stripe.com"
        assert entry["sni"] == "api.stripe.com"
    assert keybrake.counts()["rejected_credentials"] == []
    assert paid.headers["keybrake-request-id"] != FORGED["x-request-id"]


@pytest.mark.parametrize("forged", [FORGED, INTERNAL], ids=["all", "none"])
def test_a_client_cannot_make_envoy_retry_or_give_up_early(keybrake: Keybrake, forged: dict[str, str]) -> None:
    key = keybrake.issue(allowed_endpoints=READS)
    before = keybrake.counts()["requests"]
    keybrake.fault({"kind": "status", "status": 503, "delay_ms": 100}, method="GET", path="/v1/charges/ch_none")
    answer = keybrake.get(key, "/v1/charges/ch_none", headers=forged)
    assert answer.status_code == 503
    assert keybrake.counts()["requests"] == before + 1


def test_a_replaced_secret_counts_without_a_restart(fresh: Callable[..., Keybrake]) -> None:
    kb = fresh()
    key = kb.issue(allowed_endpoints=READS)
    right = kb.stack.vendor_secret

    def read_gives(status: int) -> Callable[[], bool]:
        return lambda: kb.get(key, "/v1/charges").status_code == status

    assert read_gives(200)()
    kb.stack.folder.write_secret("stripe_credential", "Bearer sk_test_sandbox_another")
    eventually(read_gives(401), 5, "the vendor refuses the other secret")
    kb.stack.folder.write_secret("stripe_credential", f"Bearer {right}")
    eventually(read_gives(200), 5, "the right secret is back")


@pytest.mark.parametrize("wrong", ["name", "authority"])
def test_a_vendor_that_cannot_prove_who_it_is_gets_nothing(
    fresh: Callable[..., Keybrake], tmp_path: Path, wrong: str
) -> None:
    def other_name(config: str) -> str:
        checked = '{san_type: DNS, matcher: {exact: "api.stripe.com"}}'
        assert config.count(checked) == 1
        return config.replace(checked, '{san_type: DNS, matcher: {exact: "other.example"}}')

    kb = fresh(edit=other_name if wrong == "name" else None)
    if wrong == "authority":
        # An authority of its own, made by another sandbox: well-formed, and not the one that signed.
        other = fresh()
        assert other.stack.sandbox is not None
        kb.stack.folder.write_trusted("vendor_ca", other.stack.sandbox.ca)
        kb.stack.envoy.restart()
    key = kb.issue(allowed_endpoints=READS)
    assert kb.get(key, "/v1/charges").status_code == 503
    paid = kb.charge(key, 100)
    assert paid.status_code >= 500, paid.text
    assert kb.counts()["requests"] == 0
    assert tmp_path.exists()


# Envoy's own answers


def test_a_body_over_the_limit_is_refused_in_the_vendors_shape(keybrake: Keybrake) -> None:
    key = keybrake.issue()
    before = keybrake.counts()["requests"]
    for size in (1_048_577, 3_000_000):
        answer = keybrake.charge(key, 100, form={"description": "x" * size})
        assert answer.status_code == 413, size
        error = stripe_error(answer)
        assert (error["type"], error["code"]) == ("invalid_request_error", "request_too_large")
        assert answer.headers["keybrake-reason"] == "request_too_large"
        assert answer.headers["stripe-should-retry"] == "false"
    assert keybrake.counts()["requests"] == before


def test_a_body_that_never_comes_is_given_up_with_no_hold_left(fresh: Callable[..., Keybrake]) -> None:
    kb = fresh(request_timeout_ms=500)
    key = kb.issue()
    more = f"Authorization: Bearer {key.secret}\r\nIdempotency-Key: slow\r\nContent-Length: 100\r\n"
    more += "Content-Type: application/x-www-form-urlencoded\r\n"
    head, _, body = raw(
        kb.stack.options.ports.envoy, line("POST", "/stripe/v1/charges", more=more) + b"amount=1"
    ).partition(b"\r\n\r\n")
    assert status_of(head) == 408
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    assert kb.balance(key).free == kb.balance(key).cap
    assert kb.audit(idempotency_key="slow") == []


def test_a_vendor_that_is_down_is_an_error_in_its_own_shape(fresh: Callable[..., Keybrake]) -> None:
    kb = fresh()
    key = kb.issue(allowed_endpoints=READS)
    assert kb.stack.sandbox is not None
    kb.stack.sandbox.stop()
    answer = kb.get(key, "/v1/charges")
    assert answer.status_code == 503
    assert stripe_error(answer)["type"] == "api_error"
    assert answer.headers["stripe-should-retry"] == "true"
    kb.stack.sandbox.start()
    eventually(lambda: kb.get(key, "/v1/charges").status_code == 200, 10, "the vendor is back")


def test_a_ledger_that_is_down_is_a_problem_on_its_own_api(fresh: Callable[..., Keybrake]) -> None:
    kb = fresh()
    kb.stack.ledger.stop()
    answer = kb.http.get(f"{kb.url}/audit")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 503
    kb.stack.ledger.start()
    eventually(lambda: kb.http.get(f"{kb.url}/readyz").status_code == 200, 10, "the ledger is back")


def test_the_filters_own_answers_are_left_alone(keybrake: Keybrake) -> None:
    refused = keybrake.request("GET", "/v1/charges")
    assert refused.status_code == 401
    assert stripe_error(refused)["code"] == "vault_key_invalid"
    over = keybrake.charge(keybrake.issue(daily_usd_cap=1), 200)
    assert over.status_code == 402
    assert stripe_error(over)["code"] == "spend_cap_exceeded"


# Log, metrics, validation


def logged(kb: Keybrake, request_id: str) -> dict[str, Any]:
    """The access log's line of a request."""

    def find() -> Optional[list[dict[str, Any]]]:
        lines = [json.loads(text) for text in kb.stack.envoy.access_log.read_text().splitlines() if text.endswith("}")]
        return [entry for entry in lines if entry["request_id"] == request_id] or None

    (entry,) = eventually(find, 5, f"request {request_id} is in the access log")
    return entry


def test_the_access_log_says_what_became_of_a_charge(keybrake: Keybrake) -> None:
    key = keybrake.issue(allowed_endpoints=READS)
    paid = keybrake.charge(key, 100)
    entry = logged(keybrake, paid.headers["keybrake-request-id"])
    assert (entry["method"], entry["path"], entry["vendor"], entry["status"]) == (
        "POST",
        "/stripe/v1/charges",
        "stripe",
        200,
    )
    assert entry["verdict"] == "admitted"
    assert entry["upstream_status"] in (200, "200")
    assert entry["vendor_request_id"] == paid.headers["request-id"]
    assert entry["outcome"]
    assert entry["hold"]


def test_every_line_of_the_access_log_names_its_request(keybrake: Keybrake) -> None:
    """Also a read's, whose x-request-id is taken off before the vendor."""
    key = keybrake.issue(allowed_endpoints=READS)
    assert keybrake.get(key, "/v1/charges").status_code == 200
    logged(keybrake, keybrake.charge(key, 100).headers["keybrake-request-id"])
    lines = [json.loads(text) for text in keybrake.stack.envoy.access_log.read_text().splitlines()]
    routed = [entry for entry in lines if entry["vendor"]]
    assert {entry["method"] for entry in routed} >= {"GET", "POST"}
    assert [entry for entry in routed if not entry["request_id"]] == []


def test_the_access_log_holds_no_key_and_no_query(keybrake: Keybrake) -> None:
    key = keybrake.issue(allowed_endpoints=READS)
    mark = fresh_key("query")
    keybrake.get(key, f"/v1/charges?limit=1&starting_after={mark}")
    paid = keybrake.charge(key, 100)
    logged(keybrake, paid.headers["keybrake-request-id"])
    text = keybrake.stack.envoy.access_log.read_text()
    assert mark not in text
    assert key.secret not in text
    assert re.search(r"vault_key_[0-9a-f]{8}", text) is None
    assert keybrake.stack.vendor_secret not in text


def test_the_filters_metrics_have_labels_and_no_keys(keybrake: Keybrake) -> None:
    key = keybrake.issue()
    keybrake.charge(key, 100)
    shown = keybrake.http.get(f"{keybrake.stack.envoy.admin_url}/stats/prometheus?filter=keybrake").text
    assert re.search(r'^keybrake_requests\{verdict="admitted"\} [1-9]', shown, re.MULTILINE), shown
    assert re.search(r"^keybrake_open_requests\{\} 0$", shown, re.MULTILINE), shown
    assert key.key_id not in shown


def test_an_unknown_field_of_the_plugin_configuration_stops_envoy(fresh: Callable[..., Keybrake]) -> None:
    with pytest.raises(StackError, match="envoy ended before it was ready"):
        fresh(plugin={"fail_open": True})


def test_a_second_envoy_shares_the_ledger(fresh: Callable[..., Keybrake]) -> None:
    kb = fresh()
    second = kb.second_envoy()
    assert second.ports.envoy != kb.stack.options.ports.envoy
    key = kb.issue()
    paid = kb.charge(key, 299, idempotency_key="both")
    again = kb.charge(key, 299, idempotency_key="both", url=f"{second.url}/stripe")
    assert again.json()["id"] == paid.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert kb.executions("both") == 1


def test_ports_of_a_second_envoy_are_checked_too(fresh: Callable[..., Keybrake]) -> None:
    """Two Envoys bind one port without an error and share its traffic."""
    kb = fresh()
    taken = kb.stack.options.ports
    with pytest.raises(StackError, match=f"port {taken.envoy} is taken"):
        kb.stack.add_envoy(dataclasses.replace(Ports.free(), envoy=taken.envoy))
