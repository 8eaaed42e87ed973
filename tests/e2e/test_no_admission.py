"""No admission, no credential: whatever is wrong with the filter, the real secret stays out of reach (DESIGN.md §8)."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import httpx
import pytest
from harness import Keybrake, VaultKey

pytestmark = pytest.mark.gate

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
PATHS = ["/v1/charges", "/v1/balance", "/v1/refunds", "/"]
FORGED = {
    "keybrake-admitted": "1",
    "wasm.keybrake-admitted": "1",
    "x-envoy-original-path": "/healthz",
    "keybrake-verdict": "admitted",
}


def nothing_reached_the_vendor(kb: Keybrake) -> None:
    """Not a request, not a byte, not a connection."""
    counts = kb.counts()
    assert (counts["requests"], counts["bytes_received"], counts["connections"]) == (0, 0, 0), counts
    assert kb.stack.envoy.bytes_to_vendor() == 0


def is_stripe_error(answer: httpx.Response) -> bool:
    """Stripe's SDK for Node takes anything else for a success."""
    return answer.request.method == "HEAD" or set(answer.json()["error"]) >= {"type", "code", "message"}


def test_without_the_filter_nothing_is_forwarded(fresh: Callable[..., Keybrake]) -> None:
    kb = fresh(without=("wasm",))
    key = VaultKey("vault_key_any", "", {})
    for method, path, headers in itertools.product(METHODS, PATHS, ({}, FORGED)):
        for base in (f"{kb.url}/stripe", kb.stripe_url):
            answer = kb.request(method, path, key=key, url=base, headers=headers)
            assert answer.status_code == 403, (method, base, path, answer.status_code)
            assert is_stripe_error(answer)
        by_host = kb.request(method, path, key=key, url=kb.url, headers={**headers, "Host": "api.stripe.com"})
        assert by_host.status_code == 403, (method, path)
    nothing_reached_the_vendor(kb)


def test_without_the_filter_the_ledger_stays_reachable(fresh: Callable[..., Keybrake]) -> None:
    kb = fresh(without=("wasm",))
    assert kb.http.get(f"{kb.url}/readyz").status_code == 200
    kb.issue()
    assert kb.audit() == []


def stand_in_admits(config: str) -> str:
    """A configuration in which every request carries the filter's word."""
    admitted = (
        "        - object_key: wasm.keybrake_admitted\n"
        "                          factory_key: envoy.string\n"
        '                          format_string: {text_format_source: {inline_string: "1"}}\n'
        "                        - object_key: keybrake.request_id"
    )
    assert config.count("        - object_key: keybrake.request_id") == 1
    return config.replace("        - object_key: keybrake.request_id", admitted)


def test_the_router_forwards_admitted_reads_and_never_money(fresh: Callable[..., Keybrake]) -> None:
    """Even with the filter's word on it, a write does not pass the router."""
    kb = fresh(without=("wasm",), edit=stand_in_admits)
    key = VaultKey("vault_key_any", "", {})
    bases = (f"{kb.url}/stripe", kb.stripe_url)
    for method, base in itertools.product([method for method in METHODS if method != "GET"], bases):
        answer = kb.request(method, "/v1/charges", key=key, url=base)
        assert answer.status_code == 403, (method, base)
    nothing_reached_the_vendor(kb)
    for base in bases:
        assert kb.request("GET", "/v1/charges", key=key, url=base).status_code == 200
    assert kb.counts()["rejected_credentials"] == []
    assert kb.counts()["executions_total"] == 0


def test_without_rbac_the_filter_alone_still_refuses(fresh: Callable[..., Keybrake]) -> None:
    """Each guard holds by itself: the canary at the start has proven it, and a foreign key gets no further."""
    kb = fresh(without=("rbac",))
    for method in ("GET", "POST"):
        answer = kb.request(method, "/v1/charges", key=VaultKey("vault_key_any", "", {}))
        assert answer.status_code == 401
        assert is_stripe_error(answer)
    nothing_reached_the_vendor(kb)


def test_without_both_guards_the_canary_would_notice(fresh: Callable[..., Keybrake]) -> None:
    """A stack whose gate does not work must not count as started: here the filter is in, but admits without asking."""

    def gate_off(config: str) -> str:
        """Switches the filter off on the vendor's routes."""
        off = (
            "typed_per_filter_config:\n"
            "                            keybrake:\n"
            '                              "@type": type.googleapis.com/envoy.config.route.v3.FilterConfig\n'
            "                              disabled: true\n"
            "                          match: {prefix: /stripe/}\n"
        )
        assert config.count("match: {prefix: /stripe/}\n") == 1
        return config.replace("match: {prefix: /stripe/}\n", off)

    with pytest.raises(Exception, match="has a gate that does not work") as refused:
        fresh(without=("rbac",), edit=gate_off)
    assert "went to the vendor" in str(refused.value) or "gave" in str(refused.value)
