"""Hostile requests: every line of `hostile/*.jsonl`, over HTTP/1.1 and over HTTP/2, by path prefix and by Stripe's own
listener. `hostile_table.py` says what a line means.

What is refused puts not one byte on the wire to the vendor, leaves no hold, stands in the audit when the vault key is
known, and gets the same verdict over both protocols. What counts as normal reaches the vendor as judged, once each.
"""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import acme
import hostile_table
import pytest
from harness import Keybrake, VaultKey, fresh_key
from hostile_table import By, Case, Expected, Verdict, Words
from ledger_side import expect_balance
from shape import expect_refusal
from vendor_side import Seen
from ways import FORM
from wire import Protocol, Reply, exchange

from stack.build import Artifacts

pytestmark = pytest.mark.gate

CHARGE = "amount=299&currency=usd&source=tok_visa"
CAP = Decimal("1000")
# Nobody knows a key by these, so nobody keeps them; the rest of what the filter refuses is on record.
NOT_ON_RECORD = ("vault_key_invalid", "host_not_allowed")

# Headers that the vendor must not see, whoever wrote them.
NEVER_SENT = (
    *("x-envoy-", "x-forwarded-", "x-original-", "x-rewrite-", "keybrake-", "cookie", "upgrade", "http2-settings"),
    *("proxy-", "te", "x-note"),
)


@pytest.fixture(scope="module")
def kb(stacks_folder: Path, artifacts: Artifacts, envoy: Path) -> Iterator[Keybrake]:
    """One stack for all lines, with two vendors; both are the sandbox."""
    plugin = {"vendors": acme.beside_stripe()["vendors"]}
    made = Keybrake.start(stacks_folder / "hostile", artifacts, envoy=envoy, plugin=plugin, vendor_packs=acme.PACKS)
    yield made
    made.stop()


def send(kb: Keybrake, case: Case, key: VaultKey, by: By, protocol: Protocol, name: str) -> Reply:
    """Sends the case, with this idempotency key unless it says otherwise."""
    words = Words(key.secret)
    usual = {"authorization": f"Bearer {key.secret}"}
    if case.method == "POST":
        usual.update({"content-type": FORM, "idempotency-key": name})
    body = case.body if case.body is not None else CHARGE if case.method == "POST" else ""
    sent = [*{**usual, **case.set}.items(), *case.add]
    prefix = {"prefix": "/stripe", "acme": "/acme"}.get(by, "")
    ports = kb.stack.options.ports
    return exchange(
        protocol,
        ports.stripe if by == "listener" else ports.envoy,
        case.method,
        prefix + words.fill(case.path),
        [(header, words.fill(value)) for header, value in sent if value is not None],
        words.fill(body).encode("latin-1"),
        trailers=[(header, words.fill(value)) for header, value in case.trailers],
        host=case.host or ("api.stripe.com" if by == "host" else None),
    )


def verdict(case: Case, reply: Reply) -> Verdict:
    """What the client was told; that a refusal has the vendor's shape, whoever made it."""
    told = Verdict(reply.status_code, reply.headers.get("keybrake-reason"))
    if told.reason is not None and case.method != "HEAD":
        kind = "idempotency_error" if told.reason == "idempotency_error" else "invalid_request_error"
        expect_refusal(reply, told.status, told.reason, kind=kind)
    return told


def expect_same(case: Case, told: dict[tuple[By, Protocol], Verdict]) -> None:
    """The verdict does not depend on the way, unless the line says that it does on the protocol."""
    for (by, protocol), one in told.items():
        assert case.expected[protocol].allows(one), f"{by} {protocol}: {one}, not {case.expected[protocol]}"
    groups: dict[Expected, set[Verdict]] = {}
    for (_, protocol), one in told.items():
        groups.setdefault(case.expected[protocol], set()).add(one)
    assert all(len(verdicts) == 1 for verdicts in groups.values()), told


def expect_on_record(kb: Keybrake, key: VaultKey, replies: list[Reply]) -> None:
    """The key's audit is these refusals and nothing else."""
    wanted = {
        (reply.headers["keybrake-request-id"], reply.headers["keybrake-reason"])
        for reply in replies
        if "keybrake-request-id" in reply.headers and reply.headers["keybrake-reason"] not in NOT_ON_RECORD
    }
    entries = kb.audit(key_id=key.key_id)
    assert {(entry["request_id"], entry["reason"]) for entry in entries} == wanted
    assert {(entry["verdict"], entry["attempts"]) for entry in entries} <= {("refused", 0)}


def seen_by_the_vendor(request: dict[str, Any]) -> str:
    """Method and target of a request that the vendor logged."""
    query = f"?{request['query']}" if request["query"] else ""
    return f"{request['method']} {request['path']}{query}"


def expect_at_the_vendor(kb: Keybrake, case: Case, key: VaultKey, names: list[str], before: Seen) -> None:
    """Each was forwarded once, as judged, without the vault key."""
    after, ways = Seen.now(kb), len(names)
    money = case.method == "POST" and case.expected["h1" if "h1" in case.expected else "h2"].statuses == (200,)
    assert (after.requests - before.requests, after.executions - before.executions) == (ways, ways if money else 0)
    for request in kb.vendor_requests()[-ways:]:
        assert seen_by_the_vendor(request) == case.vendor
        assert "vault_key_" not in json.dumps(request) and request["trailers"] in ([], None)
        for header, _ in request["headers"]:
            assert not header.startswith(NEVER_SENT), header
    settled = str(Decimal("2.99") * ways if money else 0)
    expect_balance(kb, key, free=str(CAP - Decimal(settled)), settled=settled, window="lifetime")


def judge(kb: Keybrake, case: Case) -> None:
    """Sends the case in all its ways and looks at all there is to see."""
    grant: dict[str, Any] = {"allowed_endpoints": ["POST /v1/charges", "GET /v1/charges/{id}"], **case.grant}
    key = kb.issue(**{"daily_usd_cap": None, "lifetime_usd_cap": str(CAP), **grant})
    before = Seen.now(kb)
    ways: list[tuple[By, Protocol]] = [(by, protocol) for by in case.by for protocol in case.expected]
    names = [fresh_key() for _ in ways]
    with concurrent.futures.ThreadPoolExecutor(len(ways)) as pool:
        sent = [pool.submit(send, kb, case, key, by, protocol, name) for (by, protocol), name in zip(ways, names)]
    replies = [reply.result() for reply in sent]
    expect_same(case, {way: verdict(case, reply) for way, reply in zip(ways, replies)})
    if case.vendor is not None:
        return expect_at_the_vendor(kb, case, key, names, before)
    after = Seen.now(kb)
    assert after == before, f"bytes at the vendor: {after.bytes_received - before.bytes_received}"
    expect_on_record(kb, key, replies if case.known else [])
    expect_balance(kb, key, free=str(CAP), window="lifetime")
    return None


TABLES = {name: hostile_table.read(name) for name in ("who", "paths", "forms", "bodies", "idempotency")}


@pytest.mark.parametrize("case", TABLES["who"], ids=str)
def test_who_and_where(kb: Keybrake, case: Case) -> None:
    judge(kb, case)


@pytest.mark.parametrize("case", TABLES["paths"], ids=str)
def test_method_and_path(kb: Keybrake, case: Case) -> None:
    judge(kb, case)


@pytest.mark.parametrize("case", TABLES["forms"], ids=str)
def test_form(kb: Keybrake, case: Case) -> None:
    judge(kb, case)


@pytest.mark.parametrize("case", TABLES["bodies"], ids=str)
def test_type_json_and_framing(kb: Keybrake, case: Case) -> None:
    judge(kb, case)


@pytest.mark.parametrize("case", TABLES["idempotency"], ids=str)
def test_idempotency_key(kb: Keybrake, case: Case) -> None:
    judge(kb, case)


def test_nothing_came_later(kb: Keybrake) -> None:
    """When all lines are through, the vendor has seen the normal requests and nothing else, and no money is held."""
    normal = {case.vendor for cases in TABLES.values() for case in cases if case.vendor is not None}
    assert {seen_by_the_vendor(request) for request in kb.vendor_requests()} <= normal
    assert kb.audit(outcome="held") == [] and kb.audit(outcome="in_flight") == []
