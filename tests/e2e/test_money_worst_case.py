"""Calls whose request does not say what they cost, and API v2: invoices, worst cases, outbound payments."""

from __future__ import annotations

import json
from typing import Any

import httpx
import stripe
from harness import Keybrake, VaultKey, fresh_key
from ledger_side import audited, expect_balance, only_entry
from shape import expect_refusal
from vendor_side import nothing_reaches_the_vendor, vendor_sees

INVOICES = [
    "invoices.create",
    "invoice_items.create",
    "invoices.finalize_invoice",
    "invoices.pay",
    "invoices.void_invoice",
]
PAYMENTS = "/v2/money_management/outbound_payments"


def biller(kb: Keybrake, **grant: Any) -> VaultKey:
    """A key for invoices: $5 a call, $30 a day, unless told otherwise."""
    return kb.issue(**{"allowed_endpoints": INVOICES, "daily_usd_cap": 30, "worst_case_usd": 5, **grant})


def invoice(kb: Keybrake, key: VaultKey, cents: int) -> str:
    """An open invoice over so much, made by three calls."""
    made = kb.post(key, "/v1/invoices", {"customer": "cus_aaa"})
    assert made.status_code == 200, made.text
    name = str(made.json()["id"])
    item = {"customer": "cus_aaa", "invoice": name, "amount": cents, "currency": "usd"}
    assert kb.post(key, "/v1/invoiceitems", item).status_code == 200
    assert kb.post(key, f"/v1/invoices/{name}/finalize", {}).json()["status"] == "open"
    return name


def test_a_call_without_an_amount_needs_a_worst_case(keybrake: Keybrake) -> None:
    key = biller(keybrake, worst_case_usd=None)
    with nothing_reaches_the_vendor(keybrake):
        expect_refusal(keybrake.post(key, "/v1/invoices", {"customer": "cus_aaa"}), 403, "amount_unknown")
        expect_refusal(keybrake.post(key, "/v1/invoices/in_1/pay", {}), 403, "amount_unknown")
        # An amount in the request is no whole cost either.
        item = {"customer": "cus_aaa", "amount": 700, "currency": "usd"}
        expect_refusal(keybrake.post(key, "/v1/invoiceitems", item), 403, "amount_unknown")
    expect_balance(keybrake, key, free="30")


def test_a_paid_invoice_settles_what_was_set_aside_for_all_its_calls(keybrake: Keybrake) -> None:
    key = biller(keybrake)
    name = invoice(keybrake, key, 700)
    # Two calls at the worst case, and the item at the seven dollars that it shows.
    expect_balance(keybrake, key, free="13", held="17")
    with vendor_sees(keybrake, requests=1, executions=1):
        paid = keybrake.post(key, f"/v1/invoices/{name}/pay", {}, idempotency_key=(again := fresh_key("pay"))).json()
    assert (paid["status"], paid["amount_paid"]) == ("paid", 700)
    expect_balance(keybrake, key, free="23", settled="7")
    with nothing_reaches_the_vendor(keybrake):
        repeated = keybrake.post(key, f"/v1/invoices/{name}/pay", {}, idempotency_key=again)
    assert (repeated.json(), repeated.headers["idempotent-replayed"]) == (paid, "true")
    expect_balance(keybrake, key, free="23", settled="7")


def made_elsewhere(kb: Keybrake, cents: int) -> str:
    """An open invoice that the ledger has never heard of."""

    def call(path: str, **form: str) -> dict[str, Any]:
        answer = kb.past_the_gate("POST", path, form, idempotency_key=fresh_key("elsewhere"))
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()
        return made

    name = str(call("/v1/invoices", customer="cus_aaa")["id"])
    call("/v1/invoiceitems", customer="cus_aaa", invoice=name, amount=str(cents), currency="usd")
    call(f"/v1/invoices/{name}/finalize")
    return name


def test_the_answer_settles_a_worst_case_also_above_it(keybrake: Keybrake) -> None:
    for cents, settled, free in ((300, "3", "27"), (700, "7", "23")):
        key = biller(keybrake)
        name = made_elsewhere(keybrake, cents)
        with vendor_sees(keybrake, requests=1, executions=1):
            assert keybrake.post(key, f"/v1/invoices/{name}/pay", {}).json()["amount_paid"] == cents
        expect_balance(keybrake, key, free=free, settled=settled)
        entry = only_entry(keybrake, key_id=key.key_id)
        assert (entry["operation"], entry["outcome"], entry["amount"]) == ("invoices.pay", "settled", cents)


def test_a_declined_payment_gives_its_worst_case_back(keybrake: Keybrake) -> None:
    key = biller(keybrake)
    name = invoice(keybrake, key, 700)
    with vendor_sees(keybrake, requests=1, executions=0):
        declined = keybrake.post(key, f"/v1/invoices/{name}/pay", {"payment_method": "pm_card_chargeDeclined"})
    assert (declined.status_code, declined.json()["error"]["type"]) == (402, "card_error")
    expect_balance(keybrake, key, free="13", held="17")


def test_a_voided_invoice_gives_back_what_was_set_aside_for_it(keybrake: Keybrake) -> None:
    key = biller(keybrake)
    name = invoice(keybrake, key, 700)
    with vendor_sees(keybrake, requests=1, executions=0):
        assert keybrake.post(key, f"/v1/invoices/{name}/void", {}).json()["status"] == "void"
    expect_balance(keybrake, key, free="30")


def test_what_a_request_shows_is_more_than_the_worst_case(keybrake: Keybrake) -> None:
    key = biller(keybrake, daily_usd_cap=10)
    made = keybrake.post(key, "/v1/invoices", {"customer": "cus_aaa"}).json()
    item = {"customer": "cus_aaa", "invoice": made["id"], "amount": 501, "currency": "usd"}
    with nothing_reaches_the_vendor(keybrake):
        extra = expect_refusal(keybrake.post(key, "/v1/invoiceitems", item), 402, "spend_cap_exceeded")
    assert (extra["asked"], extra["left"]) == ("5.010000", "5.000000")
    assert keybrake.post(key, "/v1/invoiceitems", {**item, "amount": 500}).status_code == 200
    expect_balance(keybrake, key, free="0", held="10")


def pay_out(kb: Keybrake, key: VaultKey, amount: object, **headers: str) -> httpx.Response:
    """An outbound payment in JSON."""
    sent = {"Idempotency-Key": fresh_key(), "Content-Type": "application/json", **headers}
    body = json.dumps(
        {"from": {"financial_account": "fa_1", "currency": "usd"}, "to": {"recipient": "acct_1"}, "amount": amount}
    )
    return kb.request("POST", PAYMENTS, key=key, headers=sent, content=body)


def payments_key(kb: Keybrake) -> VaultKey:
    """A key that may pay out $20 a day and call a payment back."""
    return kb.issue(allowed_endpoints=[f"POST {PAYMENTS}", f"POST {PAYMENTS}/{{id}}/cancel"], daily_usd_cap=20)


def test_a_v2_payment_by_the_sdk_is_held_until_it_is_called_back(keybrake: Keybrake) -> None:
    key = payments_key(keybrake)
    client = stripe.StripeClient(key.secret, base_addresses={"api": keybrake.url + "/stripe"})
    payments = client.v2.money_management.outbound_payments
    with vendor_sees(keybrake, requests=1, executions=1):
        made = payments.create(
            {
                "from": {"financial_account": "fa_1", "currency": "usd"},
                "to": {"recipient": "acct_1"},
                "amount": {"value": 1500, "currency": "usd"},
            }
        )
    assert (made.id[:4], made.status, made.amount.value) == ("obp_", "processing", 1500)
    expect_balance(keybrake, key, free="5", held="15")
    entry = only_entry(keybrake, key_id=key.key_id)
    assert (entry["operation"], entry["amount"], entry["currency"], entry["vendor_object_id"]) == (
        "v2.money_management.outbound_payments.create",
        1500,
        "usd",
        made.id,
    )
    with nothing_reaches_the_vendor(keybrake):
        expect_refusal(pay_out(keybrake, key, {"value": 501, "currency": "usd"}), 402, "spend_cap_exceeded")
    with vendor_sees(keybrake, requests=1, executions=0):
        assert payments.cancel(made.id).status == "canceled"
    expect_balance(keybrake, key, free="20")
    assert audited(keybrake, key)[0][2] == "released"


def test_a_v2_amount_that_can_be_read_in_two_ways_is_not_sent(keybrake: Keybrake) -> None:
    key = payments_key(keybrake)
    with nothing_reaches_the_vendor(keybrake):
        for amount in (
            {"value": "1500", "currency": "usd"},
            {"value": 15.0, "currency": "usd"},
            {"value": -1500, "currency": "usd"},
            {"value": 1500},
            1500,
            [{"value": 1500, "currency": "usd"}],
        ):
            expect_refusal(pay_out(keybrake, key, amount), 400, "request_not_inspectable")
        form = keybrake.post(key, PAYMENTS, {"amount[value]": 1500, "amount[currency]": "usd"})
        expect_refusal(form, 415, "request_not_inspectable")
    expect_balance(keybrake, key, free="20")
