"""The Stripe pack against the official SDK: every endpoint has a class, and no class contradicts its parameters."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

from launcher import ROOT
from stripe_sdk import SdkEndpoint, endpoints, shape

# Grants name these already; the SDK's name for the same endpoint stands beside it.
NAMED_OTHERWISE = {
    "account.retrieve": "accounts.retrieve_current",
    "customers.sources.list": "customers.payment_sources.list",
    "customers.sources.retrieve": "customers.payment_sources.retrieve",
    "invoiceitems.list": "invoice_items.list",
    "invoiceitems.retrieve": "invoice_items.retrieve",
    "invoices.lines.list": "invoices.line_items.list",
}
OTHER_NAME_IN_THE_SDK = {"sources.detach": "customers.payment_sources.delete"}
"""One endpoint, two methods of the SDK."""

NOT_IN_THE_SDK = {
    "charges.refunds.list": "older SDKs list a charge's refunds so",
    "charges.refunds.retrieve": "older SDKs read a charge's refund so",
    "customers.subscriptions.list": "older SDKs list a customer's subscriptions so",
    "customers.subscriptions.retrieve": "older SDKs read a customer's subscription so",
}
FREE_THOUGH_IT_NAMES_AN_AMOUNT = {
    "customers.payment_sources.verify": "repeats two small deposits as a proof",
    "invoices.create_preview": "computes, and keeps nothing",
    "issuing.disputes.create": "asks for money back",
    "issuing.disputes.update": "asks for money back",
    "payment_methods.create": "the bound of a mandate that only an intent puts to use",
    "payment_records.report_payment": "reports what moved without Stripe",
    "payment_records.report_refund": "reports what moved without Stripe",
    "radar.payment_evaluations.create": "asks for a risk score",
    "tax.calculations.create": "computes",
    "tax.transactions.create_reversal": "a record for tax reports",
    "terminal.readers.set_reader_display": "shows a cart",
    "three_d_secure.authentications.create": "authenticates; the charge comes after",
    "v2.core.account_tokens.create": "an account's yearly revenue",
    "v2.core.vault.us_bank_accounts.confirm_microdeposits": "repeats two small deposits as a proof",
}
WANTED_ALL_THE_SAME = {
    "charges.create": "optional in the SDK's types, and the vendor refuses a charge without an amount"
}
TEST_MODE_ONLY = re.compile(r"(^|\.)test_helpers\.")
"""Stripe refuses these with a live key: no real money."""

AMOUNT = re.compile(
    r"(^|_)amounts?($|_(?!type|tax_display|includes_iof|controllable|details))|(^|_)unit_cost|fee_acknowledged"
)


def leaf(name: str) -> str:
    """`a[b][c]` → `c`."""
    return name.rstrip("]").rsplit("[", 1)[-1]


@functools.cache
def pack() -> dict[str, Any]:
    """The pack's file."""
    read: dict[str, Any] = json.loads((ROOT / "vendors" / "stripe.json").read_text())
    return read


def pairs() -> list[tuple[SdkEndpoint, dict[str, Any]]]:
    """What SDK and pack say of each endpoint that both have."""
    by_shape = {shape(one["endpoint"]): one for one in pack()["endpoints"]}
    return [(one, by_shape[one.shape()]) for one in endpoints() if one.shape() in by_shape]


def test_the_walk_finds_what_is_known_of_the_sdk() -> None:
    by_name = {one.operation: one for one in endpoints()}
    assert len(by_name) > 600
    charge = by_name["charges.create"]
    assert (charge.pattern, charge.base) == ("POST /v1/charges", "api")
    assert {"amount", "currency", "transfer_data[amount]", "metadata"} <= charge.params
    assert not charge.params & {"idempotency_key", "stripe_account"}
    session = by_name["checkout.sessions.create"]
    assert "line_items[price_data][unit_amount_decimal]" in session.params
    assert by_name["payouts.create"].required == {"amount", "currency"}
    payment = by_name["v2.money_management.outbound_payments.create"]
    assert (payment.pattern, {"amount[value]", "amount[currency]"} <= payment.params) == (
        "POST /v2/money_management/outbound_payments",
        True,
    )
    assert (
        by_name["terminal.readers.process_payment_intent"].path
        == "/v1/terminal/readers/{reader}/process_payment_intent"
    )


def test_every_endpoint_of_the_sdk_has_a_class() -> None:
    known = {shape(one["endpoint"]) for one in pack()["endpoints"]}
    assert sorted(one.pattern for one in endpoints() if one.shape() not in known) == []


def test_every_endpoint_of_the_pack_is_known_to_the_sdk_or_has_a_reason() -> None:
    known = {one.shape() for one in endpoints()}
    unknown = {one["operation"] for one in pack()["endpoints"] if shape(one["endpoint"]) not in known}
    assert unknown == set(NOT_IN_THE_SDK)


def test_operations_are_named_as_the_sdk_names_them() -> None:
    names = {one.operation: one.operation for one in endpoints()}
    names.update(OTHER_NAME_IN_THE_SDK)
    names.update({theirs: ours for ours, theirs in NAMED_OTHERWISE.items()})
    wrong = {one.operation: ours["operation"] for one, ours in pairs() if ours["operation"] != names[one.operation]}
    assert wrong == {}
    used = {ours["operation"] for _, ours in pairs()}
    assert set(NAMED_OTHERWISE) <= used


def test_a_get_is_a_read_or_hands_out_what_nobody_may_have() -> None:
    for one, ours in pairs():
        if ours["class"] != "forbidden":
            assert (one.method == "GET") == (ours["class"] == "read"), one.operation


def test_nothing_is_free_that_names_an_amount_without_a_reason() -> None:
    named = set()
    for one, ours in pairs():
        amounts = {name for name in one.params if AMOUNT.search(leaf(name))} - set(ours.get("refuse", []))
        if ours["class"] == "free" and amounts and not TEST_MODE_ONLY.search(one.operation):
            named.add(one.operation)
    assert named == set(FREE_THOUGH_IT_NAMES_AN_AMOUNT)


def test_a_cost_is_read_from_parameters_that_there_are() -> None:
    for one, ours in pairs():
        cost = ours.get("cost", {})
        fields = [cost.get("amount"), cost.get("currency")]
        fields += [name for name in cost.get("object", []) if not name.startswith("{")]
        for name in filter(None, fields):
            assert name in one.params, (one.operation, name)
        outermost = {name.split("[")[0] for name in fields if name}
        if ours["class"] == "money" and one.operation not in WANTED_ALL_THE_SAME:
            assert outermost <= one.required, f"{one.operation}: an amount that may be absent is money_optional"
        if ours["class"] == "money_optional" and "object" not in cost:
            assert not outermost <= one.required, f"{one.operation}: an amount that must be there is money"


def test_an_amount_that_must_be_there_is_read() -> None:
    """Where the SDK wants an amount and a currency, the cost is exact and no worst case."""
    for one, ours in pairs():
        if {"amount", "currency"} <= one.required and ours["class"] in ("prepares", "money_blind"):
            raise AssertionError(one.operation)


def test_a_stated_list_fits_the_parameters_of_its_endpoints() -> None:
    for one, ours in pairs():
        rules = pack()["stated"].get(ours.get("stated"), [])
        ends = ["[" + rule["unit"].replace("[", "][", 1).rstrip("]") + "]" for rule in rules]
        fits = [
            name for name in one.params for end in ends if f"[{name.replace('[', '][', 1).rstrip(']')}]".endswith(end)
        ]
        assert bool(fits) == bool(rules), one.operation


def test_inline_prices_are_stated() -> None:
    """Whatever takes a price in the request and may cost money by it shows what it costs at least."""
    inline = re.compile(r"(^|\[)price_data\]?\[unit_amount\]$")
    for one, ours in pairs():
        if ours["class"] in ("prepares", "money_blind") and any(inline.search(name) for name in one.params):
            assert "stated" in ours, one.operation
