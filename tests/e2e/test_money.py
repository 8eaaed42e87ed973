"""Caps: exact under any concurrency, in every window, on the ledger's books and on the vendor's."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Callable

import httpx
import pytest
from at_once import at_once, charge_request
from harness import Keybrake, eventually, fresh_key
from ledger_side import audited, expect_balance, only_entry
from shape import expect_refusal
from vendor_side import arrives_at_the_vendor, charged_cents, nothing_reaches_the_vendor, vendor_sees

CENTS = 299
FITTING = 57


def burst(kb: Keybrake, urls: Sequence[str]) -> None:
    """200 charges at once on one key whose cap fits 57 of them, and not one cent of the next."""
    customer = fresh_key("cus").replace("-", "_")
    key = kb.issue(daily_usd_cap="173.41")
    kb.fault({"kind": "delay", "delay_ms": 200}, times=None, body_contains=customer)
    names = [fresh_key("burst") for _ in range(200)]
    form = {"customer": customer}
    requests = [
        charge_request(kb, key, CENTS, idempotency_key=name, form=form, url=urls[number % len(urls)])
        for number, name in enumerate(names)
    ]
    with vendor_sees(kb, requests=FITTING, executions=FITTING):
        answers = at_once(requests)
    kb.clear_faults()

    assert Counter(answer.status_code for answer in answers) == {200: FITTING, 402: 200 - FITTING}
    for answer in answers:
        if answer.status_code == 402:
            extra = expect_refusal(answer, 402, "spend_cap_exceeded")
            assert (extra["limit"], extra["asked"], extra["left"]) == ("daily_usd_cap", "2.990000", "2.980000")
    by_key = kb.counts()["by_key"]
    for name, answer in zip(names, answers):
        wanted = {"requests": 1, "executions": 1} if answer.status_code == 200 else None
        assert by_key.get(name) == wanted
    taken = charged_cents(kb, customer)
    assert taken == [CENTS] * FITTING
    expect_balance(kb, key, free="2.98", settled="170.43")
    assert kb.balance(key).settled == Decimal(sum(taken)) / 100
    entries = audited(kb, key)
    assert Counter(entry[2] for entry in entries) == {"settled": FITTING, "spend_cap_exceeded": 200 - FITTING}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 200}) == FITTING


def test_of_200_charges_at_once_those_that_fit_the_cap_are_executed(keybrake: Keybrake) -> None:
    burst(keybrake, [keybrake.url])


def each_carries(kb: Keybrake) -> None:
    """Every Envoy of the stack takes a charge to the vendor."""
    for node in kb.stack.envoys:
        before = node.bytes_to_vendor()
        assert kb.charge(kb.issue(), 299, url=f"{node.url}/stripe").status_code == 200
        assert node.bytes_to_vendor() > before, f"{node.name} carried nothing"


def test_of_200_charges_at_once_over_two_envoys_those_that_fit_are_executed(
    fresh: Callable[..., Keybrake],
) -> None:
    kb = fresh()
    second = kb.second_envoy()
    burst(kb, [kb.url, second.url])
    each_carries(kb)


def test_exactly_the_cap_is_allowed_and_one_cent_more_is_not(keybrake: Keybrake) -> None:
    key = keybrake.issue(daily_usd_cap="10.00")
    with nothing_reaches_the_vendor(keybrake):
        expect_refusal(keybrake.charge(key, 1001), 402, "spend_cap_exceeded")
    expect_balance(keybrake, key, free="10")
    with vendor_sees(keybrake, requests=2, executions=2):
        assert keybrake.charge(key, 999).status_code == 200
        assert keybrake.charge(key, 1).status_code == 200
    expect_balance(keybrake, key, free="0", settled="10")
    with nothing_reaches_the_vendor(keybrake):
        extra = expect_refusal(keybrake.charge(key, 1), 402, "spend_cap_exceeded")
    assert (extra["asked"], extra["left"]) == ("0.010000", "0.000000")
    expect_balance(keybrake, key, free="0", settled="10")


def test_a_cap_of_nothing_allows_nothing(keybrake: Keybrake) -> None:
    key = keybrake.issue(daily_usd_cap=0)
    with nothing_reaches_the_vendor(keybrake):
        expect_refusal(keybrake.charge(key, 1), 402, "spend_cap_exceeded")
    expect_balance(keybrake, key, free="0")


@pytest.mark.parametrize("tight", ["daily", "monthly", "lifetime"])
def test_every_cap_is_debited_or_none(keybrake: Keybrake, tight: str) -> None:
    caps = {f"{name}_usd_cap": "5.00" if name == tight else "20.00" for name in ("daily", "monthly", "lifetime")}
    key = keybrake.issue(**caps)
    windows = {"daily": "day:", "monthly": "month:", "lifetime": "lifetime"}
    with vendor_sees(keybrake, requests=1, executions=1):
        assert keybrake.charge(key, 400).status_code == 200
    for name, window in windows.items():
        expect_balance(keybrake, key, free="1" if name == tight else "16", settled="4", window=window)
    with nothing_reaches_the_vendor(keybrake):
        extra = expect_refusal(keybrake.charge(key, 101), 402, "spend_cap_exceeded")
    assert (extra["limit"], extra["left"]) == (f"{tight}_usd_cap", "1.000000")
    assert ("resets_at" in extra) == (tight != "lifetime")
    for name, window in windows.items():
        expect_balance(keybrake, key, free="1" if name == tight else "16", settled="4", window=window)


def test_the_cap_per_request_bounds_each_and_counts_none(keybrake: Keybrake) -> None:
    key = keybrake.issue(per_request_usd_cap="2.50", daily_usd_cap="100.00")
    with nothing_reaches_the_vendor(keybrake):
        extra = expect_refusal(keybrake.charge(key, 251), 402, "spend_cap_exceeded")
    assert (extra["limit"], extra["asked"]) == ("per_request_usd_cap", "2.510000")
    assert "resets_at" not in extra
    expect_balance(keybrake, key, free="100")
    with vendor_sees(keybrake, requests=3, executions=3):
        for _ in range(3):
            assert keybrake.charge(key, 250).status_code == 200
    expect_balance(keybrake, key, free="92.50", settled="7.50")


def test_max_requests_counts_admitted_requests_and_no_replays(keybrake: Keybrake) -> None:
    key = keybrake.issue(max_requests=2, allowed_endpoints=["POST /v1/charges", "GET /v1/balance"])
    name = fresh_key()
    with vendor_sees(keybrake, requests=2, executions=1):
        first = keybrake.charge(key, 100, idempotency_key=name)
        assert first.status_code == 200
        assert keybrake.get(key, "/v1/balance").status_code == 200
    with nothing_reaches_the_vendor(keybrake):
        for refused in (keybrake.charge(key, 100), keybrake.get(key, "/v1/balance")):
            assert expect_refusal(refused, 402, "spend_cap_exceeded")["limit"] == "max_requests"
        again = keybrake.charge(key, 100, idempotency_key=name)
        assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    expect_balance(keybrake, key, free="9.99", settled="1")


def test_an_uncapped_key_charges_and_keeps_no_balance(keybrake: Keybrake) -> None:
    key = keybrake.issue(daily_usd_cap=None, uncapped=True)
    with vendor_sees(keybrake, requests=1, executions=1):
        assert keybrake.charge(key, 99_999_999).status_code == 200
    assert keybrake.admin("GET", f"/admin/vault_keys/{key.key_id}").json()["balances"] == []
    assert audited(keybrake, key) == [("admitted", "charges.create", "settled", "999999.990000")]


def test_a_revoked_key_is_refused_on_the_very_next_request(keybrake: Keybrake) -> None:
    key = keybrake.issue(allowed_endpoints=["POST /v1/charges", "GET /v1/charges"])
    name = fresh_key()
    # More connections than workers, so that every worker knows the grant.
    warm = at_once([charge_request(keybrake, key, 10) for _ in range(16)])
    assert {answer.status_code for answer in warm} == {200}
    assert keybrake.charge(key, 10, idempotency_key=name).status_code == 200
    keybrake.revoke(key)
    with nothing_reaches_the_vendor(keybrake):
        for answer in at_once([charge_request(keybrake, key, 10) for _ in range(16)]):
            expect_refusal(answer, 401, "vault_key_revoked")
        expect_refusal(keybrake.charge(key, 10, idempotency_key=name), 401, "vault_key_revoked")
        expect_refusal(keybrake.get(key, "/v1/charges"), 401, "vault_key_revoked")
        by_listener = keybrake.charge(key, 10, url=keybrake.stripe_url)
        expect_refusal(by_listener, 401, "vault_key_revoked")
    expect_balance(keybrake, key, free="9.29", settled="1.70")
    entries = audited(keybrake, key)
    assert Counter(entry[2] for entry in entries) == {"settled": 17, "vault_key_revoked": 19}


def test_what_was_admitted_before_a_revocation_is_executed(keybrake: Keybrake) -> None:
    key, name = keybrake.issue(), fresh_key()
    keybrake.fault({"kind": "delay", "delay_ms": 600}, idempotency_key=name)
    answers: list[httpx.Response] = []
    client = threading.Thread(target=lambda: answers.append(keybrake.charge(key, CENTS, idempotency_key=name)))
    client.start()
    arrives_at_the_vendor(keybrake, name)
    keybrake.revoke(key)
    client.join(10)
    assert [answer.status_code for answer in answers] == [200]
    assert keybrake.executions(name) == 1
    expect_balance(keybrake, key, free="8", settled="2.99")
    assert only_entry(keybrake, idempotency_key=name)["stripe_charge_id"] == answers[0].json()["id"]


def test_reads_cost_nothing_and_are_audited(keybrake: Keybrake) -> None:
    key = keybrake.issue(allowed_endpoints=["POST /v1/charges", "GET /v1/charges", "GET /v1/charges/{id}"])
    customer = fresh_key("cus").replace("-", "_")
    made = keybrake.charge(key, CENTS, form={"customer": customer}).json()
    with vendor_sees(keybrake, requests=2, executions=0):
        listed = keybrake.get(key, "/v1/charges", params={"customer": customer, "limit": "3"})
        got = keybrake.get(key, f"/v1/charges/{made['id']}")
    assert [charge["id"] for charge in listed.json()["data"]] == [made["id"]]
    assert got.json() == made
    assert "keybrake-upstream" not in got.headers
    expect_balance(keybrake, key, free="8", settled="2.99")

    def all_settled() -> bool:
        return all(entry["outcome"] == "settled" for entry in keybrake.audit(key_id=key.key_id))

    eventually(all_settled, 5, "the outcome of the reads")
    assert [entry[:2] for entry in audited(keybrake, key)] == [
        ("admitted", "charges.create"),
        ("admitted", "charges.list"),
        ("admitted", "charges.retrieve"),
    ]
    reads = [entry for entry in keybrake.audit(key_id=key.key_id) if entry["method"] == "GET"]
    assert {(entry["status"], entry["amount"], Decimal(entry["cost_usd"])) for entry in reads} == {
        (200, None, Decimal(0))
    }
    assert {entry["vendor_request_id"] for entry in reads} == {
        listed.headers["request-id"],
        got.headers["request-id"],
    }


def test_a_read_streams_whatever_its_length(keybrake: Keybrake) -> None:
    key = keybrake.issue(allowed_endpoints=["GET /v1/charges"])
    length = 40 * 1024 * 1024
    keybrake.fault({"kind": "huge_body", "bytes": length}, method="GET", path="/v1/charges")
    request = httpx.Request(
        "GET", f"{keybrake.url}/stripe/v1/charges?limit=1", headers={"Authorization": f"Bearer {key.secret}"}
    )
    answer = keybrake.http.send(request, stream=True)
    assert answer.status_code == 200
    arrived = sum(len(part) for part in answer.iter_raw())
    answer.close()
    assert arrived == length
    eventually(lambda: only_entry(keybrake, key_id=key.key_id)["outcome"] == "settled", 5, "its outcome")
