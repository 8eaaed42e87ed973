"""Every row of DESIGN.md's table of refusals (section 7) in which nothing is sent, each in every way into the gate:
its status, type, code and retry hint; in the audit; no balance touched; not one byte at the vendor. A row has one
request here: `test_hostile.py` has the many that end in it."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

import pytest
from harness import Keybrake, VaultKey, eventually, fresh_key
from ledger_side import audited, expect_balance, only_entry
from shape import expect_refusal
from vendor_side import nothing_reaches_the_vendor, vendor_sees
from ways import FORM, WAYS, Way, basic
from wire import Reply, exchange

from stack.build import Artifacts
from stack.calls import call
from stack.envoy_node import unissued_vault_key

pytestmark = pytest.mark.gate

MAX_BODY = 65_536
CAP = "10.99"
ASKED = 'keybrake_commands_total{command="reserve",result="refused"}'
COUNTED = 'keybrake_refusals_total{reason="vault_key_invalid"}'
CHARGE = b"amount=299&currency=usd&source=tok_visa"

every_way = pytest.mark.parametrize("way", WAYS, ids=str)


@pytest.fixture(scope="module")
def kb(stacks_folder: Path, artifacts: Artifacts, envoy: Path) -> Iterator[Keybrake]:
    """A stack with a small limit on bodies."""
    made = Keybrake.start(stacks_folder / "refusals", artifacts, envoy=envoy, plugin={"max_request_bytes": MAX_BODY})
    yield made
    made.stop()


def expect_on_record(kb: Keybrake, key: VaultKey, reply: Reply, code: str, *, free: str = CAP) -> dict[str, Any]:
    """The refusal of a known key is in the audit, under the request id that the answer carried; no money moved."""
    (entry,) = [
        entry for entry in kb.audit(key_id=key.key_id) if entry["request_id"] == reply.headers["keybrake-request-id"]
    ]
    assert (entry["verdict"], entry["reason"], entry["outcome"]) == ("refused", code, None)
    assert (entry["attempts"], entry["vendor_object_id"], entry["stripe_charge_id"]) == (0, None, None)
    expect_balance(kb, key, free=free)
    return entry


def metric(kb: Keybrake, series: str) -> int:
    """The value of one of the ledger's counters; 0 before its first count."""
    text = call("GET", f"{kb.stack.ledger_url}/metrics").body.decode()
    return sum(int(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{series} "))


@every_way
def test_what_is_allowed_goes_through_in_every_way(kb: Keybrake, way: Way) -> None:
    key = kb.issue(allowed_endpoints=["POST /v1/charges", "GET /v1/charges/{id}"])
    with vendor_sees(kb, requests=2, executions=1):
        made = way.charge(kb, key, headers=[("x-agent-run-id", "run-7")])
        assert made.status_code == 200, made
        got = way.send(kb, key, "GET", f"/v1/charges/{made.json()['id']}")
        assert (got.status_code, got.json()) == (200, made.json())
    expect_balance(kb, key, free="8", settled="2.99")
    (entry,) = kb.audit(key_id=key.key_id, operation="charges.create")
    assert entry["request_id"] == made.headers["keybrake-request-id"]
    assert (entry["run_id"], entry["vendor_request_id"]) == ("run-7", made.headers["request-id"])


@every_way
@pytest.mark.parametrize("bearer", [None, "vault_key_"])
def test_no_or_malformed_vault_key(kb: Keybrake, way: Way, bearer: Optional[str]) -> None:
    with nothing_reaches_the_vendor(kb):
        assert expect_refusal(way.charge(kb, bearer), 401, "vault_key_invalid") == {}
        read = way.send(kb, bearer, "GET", "/v1/charges")
        expect_refusal(read, 401, "vault_key_invalid")


@every_way
def test_a_vault_key_that_nobody_issued(kb: Keybrake, way: Way) -> None:
    issued = kb.issue()
    last = issued.secret[-1]
    off = issued.secret[:-1] + ("0" if last != "0" else "1")
    asked, counted = metric(kb, ASKED), metric(kb, COUNTED)
    with nothing_reaches_the_vendor(kb):
        expect_refusal(way.charge(kb, unissued_vault_key()), 401, "vault_key_invalid")
        assert metric(kb, ASKED) == asked + 1
        # Malformed keys are counted here as well, up to a minute later.
        assert metric(kb, COUNTED) > counted
        # One character off: its checksum gives it away, so that nobody is asked.
        expect_refusal(way.charge(kb, off), 401, "vault_key_invalid")
        assert metric(kb, ASKED) == asked + 1
    expect_balance(kb, issued, free=CAP)


@every_way
def test_a_vault_key_as_user_name_is_a_vault_key(kb: Keybrake, way: Way) -> None:
    key = kb.issue()
    with vendor_sees(kb, requests=1, executions=1):
        assert way.charge(kb, None, headers=[basic(key.secret)]).status_code == 200
    with nothing_reaches_the_vendor(kb):
        refused = way.post(kb, None, "/v1/refunds", {"charge": "ch_1"}, headers=[basic(key.secret)])
        expect_refusal(refused, 403, "endpoint_not_allowed")
    assert [entry[:3] for entry in audited(kb, key)] == [
        ("admitted", "charges.create", "settled"),
        ("refused", "refunds.create", "endpoint_not_allowed"),
    ]


@every_way
def test_an_expired_and_a_revoked_vault_key(kb: Keybrake, way: Way) -> None:
    expiring, revoked = kb.issue(expires_in_seconds=60), kb.issue()
    kb.advance(seconds=61)
    kb.revoke(revoked)
    with nothing_reaches_the_vendor(kb):
        for key, code in ((expiring, "vault_key_expired"), (revoked, "vault_key_revoked")):
            reply = way.charge(kb, key)
            assert expect_refusal(reply, 401, code) == {}
            expect_on_record(kb, key, reply, code)
            # Out of scope or not: what ends the key is said first.
            expect_refusal(way.post(kb, key, "/v1/refunds", {"charge": "ch_1"}), 401, code)


@every_way
def test_an_endpoint_out_of_scope(kb: Keybrake, way: Way) -> None:
    allowed = ["POST /v1/charges", "payment_intents.create"]
    key = kb.issue(allowed_endpoints=allowed)
    refused = [
        ("POST", "/v1/refunds", b"charge=ch_1"),
        ("POST", "/v1/charges/ch_1/capture", b""),
        ("GET", "/v1/charges", b""),
        ("POST", "/v1/transfers_of_nobody", b""),
    ]
    with nothing_reaches_the_vendor(kb):
        for method, path, body in refused:
            sent = [("content-type", FORM), ("idempotency-key", fresh_key())] if method == "POST" else []
            reply = way.send(kb, key, method, path, body=body, headers=sent)
            extra = expect_refusal(reply, 403, "endpoint_not_allowed")
            assert extra == {"attempted": f"{method} {path}", "allowed_endpoints": allowed}
            entry = expect_on_record(kb, key, reply, "endpoint_not_allowed")
            assert (entry["method"], entry["path"]) == (method, path)


@every_way
def test_an_endpoint_that_hands_out_credentials_whatever_the_key_says(kb: Keybrake, way: Way) -> None:
    key = kb.issue(allowed_endpoints=["POST /v1/charges"])
    with nothing_reaches_the_vendor(kb):
        reply = way.post(kb, key, "/v1/ephemeral_keys", {"customer": "cus_1"})
        assert expect_refusal(reply, 403, "endpoint_not_allowed")["attempted"] == "POST /v1/ephemeral_keys"
    expect_on_record(kb, key, reply, "endpoint_not_allowed")


@every_way
@pytest.mark.parametrize("header", ["stripe-account", "stripe-context"])
def test_an_account_out_of_scope(kb: Keybrake, way: Way, header: str) -> None:
    key = kb.issue(vendor_accounts=["acct_ours"])
    with nothing_reaches_the_vendor(kb):
        reply = way.charge(kb, key, headers=[(header, "acct_theirs")])
        assert expect_refusal(reply, 403, "account_not_allowed")["param"] == header
    expect_on_record(kb, key, reply, "account_not_allowed")
    if header == "stripe-account":
        with vendor_sees(kb, requests=1, executions=1):
            assert way.charge(kb, key, headers=[(header, "acct_ours")]).status_code == 200


PARAMETERS: list[tuple[Mapping[str, Any], str]] = [
    ({"customer": "cus_bbb"}, "customer"),
    ({"customer": None}, "customer"),
    ({"currency": "gbp"}, "currency"),
    ({"amount": 3000}, "amount"),
]


@every_way
@pytest.mark.parametrize(("change", "param"), PARAMETERS, ids=lambda value: str(value))
def test_a_parameter_out_of_scope(kb: Keybrake, way: Way, change: Mapping[str, Any], param: str) -> None:
    bounds = {"customer": ["cus_aaa"], "currency": ["usd"], "amount": {"max": 2999}}
    key = kb.issue(constraints=bounds, daily_usd_cap="50.00")
    good = {"amount": 2999, "currency": "usd", "customer": "cus_aaa"}
    form = {name: value for name, value in {**good, **change}.items() if value is not None}
    with nothing_reaches_the_vendor(kb):
        reply = way.post(kb, key, "/v1/charges", form)
        assert expect_refusal(reply, 403, "parameter_not_allowed") == {"param": param}
    entry = expect_on_record(kb, key, reply, "parameter_not_allowed", free="50")
    assert entry["param"] == param
    with vendor_sees(kb, requests=1, executions=1):
        assert way.post(kb, key, "/v1/charges", good).status_code == 200


@every_way
def test_a_cap_that_would_be_passed(kb: Keybrake, way: Way) -> None:
    key = kb.issue()
    with nothing_reaches_the_vendor(kb):
        reply = way.charge(kb, key, 1100)
    extra = expect_refusal(reply, 402, "spend_cap_exceeded")
    resets_at = extra.pop("resets_at")
    assert extra == {"limit": "daily_usd_cap", "asked": "11.000000", "left": "10.990000"}
    assert resets_at.endswith("T00:00:00Z")
    told = {name: value for name, value in reply.headers.items() if name.startswith("keybrake-cap-")}
    assert told == {
        "keybrake-cap-limit": "daily_usd_cap",
        "keybrake-cap-asked": "11.000000",
        "keybrake-cap-left": "10.990000",
        "keybrake-cap-resets-at": resets_at,
    }
    entry = expect_on_record(kb, key, reply, "spend_cap_exceeded")
    assert (entry["amount"], entry["currency"], entry["cost_usd"]) == (1100, "usd", "11.000000")


@every_way
def test_an_amount_that_cannot_be_known(kb: Keybrake, way: Way) -> None:
    key = kb.issue(allowed_endpoints=["refunds.create", "charges.create"])
    with nothing_reaches_the_vendor(kb):
        reply = way.post(kb, key, "/v1/refunds", {"charge": "ch_nobodyknows"})
        assert expect_refusal(reply, 403, "amount_unknown") == {}
        expect_on_record(kb, key, reply, "amount_unknown")
        expect_refusal(way.charge(kb, key, currency="jpy"), 403, "amount_unknown")


@pytest.mark.parametrize("way", [way for way in WAYS if way.by == "prefix"], ids=str)
@pytest.mark.parametrize("path", ["/v1/charges", "/twilio/v1/charges", "/", "/metrics", "/internal/v1/commands"])
def test_a_host_or_path_that_belongs_to_no_vendor(kb: Keybrake, way: Way, path: str) -> None:
    key = kb.issue()
    elsewhere = Way("listener", way.protocol, way.trailers)
    with nothing_reaches_the_vendor(kb):
        reply = _to_egress(elsewhere, kb, key, path)
        expect_refusal(reply, 421, "host_not_allowed")
    expect_balance(kb, key, free=CAP)


def _to_egress(way: Way, kb: Keybrake, key: VaultKey, path: str) -> Reply:
    """Without a path prefix, to the listener that needs one."""
    headers = [("authorization", f"Bearer {key.secret}"), ("content-type", FORM), ("idempotency-key", fresh_key())]
    return exchange(way.protocol, kb.stack.options.ports.envoy, "POST", path, headers, CHARGE, trailers=way.trailers)


def padded(length: int) -> bytes:
    """A charge in a body of exactly so many bytes."""
    start = CHARGE + b"&description="
    return start + b"x" * (length - len(start))


@every_way
def test_a_body_one_byte_over_the_limit(kb: Keybrake, way: Way) -> None:
    key = kb.issue()
    sent = [("content-type", FORM), ("idempotency-key", fresh_key())]
    with nothing_reaches_the_vendor(kb):
        reply = way.send(kb, key, "POST", "/v1/charges", body=padded(MAX_BODY + 1), headers=sent)
        assert expect_refusal(reply, 413, "request_too_large") == {}
    expect_on_record(kb, key, reply, "request_too_large")
    with vendor_sees(kb, requests=1, executions=1):
        assert way.send(kb, key, "POST", "/v1/charges", body=padded(MAX_BODY), headers=sent).status_code == 200


@every_way
def test_a_body_over_every_buffer(kb: Keybrake, way: Way) -> None:
    key = kb.issue()
    sent = [("content-type", FORM), ("idempotency-key", fresh_key())]
    with nothing_reaches_the_vendor(kb):
        reply = way.send(kb, key, "POST", "/v1/charges", body=padded(4 * MAX_BODY), headers=sent)
        assert expect_refusal(reply, 413, "request_too_large") == {}
    if "keybrake-request-id" in reply.headers:
        expect_on_record(kb, key, reply, "request_too_large")
    elif way.protocol == "h2" or not way.trailers:
        # Envoy's buffer ran over while the refusal was on its way to the record: Envoy says the same, and it is there.
        told = eventually(lambda: kb.audit(key_id=key.key_id) or None, 5, "the refusal on record")
        assert [entry["reason"] for entry in told] == ["request_too_large"]
    expect_balance(kb, key, free=CAP)


@every_way
def test_what_cannot_be_read_in_exactly_one_way(kb: Keybrake, way: Way) -> None:
    key, body = kb.issue(), b"amount=299&amount=999&currency=usd"
    sent = [("content-type", FORM), ("idempotency-key", fresh_key())]
    with nothing_reaches_the_vendor(kb):
        reply = way.send(kb, key, "POST", "/v1/charges", body=body, headers=sent)
        assert expect_refusal(reply, 400, "request_not_inspectable") == {"param": "amount"}
    assert expect_on_record(kb, key, reply, "request_not_inspectable")["param"] == "amount"


@every_way
def test_an_encoding_that_is_not_accepted(kb: Keybrake, way: Way) -> None:
    key = kb.issue()
    with nothing_reaches_the_vendor(kb):
        sent = [("content-type", "application/json"), ("idempotency-key", fresh_key())]
        reply = way.send(kb, key, "POST", "/v1/charges", body=CHARGE, headers=sent)
        assert expect_refusal(reply, 415, "request_not_inspectable") == {"param": "content-type"}
    expect_on_record(kb, key, reply, "request_not_inspectable")


@every_way
def test_no_idempotency_key_where_one_is_required(kb: Keybrake, way: Way) -> None:
    key = kb.issue()
    with nothing_reaches_the_vendor(kb):
        reply = way.send(kb, key, "POST", "/v1/charges", body=CHARGE, headers=[("content-type", FORM)])
        assert expect_refusal(reply, 400, "idempotency_key_required") == {"param": "idempotency-key"}
    expect_on_record(kb, key, reply, "idempotency_key_required")


@every_way
def test_an_idempotency_key_reused_with_other_parameters(kb: Keybrake, way: Way) -> None:
    first, key, name = kb.issue(), kb.issue(), fresh_key()
    assert way.charge(kb, first, 299, idempotency_key=name).status_code == 200
    with nothing_reaches_the_vendor(kb):
        reply = way.charge(kb, key, 300, idempotency_key=name)
        assert expect_refusal(reply, 400, "idempotency_error", kind="idempotency_error") == {}
    expect_on_record(kb, key, reply, "idempotency_error")
    (moved, refused) = kb.audit(idempotency_key=name)
    assert (moved["outcome"], refused["reason"]) == ("settled", "idempotency_error")


def test_no_word_from_the_ledger_is_503_and_it_heals_by_itself(kb: Keybrake) -> None:
    key, name = kb.issue(allowed_endpoints=["POST /v1/charges", "GET /v1/charges"]), fresh_key()
    assert kb.charge(key, 100).status_code == 200
    kb.stack.ledger.stop()
    with nothing_reaches_the_vendor(kb), concurrent.futures.ThreadPoolExecutor(2 * len(WAYS)) as pool:
        began = time.monotonic()
        asked = [pool.submit(way.charge, kb, key, 299, idempotency_key=name) for way in WAYS]
        asked += [pool.submit(way.send, kb, key, "GET", "/v1/charges") for way in WAYS]
        for answer in asked:
            extra = expect_refusal(answer.result(), 503, "governance_unavailable", kind="api_error", retry="true")
            assert extra == {}
        assert time.monotonic() - began < 4, "a call-out is bounded"
    kb.stack.ledger.start()
    served = eventually(lambda: _served(kb, key, name), 10, "a charge with the ledger back")
    assert kb.executions(name) == 1
    expect_balance(kb, key, free="7", settled="3.99")
    assert only_entry(kb, idempotency_key=name)["stripe_charge_id"] == served.json()["id"]


def _served(kb: Keybrake, key: VaultKey, name: str) -> Optional[Any]:
    answer = kb.charge(key, 299, idempotency_key=name)
    return answer if answer.status_code == 200 else None
