"""Stripe's own Python SDK, unmodified, with a vault key in the place of the secret key."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe
from harness import Keybrake, VaultKey, fresh_key
from ledger_side import audited, expect_balance, only_entry
from vendor_side import arrives_at_the_vendor, nothing_reaches_the_vendor, vendor_sees

from stack.build import Artifacts


@pytest.fixture(scope="module")
def sdk_stack(stacks_folder: Path, artifacts: Artifacts, envoy: Path) -> Iterator[Keybrake]:
    """A stack for what the shared one must not suffer; it says soon that a key is in use."""
    made = Keybrake.start(stacks_folder / "sdk-python", artifacts, envoy=envoy, plugin={"in_flight_patience_ms": 100})
    yield made
    made.stop()


def client(kb: Keybrake, key: VaultKey) -> stripe.StripeClient:
    """The SDK as its users make it."""
    return stripe.StripeClient(key.secret, base_addresses={"api": kb.url + "/stripe"})


def charge_params(**changes: Any) -> Any:
    """A charge of $2.99."""
    return {"amount": 299, "currency": "usd", "source": "tok_visa", **changes}


def options(name: str, **more: Any) -> Any:
    """With this idempotency key."""
    return {"idempotency_key": name, **more}


def told(caught: pytest.ExceptionInfo[Any]) -> tuple[int, str]:
    """Status and code, as the SDK shows them. (Only some of its classes have `code` of their own.)"""
    return caught.value.http_status, caught.value.error.code


def error_of(caught: pytest.ExceptionInfo[Any]) -> Any:
    """The `error` of the answer behind an exception."""
    return caught.value.json_body["error"]


def test_a_vault_key_charges(keybrake: Keybrake) -> None:
    key, name = keybrake.issue(), fresh_key("python")
    with vendor_sees(keybrake, requests=1, executions=1):
        charge = client(keybrake, key).v1.charges.create(params=charge_params(), options=options(name))
    assert charge.id.startswith("ch_") and charge.paid and charge.amount == 299
    assert charge.last_response is not None and charge.last_response.request_id is not None
    expect_balance(keybrake, key, free="8", settled="2.99")
    entry = only_entry(keybrake, idempotency_key=name)
    assert (entry["stripe_charge_id"], entry["vendor_request_id"]) == (charge.id, charge.last_response.request_id)
    with nothing_reaches_the_vendor(keybrake):
        again = client(keybrake, key).v1.charges.create(params=charge_params(), options=options(name))
    assert again.id == charge.id
    assert again.last_response is not None
    assert again.last_response.headers["idempotent-replayed"] == "true"


def test_without_an_idempotency_key_the_sdk_makes_one(keybrake: Keybrake) -> None:
    key = keybrake.issue(allowed_endpoints=["POST /v1/charges", "GET /v1/charges", "POST /v1/payment_intents"])
    customer = fresh_key("cus").replace("-", "_")
    sdk = client(keybrake, key)
    with vendor_sees(keybrake, requests=4, executions=3):
        for _ in range(2):
            sdk.v1.charges.create(params=charge_params(customer=customer, metadata={"note": "a b+c"}))
        intent = sdk.v1.payment_intents.create(
            params={"amount": 100, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
        )
        listed = sdk.v1.charges.list(params={"customer": customer})
    assert intent.status == "succeeded"
    assert [charge.metadata["note"] for charge in listed.data if charge.metadata] == ["a b+c", "a b+c"]
    expect_balance(keybrake, key, free="4.01", settled="6.98")


def test_a_refund_out_of_scope_is_a_permission_error(keybrake: Keybrake) -> None:
    key = keybrake.issue()
    charge = client(keybrake, key).v1.charges.create(params=charge_params())
    with nothing_reaches_the_vendor(keybrake), pytest.raises(stripe.PermissionError) as caught:
        client(keybrake, key).v1.refunds.create(params={"charge": charge.id})
    assert told(caught) == (403, "endpoint_not_allowed")
    assert error_of(caught)["attempted"] == "POST /v1/refunds"
    assert error_of(caught)["allowed_endpoints"] == ["POST /v1/charges"]
    assert audited(keybrake, key)[1:] == [("refused", "refunds.create", "endpoint_not_allowed", None)]
    expect_balance(keybrake, key, free="8", settled="2.99")


def test_over_the_cap_is_a_card_error_with_a_code_of_its_own(keybrake: Keybrake) -> None:
    key = keybrake.issue(daily_usd_cap="2.98")
    with nothing_reaches_the_vendor(keybrake), pytest.raises(stripe.CardError) as caught:
        client(keybrake, key).v1.charges.create(params=charge_params())
    error = caught.value
    assert (error.http_status, error.code) == (402, "spend_cap_exceeded")
    assert str(error.user_message).startswith("Keybrake: ")
    assert "decline_code" not in error_of(caught)
    assert error.headers is not None and error.headers["keybrake-cap-left"] == "2.980000"
    assert len(audited(keybrake, key)) == 1, "the SDK has not tried again"
    expect_balance(keybrake, key, free="2.98")


def test_a_declined_card_stays_told_apart_from_the_cap(keybrake: Keybrake) -> None:
    key = keybrake.issue()
    with vendor_sees(keybrake, requests=1, executions=0), pytest.raises(stripe.CardError) as caught:
        client(keybrake, key).v1.charges.create(params=charge_params(source="tok_chargeDeclined"))
    assert caught.value.code == "card_declined"
    assert error_of(caught)["decline_code"] == "generic_decline"
    expect_balance(keybrake, key, free="10.99")


def test_after_a_revocation_the_very_next_call_is_an_authentication_error(keybrake: Keybrake) -> None:
    key = keybrake.issue()
    sdk = client(keybrake, key)
    for _ in range(3):
        sdk.v1.charges.create(params=charge_params(amount=10))
    keybrake.revoke(key)
    with nothing_reaches_the_vendor(keybrake), pytest.raises(stripe.AuthenticationError) as caught:
        sdk.v1.charges.create(params=charge_params())
    assert told(caught) == (401, "vault_key_revoked")
    expect_balance(keybrake, key, free="10.69", settled="0.30")


def test_a_reused_idempotency_key_is_an_idempotency_error(keybrake: Keybrake) -> None:
    key, name = keybrake.issue(), fresh_key()
    client(keybrake, key).v1.charges.create(params=charge_params(), options=options(name))
    with nothing_reaches_the_vendor(keybrake), pytest.raises(stripe.IdempotencyError) as caught:
        client(keybrake, key).v1.charges.create(params=charge_params(amount=300), options=options(name))
    assert caught.value.http_status == 400
    expect_balance(keybrake, key, free="8", settled="2.99")


def test_what_cannot_be_read_is_an_invalid_request_error(keybrake: Keybrake) -> None:
    key = keybrake.issue(allowed_endpoints=["POST /v1/charges", "GET /v1/charges/{id}"])
    with nothing_reaches_the_vendor(keybrake), pytest.raises(stripe.InvalidRequestError) as caught:
        client(keybrake, key).v1.charges.create(params=charge_params(amount="2.99"))
    assert (caught.value.code, caught.value.param) == ("request_not_inspectable", "amount")
    with vendor_sees(keybrake, requests=1, executions=0), pytest.raises(stripe.InvalidRequestError) as missing:
        client(keybrake, key).v1.charges.retrieve("ch_nobodyknows")
    assert told(missing) == (404, "resource_missing")
    expect_balance(keybrake, key, free="10.99")


def test_an_sdk_waits_out_a_key_in_use_and_gets_the_one_charge(sdk_stack: Keybrake) -> None:
    kb, key, name = sdk_stack, sdk_stack.issue(), fresh_key()
    kb.fault({"kind": "delay", "delay_ms": 1000}, idempotency_key=name)
    charges: list[stripe.Charge] = []
    first = threading.Thread(
        target=lambda: charges.append(client(kb, key).v1.charges.create(params=charge_params(), options=options(name)))
    )
    with vendor_sees(kb, requests=1, executions=1):
        first.start()
        arrives_at_the_vendor(kb, name)
        with pytest.raises(stripe.APIError) as caught:
            client(kb, key).v1.charges.create(params=charge_params(), options=options(name, max_network_retries=0))
        assert told(caught) == (409, "idempotency_key_in_use")
        second = client(kb, key).v1.charges.create(params=charge_params(), options=options(name, max_network_retries=9))
        first.join(10)
    assert [charge.id for charge in charges] == [second.id]
    expect_balance(kb, key, free="8", settled="2.99")


def test_an_unknown_outcome_past_the_vendors_window_is_not_tried_again(sdk_stack: Keybrake) -> None:
    kb, name = sdk_stack, fresh_key()
    key = kb.issue(daily_usd_cap=None, lifetime_usd_cap="2.99", expires_in_seconds=90 * 24 * 3600)
    kb.fault({"kind": "reset_before_answer"}, idempotency_key=name)
    with pytest.raises(stripe.APIError) as lost:
        client(kb, key).v1.charges.create(params=charge_params(), options=options(name, max_network_retries=0))
    assert told(lost) == (502, "outcome_unknown")
    kb.advance(hours=24)
    with nothing_reaches_the_vendor(kb), pytest.raises(stripe.APIError) as caught:
        client(kb, key).v1.charges.create(params=charge_params(), options=options(name))
    assert told(caught) == (409, "outcome_unknown")
    assert len(kb.audit(key_id=key.key_id, verdict="refused")) == 1, "asked once"
    expect_balance(kb, key, free="0", unknown="2.99", window="lifetime")


def test_an_sdk_tries_again_by_itself_until_the_ledger_is_back(sdk_stack: Keybrake) -> None:
    kb, key, name = sdk_stack, sdk_stack.issue(), fresh_key()
    kb.stack.ledger.stop()
    with nothing_reaches_the_vendor(kb), pytest.raises(stripe.APIError) as caught:
        client(kb, key).v1.charges.create(params=charge_params(), options=options(name, max_network_retries=0))
    assert told(caught) == (503, "governance_unavailable")
    charges: list[stripe.Charge] = []
    retrying = threading.Thread(
        target=lambda: charges.append(
            client(kb, key).v1.charges.create(params=charge_params(), options=options(name, max_network_retries=20))
        )
    )
    with vendor_sees(kb, requests=1, executions=1):
        retrying.start()
        time.sleep(0.3)
        kb.stack.ledger.start()
        retrying.join(30)
    assert [charge.paid for charge in charges] == [True]
    expect_balance(kb, key, free="8", settled="2.99")
