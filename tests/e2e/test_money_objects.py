"""Money that moves in steps: payment intents, authorisations, captures, cancellations, refunds."""

from __future__ import annotations

import ssl
from typing import Any

import httpx
from harness import Keybrake, VaultKey, fresh_key
from ledger_side import audited, expect_balance, only_entry
from shape import expect_refusal
from vendor_side import books, nothing_reaches_the_vendor, vendor_sees

INTENTS = [
    "POST /v1/payment_intents",
    "POST /v1/payment_intents/{id}",
    "POST /v1/payment_intents/{id}/confirm",
    "POST /v1/payment_intents/{id}/capture",
    "POST /v1/payment_intents/{id}/cancel",
    "POST /v1/payment_intents/{id}/increment_authorization",
]
REFUNDS = ["POST /v1/charges", "POST /v1/charges/{id}/capture", "POST /v1/refunds"]


def payer(kb: Keybrake, cap: str = "5.00") -> VaultKey:
    """A key for payment intents."""
    return kb.issue(allowed_endpoints=INTENTS, daily_usd_cap=cap)


def intent(kb: Keybrake, key: VaultKey, cents: int, **form: Any) -> httpx.Response:
    """Creates one; a test card unless told otherwise."""
    body = {"amount": cents, "currency": "usd", "payment_method": "pm_card_visa", **form}
    return kb.post(key, "/v1/payment_intents", {name: value for name, value in body.items() if value is not None})


def test_an_intent_that_is_confirmed_at_once_settles(keybrake: Keybrake) -> None:
    key = payer(keybrake)
    with vendor_sees(keybrake, requests=1, executions=1):
        made = intent(keybrake, key, 500, confirm="true").json()
    assert made["status"] == "succeeded"
    expect_balance(keybrake, key, free="0", settled="5")
    entry = only_entry(keybrake, key_id=key.key_id)
    assert (entry["operation"], entry["outcome"], entry["cost_usd"]) == (
        "payment_intents.create",
        "settled",
        "5.000000",
    )
    assert (entry["vendor_object_id"], entry["stripe_charge_id"]) == (made["id"], made["latest_charge"])
    assert made["latest_charge"].startswith("ch_")


def test_an_intent_without_confirm_is_held_until_it_is_confirmed(keybrake: Keybrake) -> None:
    key = payer(keybrake)
    with vendor_sees(keybrake, requests=1, executions=0):
        made = intent(keybrake, key, 500, payment_method=None).json()
    assert made["status"] == "requires_payment_method"
    expect_balance(keybrake, key, free="0", held="5")
    entry = only_entry(keybrake, key_id=key.key_id)
    assert (entry["outcome"], entry["vendor_object_id"], entry["stripe_charge_id"]) == ("held", made["id"], None)
    with nothing_reaches_the_vendor(keybrake):
        expect_refusal(intent(keybrake, key, 1), 402, "spend_cap_exceeded")
    with vendor_sees(keybrake, requests=1, executions=1):
        path = f"/v1/payment_intents/{made['id']}/confirm"
        paid = keybrake.post(key, path, {"payment_method": "pm_card_visa"}).json()
    assert paid["status"] == "succeeded"
    # The cap is used up by the hold: a second debit would have been refused.
    expect_balance(keybrake, key, free="0", settled="5")
    (created,) = [entry for entry in keybrake.audit(vendor_object_id=made["id"]) if entry["cost_usd"] == "5.000000"]
    assert (created["operation"], created["outcome"]) == ("payment_intents.create", "settled")


def test_a_manual_capture_stays_held_and_settles_what_is_captured(keybrake: Keybrake) -> None:
    key = payer(keybrake)
    with vendor_sees(keybrake, requests=1, executions=1):
        made = intent(keybrake, key, 500, confirm="true", capture_method="manual").json()
    assert made["status"] == "requires_capture"
    expect_balance(keybrake, key, free="0", held="5")
    entry = only_entry(keybrake, key_id=key.key_id)
    assert (entry["outcome"], entry["stripe_charge_id"]) == ("held", made["latest_charge"])
    with vendor_sees(keybrake, requests=1, executions=1):
        taken = keybrake.post(key, f"/v1/payment_intents/{made['id']}/capture", {"amount_to_capture": 300}).json()
    assert (taken["status"], taken["amount_received"]) == ("succeeded", 300)
    expect_balance(keybrake, key, free="2", settled="3")
    with vendor_sees(keybrake, requests=1, executions=1):
        assert intent(keybrake, key, 200, confirm="true").status_code == 200
    expect_balance(keybrake, key, free="0", settled="5")


def test_a_cancelled_intent_gives_its_hold_back(keybrake: Keybrake) -> None:
    key = payer(keybrake)
    made = intent(keybrake, key, 500, confirm="true", capture_method="manual").json()
    expect_balance(keybrake, key, free="0", held="5")
    with vendor_sees(keybrake, requests=1, executions=0):
        ended = keybrake.post(key, f"/v1/payment_intents/{made['id']}/cancel", {}).json()
    assert ended["status"] == "canceled"
    expect_balance(keybrake, key, free="5")
    created = keybrake.audit(key_id=key.key_id)[-1]
    assert (created["operation"], created["outcome"]) == ("payment_intents.create", "released")


def test_an_intent_that_waits_for_its_customer_stays_held(keybrake: Keybrake) -> None:
    key = payer(keybrake)
    with vendor_sees(keybrake, requests=1, executions=0):
        made = intent(keybrake, key, 500, payment_method="pm_card_threeDSecureRequired", confirm="true").json()
    assert made["status"] == "requires_action"
    expect_balance(keybrake, key, free="0", held="5")


def test_an_intent_that_is_described_once_it_is_paid_costs_nothing_more(keybrake: Keybrake) -> None:
    key = payer(keybrake, "12.00")
    made = intent(keybrake, key, 500, confirm="true").json()
    for order in ("1", "2"):
        with vendor_sees(keybrake, requests=1, executions=0):
            told = keybrake.post(key, f"/v1/payment_intents/{made['id']}", {"metadata[order]": order}).json()
        assert (told["amount_received"], told["metadata"]) == (500, {"order": order})
        expect_balance(keybrake, key, free="7", settled="5")
    entries = keybrake.audit(key_id=key.key_id)
    assert [entry["cost_usd"] for entry in entries] == ["0.000000", "0.000000", "5.000000"]
    assert not any(entry.get("alarms") for entry in entries)


def test_a_raised_intent_debits_only_the_difference(keybrake: Keybrake) -> None:
    key = payer(keybrake, "8.00")
    made = intent(keybrake, key, 500).json()
    path = f"/v1/payment_intents/{made['id']}"
    with nothing_reaches_the_vendor(keybrake):
        extra = expect_refusal(keybrake.post(key, path, {"amount": 801}), 402, "spend_cap_exceeded")
    assert (extra["asked"], extra["left"]) == ("3.010000", "3.000000")
    assert keybrake.post(key, path, {"amount": 800}).json()["amount"] == 800
    expect_balance(keybrake, key, free="0", held="8")
    with vendor_sees(keybrake, requests=1, executions=1):
        paid = keybrake.post(key, f"{path}/confirm", {"payment_method": "pm_card_visa"}).json()
    assert (paid["status"], paid["amount_received"]) == ("succeeded", 800)
    expect_balance(keybrake, key, free="0", settled="8")


def test_an_increment_names_the_new_total_and_debits_the_difference(keybrake: Keybrake) -> None:
    key = payer(keybrake, "8.00")
    path = f"/v1/payment_intents/{intent(keybrake, key, 500, confirm='true', capture_method='manual').json()['id']}"
    expect_balance(keybrake, key, free="3", held="5")
    with nothing_reaches_the_vendor(keybrake):
        over = keybrake.post(key, f"{path}/increment_authorization", {"amount": 801})
        assert expect_refusal(over, 402, "spend_cap_exceeded")["asked"] == "3.010000"
    with vendor_sees(keybrake, requests=1, executions=1):
        raised = keybrake.post(key, f"{path}/increment_authorization", {"amount": 800}).json()
    assert (raised["amount"], raised["amount_capturable"], raised["status"]) == (800, 800, "requires_capture")
    expect_balance(keybrake, key, free="0", held="8")
    with vendor_sees(keybrake, requests=1, executions=1):
        assert keybrake.post(key, f"{path}/capture", {"amount_to_capture": 700}).json()["amount_received"] == 700
    expect_balance(keybrake, key, free="1", settled="7")


def test_a_confirmation_of_an_amount_debits_nothing_more_than_the_hold(keybrake: Keybrake) -> None:
    key = payer(keybrake)
    made = intent(keybrake, key, 500).json()
    with vendor_sees(keybrake, requests=1, executions=1):
        paid = keybrake.post(key, f"/v1/payment_intents/{made['id']}/confirm", {"amount_to_confirm": 500}).json()
    assert (paid["status"], paid["amount_received"]) == ("succeeded", 500)
    expect_balance(keybrake, key, free="0", settled="5")


def test_a_refund_of_an_intent_that_its_customer_paid_without_us_is_decided_by_the_cap(keybrake: Keybrake) -> None:
    key = keybrake.issue(allowed_endpoints=[*INTENTS, "refunds.create"], daily_usd_cap="7.00")
    made = intent(keybrake, key, 500).json()
    confirm = f"/v1/payment_intents/{made['id']}/confirm"
    paid = keybrake.past_the_gate("POST", confirm, {"payment_method": "pm_card_visa"}, idempotency_key=fresh_key())
    assert paid.json()["status"] == "succeeded"
    # Here it is still held, and what is held for it pays for no refund.
    with nothing_reaches_the_vendor(keybrake):
        refused = keybrake.post(key, "/v1/refunds", {"payment_intent": made["id"]})
        assert expect_refusal(refused, 402, "spend_cap_exceeded")["asked"] == "5.000000"
    with vendor_sees(keybrake, requests=1, executions=1):
        assert keybrake.post(key, "/v1/refunds", {"payment_intent": made["id"], "amount": 200}).status_code == 200
    expect_balance(keybrake, key, free="0", held="5", settled="2")


def test_an_intent_made_elsewhere_can_be_cancelled(keybrake: Keybrake) -> None:
    form = {"amount": "500", "currency": "eur"}
    made = keybrake.past_the_gate("POST", "/v1/payment_intents", form, idempotency_key=fresh_key()).json()
    key = payer(keybrake)
    with vendor_sees(keybrake, requests=1, executions=0):
        assert keybrake.post(key, f"/v1/payment_intents/{made['id']}/cancel", {}).json()["status"] == "canceled"
    expect_balance(keybrake, key, free="5")


def test_a_declined_confirmation_keeps_the_hold_of_the_open_intent(keybrake: Keybrake) -> None:
    key = payer(keybrake)
    made = intent(keybrake, key, 500, payment_method=None).json()
    confirm = f"/v1/payment_intents/{made['id']}/confirm"
    with vendor_sees(keybrake, requests=1, executions=0):
        declined = keybrake.post(key, confirm, {"payment_method": "pm_card_chargeDeclined"})
    assert (declined.status_code, declined.json()["error"]["type"]) == (402, "card_error")
    expect_balance(keybrake, key, free="0", held="5")
    with vendor_sees(keybrake, requests=1, executions=1):
        assert keybrake.post(key, confirm, {"payment_method": "pm_card_visa"}).status_code == 200
    expect_balance(keybrake, key, free="0", settled="5")


def test_an_authorised_charge_is_held_until_it_is_captured(keybrake: Keybrake) -> None:
    key = keybrake.issue(allowed_endpoints=REFUNDS, daily_usd_cap="5.00")
    with vendor_sees(keybrake, requests=1, executions=1):
        made = keybrake.charge(key, 500, form={"capture": "false"}).json()
    expect_balance(keybrake, key, free="0", held="5")
    with vendor_sees(keybrake, requests=1, executions=1):
        taken = keybrake.post(key, f"/v1/charges/{made['id']}/capture", {})
    assert (taken.status_code, taken.json()["amount_captured"]) == (200, 500)
    expect_balance(keybrake, key, free="0", settled="5")


def test_a_refund_takes_its_currency_from_the_known_charge_and_is_debited(keybrake: Keybrake) -> None:
    key = keybrake.issue(allowed_endpoints=REFUNDS, daily_usd_cap="10.00")
    charge = keybrake.charge(key, 500).json()
    with vendor_sees(keybrake, requests=1, executions=1):
        part = keybrake.post(key, "/v1/refunds", {"charge": charge["id"], "amount": 200})
    assert part.json()["amount"] == 200
    # A refund gives no cap back; it is money that leaves as well.
    expect_balance(keybrake, key, free="3", settled="7")
    with vendor_sees(keybrake, requests=1, executions=1):
        rest = keybrake.post(key, "/v1/refunds", {"charge": charge["id"], "amount": 300})
    assert rest.json()["status"] == "succeeded"
    expect_balance(keybrake, key, free="0", settled="10")
    assert audited(keybrake, key) == [
        ("admitted", "charges.create", "settled", "5.000000"),
        ("admitted", "refunds.create", "settled", "2.000000"),
        ("admitted", "refunds.create", "settled", "3.000000"),
    ]
    entry = only_entry(keybrake, vendor_object_id=rest.json()["id"])
    assert (entry["amount"], entry["currency"], entry["stripe_charge_id"]) == (300, "usd", charge["id"])
    assert [refund["amount"] for refund in books(keybrake, "refunds") if refund["charge"] == charge["id"]] == [200, 300]


def test_a_refund_without_an_amount_costs_the_whole_charge(keybrake: Keybrake) -> None:
    buyer = keybrake.issue()
    charge = keybrake.charge(buyer, 500).json()
    poor = keybrake.issue(allowed_endpoints=["refunds.create"], daily_usd_cap="4.99")
    with nothing_reaches_the_vendor(keybrake):
        refused = keybrake.post(poor, "/v1/refunds", {"charge": charge["id"]})
        assert expect_refusal(refused, 402, "spend_cap_exceeded")["asked"] == "5.000000"
    rich = keybrake.issue(allowed_endpoints=["refunds.create"], daily_usd_cap="5.00")
    with vendor_sees(keybrake, requests=1, executions=1):
        assert keybrake.post(rich, "/v1/refunds", {"charge": charge["id"]}).json()["amount"] == 500
    expect_balance(keybrake, rich, free="0", settled="5")
    expect_balance(keybrake, poor, free="4.99")


def made_elsewhere(kb: Keybrake, cents: int) -> str:
    """A charge that the ledger has never heard of."""
    assert kb.stack.sandbox is not None
    headers = {"Authorization": f"Bearer {kb.stack.vendor_secret}", "Idempotency-Key": fresh_key("elsewhere")}
    trusting = ssl.create_default_context(cafile=str(kb.stack.sandbox.ca))
    with httpx.Client(verify=trusting, trust_env=False) as client:
        answer = client.post(
            f"https://127.0.0.1:{kb.stack.options.ports.sandbox}/v1/charges",
            headers=headers,
            data={"amount": str(cents), "currency": "usd", "source": "tok_visa"},
        )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def test_a_refund_of_an_unknown_charge_needs_a_currency_and_an_amount(keybrake: Keybrake) -> None:
    charge = made_elsewhere(keybrake, 500)
    blind = keybrake.issue(allowed_endpoints=["refunds.create"])
    with nothing_reaches_the_vendor(keybrake):
        for form in ({"charge": charge}, {"charge": charge, "amount": 100}):
            expect_refusal(keybrake.post(blind, "/v1/refunds", form), 403, "amount_unknown")
    expect_balance(keybrake, blind, free="10.99")
    told = keybrake.issue(allowed_endpoints=["refunds.create"], constraints={"currency": ["usd"]})
    with nothing_reaches_the_vendor(keybrake):
        expect_refusal(keybrake.post(told, "/v1/refunds", {"charge": charge}), 403, "amount_unknown")
    with vendor_sees(keybrake, requests=1, executions=1):
        assert keybrake.post(told, "/v1/refunds", {"charge": charge, "amount": 100}).status_code == 200
    expect_balance(keybrake, told, free="9.99", settled="1")
    # What was given back so far does not say how much is left.
    with nothing_reaches_the_vendor(keybrake):
        expect_refusal(keybrake.post(told, "/v1/refunds", {"charge": charge}), 403, "amount_unknown")
    guessed = keybrake.issue(allowed_endpoints=["refunds.create"], worst_case_usd="5.00", daily_usd_cap="5.00")
    with vendor_sees(keybrake, requests=1, executions=1):
        assert keybrake.post(guessed, "/v1/refunds", {"charge": charge}).json()["amount"] == 400
    # The vendor said what it took: the worst case was set aside, four dollars are settled.
    expect_balance(keybrake, guessed, free="1", settled="4")


def test_a_refund_that_the_vendor_refuses_costs_nothing(keybrake: Keybrake) -> None:
    key = keybrake.issue(allowed_endpoints=REFUNDS)
    charge = keybrake.charge(key, 299).json()
    with vendor_sees(keybrake, requests=1, executions=0):
        refused = keybrake.post(key, "/v1/refunds", {"charge": charge["id"], "amount": 300})
    assert (refused.status_code, refused.headers.get("keybrake-reason")) == (400, None)
    expect_balance(keybrake, key, free="8", settled="2.99")
    assert audited(keybrake, key)[-1] == ("admitted", "refunds.create", "released", "3.000000")


def test_a_currency_without_a_rate_is_refused_whatever_the_worst_case_is(keybrake: Keybrake) -> None:
    for key in (keybrake.issue(), keybrake.issue(worst_case_usd="6.00")):
        with nothing_reaches_the_vendor(keybrake):
            for amount in (299, 99_999_999):
                refused = keybrake.charge(key, amount, form={"currency": "eur"})
                expect_refusal(refused, 403, "amount_unknown")
                assert "a currency without a rate" in refused.json()["error"]["message"]
        expect_balance(keybrake, key, free="10.99")
