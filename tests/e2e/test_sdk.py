"""Stripe's own SDKs, unmodified, with a vault key in the place of the secret key: what goes through, and what they get
through by trying again. `test_sdk_refusals.py` has what they raise."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from harness import Keybrake, VaultKey, eventually, fresh_key
from ledger_side import expect_balance, only_entry
from sdk import RETRIES, SDKS, Options, Sdk
from vendor_side import arrives_at_the_vendor, nothing_reaches_the_vendor, vendor_sees

from stack.build import Artifacts

pytestmark = pytest.mark.gate

CHARGE: Mapping[str, Any] = {"amount": 299, "currency": "usd", "source": "tok_visa"}

every_sdk = pytest.mark.parametrize("language", SDKS)


@pytest.fixture(scope="module")
def sdk_stack(stacks_folder: Path, artifacts: Artifacts, envoy: Path) -> Iterator[Keybrake]:
    """A stack for what the shared one must not suffer; it says soon that a key is in use."""
    made = Keybrake.start(stacks_folder / "sdk", artifacts, envoy=envoy, plugin={"in_flight_patience_ms": 100})
    yield made
    made.stop()


def client(kb: Keybrake, key: VaultKey, language: str, retries: int = RETRIES) -> Sdk:
    """The SDK as its users make it: Python's with the path prefix, Node's at Stripe's own listener."""
    url = f"{kb.url}/stripe" if language == "python" else kb.stripe_url
    return SDKS[language](url, key.secret, retries)


def requests_of_clients(kb: Keybrake) -> int:
    """How many requests both listeners have been sent."""
    return sum(kb.stack.envoy.stats(r"^http\.(egress|stripe)\.downstream_rq_total$").values())


@every_sdk
def test_a_vault_key_charges_and_replays(keybrake: Keybrake, language: str) -> None:
    key, name = keybrake.issue(allowed_endpoints=["POST /v1/charges", "GET /v1/charges/{id}"]), fresh_key(language)
    params = {**CHARGE, "metadata": {"note": "a b+c"}}
    with client(keybrake, key, language) as sdk:
        with vendor_sees(keybrake, requests=1, executions=1):
            made = sdk.call("charges.create", params=params, options=Options(name))
        assert made["id"].startswith("ch_") and made["paid"] and made["amount"] == 299
        assert made["metadata"] == {"note": "a b+c"}
        with nothing_reaches_the_vendor(keybrake):
            again = sdk.call("charges.create", params=params, options=Options(name))
        assert again["id"] == made["id"]
        with vendor_sees(keybrake, requests=1, executions=0):
            assert sdk.call("charges.retrieve", made["id"])["id"] == made["id"]
    expect_balance(keybrake, key, free="8", settled="2.99")
    entry = only_entry(keybrake, idempotency_key=name)
    assert (entry["stripe_charge_id"], entry["replays"]) == (made["id"], 1)


@every_sdk
def test_without_an_idempotency_key_the_sdk_makes_one(keybrake: Keybrake, language: str) -> None:
    key = keybrake.issue(allowed_endpoints=["POST /v1/charges", "GET /v1/charges", "POST /v1/payment_intents"])
    customer = fresh_key("cus").replace("-", "_")
    intended = {"amount": 100, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
    with client(keybrake, key, language) as sdk, vendor_sees(keybrake, requests=4, executions=3):
        for _ in range(2):
            sdk.call("charges.create", params={**CHARGE, "customer": customer})
        intent = sdk.call("paymentIntents.create" if language == "node" else "payment_intents.create", params=intended)
        listed = sdk.call("charges.list", params={"customer": customer})
    assert intent["status"] == "succeeded"
    assert [charge["amount"] for charge in listed["data"]] == [299, 299]
    expect_balance(keybrake, key, free="4.01", settled="6.98")


@every_sdk
def test_after_a_revocation_the_very_next_call_is_an_authentication_error(keybrake: Keybrake, language: str) -> None:
    key = keybrake.issue()
    with client(keybrake, key, language) as sdk:
        for _ in range(3):
            sdk.call("charges.create", params={**CHARGE, "amount": 10})
        keybrake.revoke(key)
        with nothing_reaches_the_vendor(keybrake):
            failure = sdk.failure("charges.create", params=CHARGE)
    assert (failure.kind, failure.error["code"]) == ("AuthenticationError", "vault_key_revoked")
    expect_balance(keybrake, key, free="10.69", settled="0.30")


@every_sdk
def test_an_sdk_waits_out_a_key_in_use_and_gets_the_one_charge(sdk_stack: Keybrake, language: str) -> None:
    kb, key, name = sdk_stack, sdk_stack.issue(), fresh_key()
    kb.fault({"kind": "delay", "delay_ms": 1000}, idempotency_key=name)
    made: list[Mapping[str, Any]] = []
    with (
        client(kb, key, language) as sdk,
        client(kb, key, language, retries=9) as patient,
        vendor_sees(kb, requests=1, executions=1),
    ):
        first = threading.Thread(
            target=lambda: made.append(sdk.call("charges.create", params=CHARGE, options=Options(name)))
        )
        first.start()
        arrives_at_the_vendor(kb, name)
        found = patient.call("charges.create", params=CHARGE, options=Options(name))
        first.join(10)
    assert [charge["id"] for charge in made] == [found["id"]]
    expect_balance(kb, key, free="8", settled="2.99")


@every_sdk
def test_an_sdk_tries_again_by_itself_until_the_ledger_is_back(sdk_stack: Keybrake, language: str) -> None:
    kb, key, name = sdk_stack, sdk_stack.issue(), fresh_key()
    made: list[Mapping[str, Any]] = []
    with client(kb, key, language, retries=20) as patient:
        retrying = threading.Thread(
            target=lambda: made.append(patient.call("charges.create", params=CHARGE, options=Options(name)))
        )
        with vendor_sees(kb, requests=1, executions=1):
            kb.stack.ledger.stop()
            asked = requests_of_clients(kb)
            retrying.start()
            eventually(lambda: requests_of_clients(kb) > asked + 1, 10, "a second try")
            kb.stack.ledger.start()
            retrying.join(30)
    assert [charge["paid"] for charge in made] == [True]
    expect_balance(kb, key, free="8", settled="2.99")
