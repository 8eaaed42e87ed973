"""The pre-flight says "not charged" only when that is known. Whatever else happens is an exception."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any, Callable, Optional

import keybrake
import pytest
import stripe
from keybrake.testing import LocalStack, Sandbox
from words import CHARGES, charge

# Requests to a made-up server.
ENOUGH = 20
ENTRY = {
    "id": "h1", "time": "2026-07-01T12:00:00Z", "key_id": "vk_1", "label": "l", "vendor": "stripe",
    "operation": "charges.create", "method": "POST", "idempotency_key": "k1", "client_idempotency_key": None,
    "amount": 999, "currency": "usd", "cost_usd": "9.990000", "verdict": "admitted", "reason": None,
    "outcome": "settled", "vendor_object_id": "ch_1", "stripe_charge_id": "ch_1", "replays": 0,
}  # fmt: skip


def test_a_second_charge_is_never_asked_for(
    kb: keybrake.Client, customer: str, sandbox: Sandbox, assert_charged_once: Callable[[str], str]
) -> None:
    name = keybrake.idempotency_key(customer, 999, "2026-07")

    def bill() -> str:
        found = kb.preflight(idempotency_key=name)
        if found is not None:
            return found
        with kb.vault_key(label="bill", allowed_endpoints=CHARGES, daily_usd_cap="9.99") as key:
            return str(charge(kb, key, customer, 999, name).id)

    first = bill()
    assert [bill(), bill()] == [first, first]
    assert sandbox.requests(name) == 1, "the pre-flight ended the second try before the vendor"
    assert assert_charged_once(name) == first
    other_month = keybrake.idempotency_key(customer, 999, "2026-08")
    assert kb.preflight(idempotency_key=other_month) is None


def test_what_was_refused_or_declined_was_not_charged(kb: keybrake.Client, customer: str) -> None:
    with kb.vault_key(label="no", allowed_endpoints=CHARGES, daily_usd_cap="1") as key:
        with pytest.raises(stripe.CardError):
            charge(kb, key, customer, 999, customer)
        params: Any = {"amount": 99, "currency": "usd", "source": "tok_chargeDeclined"}
        with pytest.raises(stripe.CardError):
            keybrake.stripe_client(key, url=kb.url).v1.charges.create(
                params=params, options={"idempotency_key": f"{customer}-declined"}
            )
    assert kb.preflight(idempotency_key=customer) is None
    assert kb.preflight(idempotency_key=f"{customer}-declined") is None


def test_a_lost_answer_is_unknown_until_the_same_key_brings_it(
    kb: keybrake.Client, customer: str, sandbox: Sandbox, assert_charged_once: Callable[[str], str]
) -> None:
    sandbox.fault({"kind": "reset_before_answer"}, idempotency_key=customer)
    with kb.vault_key(label="lost", allowed_endpoints=CHARGES, daily_usd_cap="9.99") as key:
        params: Any = {"amount": 999, "currency": "usd", "customer": customer, "source": "tok_visa"}
        impatient: Any = {"idempotency_key": customer, "max_network_retries": 0}
        with pytest.raises(stripe.APIError):
            keybrake.stripe_client(key, url=kb.url).v1.charges.create(params=params, options=impatient)
        with pytest.raises(keybrake.Unknown, match="nobody knows") as caught:
            kb.preflight(idempotency_key=customer)
        assert caught.value.entry is not None and caught.value.entry.outcome == "unknown"
        made = charge(kb, key, customer, 999, customer)
    assert assert_charged_once(customer) == made.id


def test_a_charge_under_way_is_unknown(kb: keybrake.Client, customer: str, sandbox: Sandbox) -> None:
    sandbox.fault({"kind": "delay", "delay_ms": 1500}, idempotency_key=customer)
    with kb.vault_key(label="slow", allowed_endpoints=CHARGES, daily_usd_cap="9.99") as key:
        charging = threading.Thread(target=charge, args=(kb, key, customer, 999, customer))
        charging.start()
        while next(iter(kb.audit(idempotency_key=customer)), None) is None:
            assert charging.is_alive(), "it ended before it was seen"
        with pytest.raises(keybrake.Unknown, match="under way"):
            kb.preflight(idempotency_key=customer)
        charging.join()
    assert kb.preflight(idempotency_key=customer) is not None


def test_an_idempotency_key_that_took_no_money_is_no_charge_and_no_free_key(kb: keybrake.Client, customer: str) -> None:
    with kb.vault_key(label="c", allowed_endpoints=["POST /v1/customers"], uncapped=True) as key:
        keybrake.stripe_client(key, url=kb.url).v1.customers.create(options={"idempotency_key": customer})
    with pytest.raises(keybrake.Unknown, match=r"customers\.create"):
        kb.preflight(idempotency_key=customer)


def test_a_key_that_would_match_everything_is_refused(kb: keybrake.Client) -> None:
    for empty in ("", " "):
        with pytest.raises(ValueError, match="empty"):
            kb.preflight(idempotency_key=empty)
    with pytest.raises(ValueError, match="label"):
        kb.audit(label="")


def test_nobody_there_is_unavailable(keybrake_stack: LocalStack) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # taken, and nobody listens
        with (
            keybrake.Client(f"http://127.0.0.1:{held.getsockname()[1]}", audit_key="fake") as client,
            pytest.raises(keybrake.Unavailable),
        ):
            client.preflight(idempotency_key="k1")
    with keybrake.Client(keybrake_stack.url, audit_key="fake") as client, pytest.raises(keybrake.ApiError) as refused:
        client.preflight(idempotency_key="k1")
    assert refused.value.code == "unauthenticated"


@contextlib.contextmanager
def answering(
    status: int, body: bytes, declared: int, *, asked: Optional[list[str]] = None, after_s: float = 0
) -> Iterator[keybrake.Client]:
    """A client of a server that always gives this answer, with this content length, and perhaps late. `asked` gets the
    methods of the requests, and ends it after many."""
    over = threading.Event()

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if asked is not None:
                asked.append(self.command)
            over.wait(after_s)
            if asked is not None and len(asked) > ENOUGH:
                self.send_error(500)
                return
            self.send_response(status)
            self.send_header("Content-Length", str(declared))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            with keybrake.Client(url, admin_key="fake", audit_key="fake", timeout_s=0.5 if after_s else 5) as client:
                yield client
        finally:
            over.set()
            server.shutdown()
            serving.join()


def test_pages_without_an_end_are_malformed() -> None:
    body = json.dumps(page(ENTRY, next_cursor="again")).encode()
    endless = pytest.raises(keybrake.MalformedAnswer, match="do not come to an end")
    with answering(200, body, len(body), asked=[]) as client, endless:
        client.preflight(idempotency_key="k1")


def page(*entries: Any, next_cursor: Any = None) -> dict[str, Any]:
    """A page of the audit."""
    return {"entries": list(entries), "next_cursor": next_cursor}


def test_the_made_up_entry_is_one_that_would_be_believed() -> None:
    body = json.dumps(page(ENTRY)).encode()
    with answering(200, body, len(body)) as client:
        assert client.preflight(idempotency_key="k1") == "ch_1"
    body = json.dumps(page({**ENTRY, "outcome": "released"})).encode()
    with answering(200, body, len(body)) as client:
        assert client.preflight(idempotency_key="k1") is None


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, {}),
        (200, []),
        (200, None),
        (200, {"entries": []}),
        (200, {"entries": None, "next_cursor": None}),
        (200, {"entries": {}, "next_cursor": None}),
        (200, page(next_cursor=7)),
        (200, page(None)),
        (200, page({})),
        (200, page({**ENTRY, "idempotency_key": "k2"})),
        (200, page({**ENTRY, "idempotency_key": None})),
        (200, page({**ENTRY, "vendor": "twilio"})),
        (200, page({**ENTRY, "verdict": "waived"})),
        (200, page({**ENTRY, "outcome": "vanished"})),
        (200, page({**ENTRY, "cost_usd": "much"})),
        (200, page({**ENTRY, "stripe_charge_id": 7})),
        (200, page({name: value for name, value in ENTRY.items() if name != "outcome"})),
        (204, page()),
        (302, page()),
        (404, {"error": "no such route"}),
        (502, {"error": "upstream"}),
    ],
)
def test_an_answer_that_is_not_as_documented_is_malformed(status: int, answer: Any) -> None:
    body = b"" if status == 204 else json.dumps(answer).encode()
    with answering(status, body, len(body)) as client, pytest.raises(keybrake.MalformedAnswer):
        client.preflight(idempotency_key="k1")


@pytest.mark.parametrize("body", [b"", b"<html>no healthy upstream</html>", b'{"entries": ['])
def test_a_body_that_is_no_json_or_cut_is_unavailable(body: bytes) -> None:
    with answering(200, body, len(body)) as client, pytest.raises(keybrake.MalformedAnswer):
        client.preflight(idempotency_key="k1")
    with answering(200, body, len(body) + 10) as client, pytest.raises(keybrake.Unavailable):
        client.preflight(idempotency_key="k1")


@pytest.mark.parametrize("outcome", ["in_flight", "unknown", "abandoned", None])
def test_whatever_is_not_known_to_have_come_to_nothing_is_unknown(outcome: Any) -> None:
    body = json.dumps(page({**ENTRY, "outcome": outcome, "stripe_charge_id": None})).encode()
    with answering(200, body, len(body)) as client, pytest.raises(keybrake.Unknown):
        client.preflight(idempotency_key="k1")


def test_a_ledger_that_is_busy_is_both_unavailable_and_an_api_error() -> None:
    told = {"type": "urn:keybrake:problem:unavailable", "title": "The ledger is not available", "status": 503,
            "detail": "the ledger is busy; nothing was done"}  # fmt: skip
    body = json.dumps(told).encode()
    with answering(503, body, len(body)) as client, pytest.raises(keybrake.Unavailable) as caught:
        client.preflight(idempotency_key="k1")
    assert isinstance(caught.value, keybrake.ApiError) and caught.value.code == "unavailable"


def test_a_gateway_without_its_ledger_says_so() -> None:
    told = {"type": "about:blank", "title": "Keybrake could not reach the ledger", "status": 503, "detail": "refused"}
    body = json.dumps(told).encode()
    with answering(503, body, len(body)) as client, pytest.raises(keybrake.Unavailable, match="reach the ledger"):
        client.preflight(idempotency_key="k1")


def test_only_what_may_be_repeated_is_and_not_after_a_time_out() -> None:
    body = b'{"type": "about:blank", "title": "gone", "detail": "gone", "status": 503}'
    asked: list[str] = []
    with answering(503, body, len(body), asked=asked) as client:
        for call in (
            lambda: client.preflight(idempotency_key="k1"),
            lambda: client.revoke("vk_1"),
            lambda: client.issue(label="l", allowed_endpoints=CHARGES, uncapped=True),
        ):
            with pytest.raises(keybrake.Unavailable):
                call()
    assert asked == ["GET"] * 3 + ["DELETE"] * 3 + ["POST"]
    late: list[str] = []
    with (
        answering(200, b"{}", 2, asked=late, after_s=30) as client,
        pytest.raises(keybrake.Unavailable, match="Timeout"),
    ):
        client.preflight(idempotency_key="k1")
    assert late == ["GET"]


def test_an_authorised_charge_counts_before_it_is_captured(kb: keybrake.Client, customer: str) -> None:
    with kb.vault_key(label="held", allowed_endpoints=CHARGES, daily_usd_cap="10") as key:
        params: Any = {"amount": 999, "currency": "usd", "customer": customer, "source": "tok_visa", "capture": False}
        held = keybrake.stripe_client(key, url=kb.url).v1.charges.create(
            params=params, options={"idempotency_key": customer}
        )
    assert kb.preflight(idempotency_key=customer) == held.id
