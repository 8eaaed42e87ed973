"""Stripe's own Node SDK, unmodified, with a vault key, through the listener of its own: it takes no path prefix."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Optional

import pytest
from harness import Keybrake, VaultKey, eventually, fresh_key
from ledger_side import audited, expect_balance, only_entry
from vendor_side import arrives_at_the_vendor, nothing_reaches_the_vendor, vendor_sees

from stack.build import Artifacts

NODE = Path(__file__).resolve().parent / "node"
CHARGE = {"amount": 299, "currency": "usd", "source": "tok_visa"}


class Sdk:
    """A Node process with one client of the SDK."""

    def __init__(self, kb: Keybrake, key: VaultKey, **options: Any) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "KEYBRAKE_VAULT_KEY": key.secret,
            "KEYBRAKE_HOST": "127.0.0.1",
            "KEYBRAKE_PORT": str(kb.stack.options.ports.stripe),
            "SDK_OPTIONS": json.dumps(options),
        }
        self._node = subprocess.Popen(
            ["node", NODE / "sdk.mjs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def __enter__(self) -> Sdk:
        return self

    def __exit__(self, kind: Optional[type], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        assert self._node.stdin is not None and self._node.stdout is not None
        self._node.stdin.close()
        if error is not None:
            # A call may still be at it.
            self._node.kill()
        self._node.wait(10)
        self._node.stdout.close()

    def call(self, call: str, *arguments: Any) -> dict[str, Any]:
        """What the call returned. Fails when it threw."""
        answer = self._answer(call, arguments)
        assert "ok" in answer, answer
        found: dict[str, Any] = answer["ok"]
        return found

    def failure(self, call: str, *arguments: Any) -> dict[str, Any]:
        """What the call threw. Fails when it returned."""
        answer = self._answer(call, arguments)
        assert "error" in answer, answer
        found: dict[str, Any] = answer["error"]
        assert found["isStripeError"], found
        return found

    def _answer(self, call: str, arguments: tuple[Any, ...]) -> dict[str, Any]:
        assert self._node.stdin is not None and self._node.stdout is not None
        self._node.stdin.write(json.dumps({"call": call, "arguments": arguments}) + "\n")
        self._node.stdin.flush()
        answer: dict[str, Any] = json.loads(self._node.stdout.readline())
        return answer


def named(name: str) -> dict[str, str]:
    """Request options with this idempotency key."""
    return {"idempotencyKey": name}


@pytest.fixture(scope="module")
def sdk_stack(stacks_folder: Path, artifacts: Artifacts, envoy: Path) -> Iterator[Keybrake]:
    """A stack for what the shared one must not suffer; it says soon that a key is in use."""
    made = Keybrake.start(stacks_folder / "sdk-node", artifacts, envoy=envoy, plugin={"in_flight_patience_ms": 100})
    yield made
    made.stop()


def requests_logged(kb: Keybrake) -> int:
    """How many requests Envoy has written into its access log."""
    return len(kb.stack.envoy.access_log.read_text().splitlines())


def test_a_vault_key_charges_and_replays(keybrake: Keybrake) -> None:
    key, name = keybrake.issue(allowed_endpoints=["POST /v1/charges", "GET /v1/charges/{id}"]), fresh_key("node")
    with Sdk(keybrake, key) as sdk:
        with vendor_sees(keybrake, requests=1, executions=1):
            made = sdk.call("charges.create", {**CHARGE, "metadata": {"note": "a b+c"}}, named(name))
        assert made["id"].startswith("ch_") and made["metadata"] == {"note": "a b+c"}
        with nothing_reaches_the_vendor(keybrake):
            again = sdk.call("charges.create", {**CHARGE, "metadata": {"note": "a b+c"}}, named(name))
        assert again["id"] == made["id"]
        with vendor_sees(keybrake, requests=1, executions=0):
            assert sdk.call("charges.retrieve", made["id"])["id"] == made["id"]
    expect_balance(keybrake, key, free="8", settled="2.99")
    entry = only_entry(keybrake, idempotency_key=name)
    assert (entry["stripe_charge_id"], entry["replays"]) == (made["id"], 1)


def test_a_refund_out_of_scope_is_a_permission_error(keybrake: Keybrake) -> None:
    key = keybrake.issue()
    with Sdk(keybrake, key) as sdk, nothing_reaches_the_vendor(keybrake):
        error = sdk.failure("refunds.create", {"charge": "ch_1"})
    assert (error["class"], error["status"]) == ("StripePermissionError", 403)
    assert error["code"] == "endpoint_not_allowed"
    assert error["raw"]["attempted"] == "POST /v1/refunds"
    assert audited(keybrake, key) == [("refused", "refunds.create", "endpoint_not_allowed", None)], "tried once"
    expect_balance(keybrake, key, free="10.99")


def test_over_the_cap_is_a_card_error_with_a_code_of_its_own(keybrake: Keybrake) -> None:
    key = keybrake.issue(daily_usd_cap="2.98")
    with Sdk(keybrake, key) as sdk, nothing_reaches_the_vendor(keybrake):
        error = sdk.failure("charges.create", CHARGE)
    assert (error["class"], error["status"], error["code"]) == ("StripeCardError", 402, "spend_cap_exceeded")
    assert error["message"].startswith("Keybrake: ")
    assert "decline_code" not in error["raw"] and not error["declineCode"]
    assert len(audited(keybrake, key)) == 1, "tried once"
    expect_balance(keybrake, key, free="2.98")


def test_after_a_revocation_the_very_next_call_is_an_authentication_error(keybrake: Keybrake) -> None:
    key = keybrake.issue()
    with Sdk(keybrake, key) as sdk:
        sdk.call("charges.create", CHARGE)
        keybrake.revoke(key)
        with nothing_reaches_the_vendor(keybrake):
            error = sdk.failure("charges.create", CHARGE)
    assert (error["class"], error["status"], error["code"]) == (
        "StripeAuthenticationError",
        401,
        "vault_key_revoked",
    )
    assert len(keybrake.audit(key_id=key.key_id, verdict="refused")) == 1, "tried once"
    expect_balance(keybrake, key, free="8", settled="2.99")


def test_bad_requests_have_the_classes_of_the_sdk(keybrake: Keybrake) -> None:
    key, name = keybrake.issue(), fresh_key()
    with Sdk(keybrake, key) as sdk:
        sdk.call("charges.create", CHARGE, named(name))
        with nothing_reaches_the_vendor(keybrake):
            reused = sdk.failure("charges.create", {**CHARGE, "amount": 300}, named(name))
            unreadable = sdk.failure("charges.create", {**CHARGE, "amount": "2.99"})
        with vendor_sees(keybrake, requests=1, executions=0):
            declined = sdk.failure("charges.create", {**CHARGE, "source": "tok_chargeDeclined"})
    assert (reused["class"], reused["status"]) == ("StripeIdempotencyError", 400)
    assert (unreadable["class"], unreadable["status"]) == ("StripeInvalidRequestError", 400)
    assert (unreadable["code"], unreadable["param"]) == ("request_not_inspectable", "amount")
    assert (declined["class"], declined["code"]) == ("StripeCardError", "card_declined")
    assert declined["declineCode"] == "generic_decline"
    assert len(keybrake.audit(key_id=key.key_id)) == 4, "each tried once"
    expect_balance(keybrake, key, free="8", settled="2.99")


def test_a_key_in_use_is_tried_again_and_an_outcome_past_the_window_is_not(sdk_stack: Keybrake) -> None:
    kb, name, other = sdk_stack, fresh_key(), fresh_key()
    key = kb.issue(daily_usd_cap=None, lifetime_usd_cap="5.98", expires_in_seconds=90 * 24 * 3600)
    kb.fault({"kind": "delay", "delay_ms": 800}, idempotency_key=name)
    with Sdk(kb, key, maxNetworkRetries=9) as patient, Sdk(kb, key, maxNetworkRetries=0) as hasty:
        made: list[dict[str, Any]] = []
        with Sdk(kb, key) as sdk, vendor_sees(kb, requests=1, executions=1):
            first = threading.Thread(target=lambda: made.append(sdk.call("charges.create", CHARGE, named(name))))
            first.start()
            arrives_at_the_vendor(kb, name)
            in_use = hasty.failure("charges.create", CHARGE, named(name))
            found = patient.call("charges.create", CHARGE, named(name))
            first.join(10)
        assert (in_use["class"], in_use["status"], in_use["code"]) == ("StripeAPIError", 409, "idempotency_key_in_use")
        assert [charge["id"] for charge in made] == [found["id"]]
        kb.fault({"kind": "reset_before_answer"}, idempotency_key=other)
        lost = hasty.failure("charges.create", CHARGE, named(other))
        assert (lost["class"], lost["status"], lost["code"]) == ("StripeAPIError", 502, "outcome_unknown")
        kb.advance(hours=24)
        with nothing_reaches_the_vendor(kb):
            late = patient.failure("charges.create", CHARGE, named(other))
    assert (late["class"], late["status"], late["code"]) == ("StripeAPIError", 409, "outcome_unknown")
    (refused,) = kb.audit(key_id=key.key_id, verdict="refused", idempotency_key=other)
    assert refused["reason"] == "outcome_unknown", "tried once"
    expect_balance(kb, key, free="0", settled="2.99", unknown="2.99", window="lifetime")


def test_a_stopped_ledger_is_an_api_error_that_the_sdk_tries_again(sdk_stack: Keybrake) -> None:
    kb, key, name = sdk_stack, sdk_stack.issue(), fresh_key()
    with Sdk(kb, key) as sdk, Sdk(kb, key, maxNetworkRetries=20) as patient:
        sdk.call("charges.create", {**CHARGE, "amount": 10})
        kb.stack.ledger.stop()
        logged = requests_logged(kb)
        with nothing_reaches_the_vendor(kb):
            error = sdk.failure("charges.create", CHARGE, named(name))
        assert (error["class"], error["status"]) == ("StripeAPIError", 503)
        assert error["code"] == "governance_unavailable"
        # The SDK's own default: the first and two more.
        eventually(lambda: requests_logged(kb) >= logged + 3, 5, "three requests in the access log")
        made: list[dict[str, Any]] = []
        retrying = threading.Thread(target=lambda: made.append(patient.call("charges.create", CHARGE, named(name))))
        with vendor_sees(kb, requests=1, executions=1):
            retrying.start()
            eventually(lambda: requests_logged(kb) > logged + 3, 10, "a refused try in the access log")
            kb.stack.ledger.start()
            retrying.join(30)
    assert [charge["paid"] for charge in made] == [True]
    expect_balance(kb, key, free="7.90", settled="3.09")
