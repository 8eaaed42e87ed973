"""Vault keys: issued, used within their bounds, revoked at the end, and never written down."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import secrets
import subprocess
import sys
from decimal import Decimal
from typing import Any

import httpx
import keybrake
import pytest
import stripe
from built import PACKAGE
from keybrake.testing import LocalStack, Sandbox
from words import CHARGES, SilentTransport, SlowTransport, charge, uncapped


class Cable(httpx.HTTPTransport):
    """A connection that can be cut."""

    cut = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Carries the request, unless it is cut."""
        if self.cut:
            raise httpx.ConnectError("gone", request=request)
        return super().handle_request(request)


def test_a_key_lives_as_long_as_its_block(kb: keybrake.Client, customer: str) -> None:
    with kb.vault_key(label="july", allowed_endpoints=CHARGES, daily_usd_cap="10.99", expires_in_seconds=600) as key:
        assert charge(kb, key, customer, 999, f"{customer}-1").paid
        assert kb.key(key).status == "active"
    assert kb.key(key).status == "revoked"
    with pytest.raises(stripe.AuthenticationError):
        charge(kb, key, customer, 1, f"{customer}-2")


def test_a_key_is_revoked_when_the_block_raises_or_is_interrupted(kb: keybrake.Client) -> None:
    for raised in (ZeroDivisionError("body"), KeyboardInterrupt("body")):
        with (
            pytest.raises(type(raised), match="body"),
            kb.vault_key(label="july", allowed_endpoints=CHARGES, uncapped=True) as key,
        ):
            raise raised
        assert kb.key(key).status == "revoked"


def test_many_keys_are_issued_all_or_none_and_all_revoked(kb: keybrake.Client) -> None:
    label = f"many-{secrets.token_hex(4)}-"
    wanted: list[keybrake.NewKey] = [
        {"label": f"{label}{cents}", "allowed_endpoints": CHARGES, "lifetime_usd_cap": keybrake.usd(cents)}
        for cents in (999, 2999, 9999)
    ]
    with kb.vault_keys(wanted) as keys:
        assert [key.label for key in keys] == [one["label"] for one in wanted]
        assert [Decimal(key.shown["lifetime_usd_cap"]) for key in keys] == [Decimal(c) / 100 for c in (999, 2999, 9999)]
    assert {kb.key(key).status for key in keys} == {"revoked"}
    wanted[1]["lifetime_usd_cap"] = "29.999"
    with pytest.raises(keybrake.ApiError) as refused:
        kb.issue_many(wanted)
    assert refused.value.errors == (("keys[1].lifetime_usd_cap", "at most two decimals are allowed"),)
    assert kb.revoke_all(label_prefix=label) == 0, "none was issued by the refused call"


def test_a_revocation_that_fails_is_told_and_hides_nothing(
    kb: keybrake.Client, keybrake_stack: LocalStack, caplog: pytest.LogCaptureFixture
) -> None:
    cable = Cable()
    client = keybrake.Client(keybrake_stack.url, admin_key=keybrake_stack.admin_key, http=httpx.Client(transport=cable))
    caplog.set_level(logging.ERROR, "keybrake")
    with (
        pytest.raises(ZeroDivisionError, match="body") as caught,
        client.vault_key(label="told", allowed_endpoints=CHARGES, uncapped=True) as key,
    ):
        cable.cut = True
        raise ZeroDivisionError("body")
    [line] = caplog.messages
    assert key.key_id in line and "told" in line and "gone" in line and key.secret not in line
    assert getattr(caught.value, "__notes__", [line]) == [line]
    kb.revoke(key)


def test_many_keys_that_nobody_revokes_hold_the_end_up_for_half_a_minute_and_all_are_told(
    kb: keybrake.Client, keybrake_stack: LocalStack, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = SilentTransport()
    monkeypatch.setattr("keybrake.telling.time", silent)
    http = httpx.Client(transport=silent)
    with (
        keybrake.Client(keybrake_stack.url, admin_key=keybrake_stack.admin_key, http=http) as client,
        client.vault_keys(uncapped("silence", 5)) as keys,
    ):
        silent.fallen = True
    assert silent.asked == 3, "after 0, 10 and 20 seconds"
    assert [key.key_id in line for key, line in zip(keys, caplog.messages)] == [True] * 5
    assert ["for 30 seconds" in line for line in caplog.messages] == [False] * 3 + [True] * 2
    assert kb.revoke_all(label_prefix="silence-") == 5


def test_many_keys_that_are_revoked_one_by_one_slowly_are_all_revoked(
    kb: keybrake.Client, keybrake_stack: LocalStack, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowTransport()
    monkeypatch.setattr("keybrake.telling.time", slow)
    with (
        keybrake.Client(
            keybrake_stack.url, admin_key=keybrake_stack.admin_key, http=httpx.Client(transport=slow)
        ) as client,
        client.vault_keys(uncapped("slow", 5)) as keys,
    ):
        slow.slow_s = 9.0
    assert [kb.key(key).status for key in keys] == ["revoked"] * 5
    assert (slow.took, caplog.messages) == (45.0, [])


def test_a_process_that_the_block_forks_does_not_end_the_key(keybrake_stack: LocalStack) -> None:
    code = (
        "import os, sys; import keybrake; kb = keybrake.Client()\n"
        "with kb.vault_key(label='forked', allowed_endpoints=['POST /v1/charges'], uncapped=True) as key:\n"
        "    child = os.fork()\n"
        "    if child == 0: sys.exit(7)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), kb.key(key).status)\n"
        "print(kb.key(key).status)"
    )
    environment = {**os.environ, **keybrake_stack.environment, "PYTHONPATH": str(PACKAGE / "src")}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (ended.stdout.split(), ended.stderr) == (["7", "active", "revoked"], "")


def test_a_key_does_what_it_was_issued_for_and_nothing_else(
    kb: keybrake.Client, sandbox: Sandbox, customer: str
) -> None:
    with kb.vault_key(label="scope", allowed_endpoints=CHARGES, daily_usd_cap="10.99") as key:
        made = charge(kb, key, customer, 999, customer)
        with pytest.raises(stripe.PermissionError) as refund:
            keybrake.stripe_client(key, url=kb.url).v1.refunds.create(params={"charge": made.id})
        assert refund.value.error is not None and refund.value.error.code == "endpoint_not_allowed"
        with pytest.raises(stripe.CardError) as cap:
            charge(kb, key, customer, 101, f"{customer}-more")
    assert keybrake.is_spend_cap(cap.value) and not keybrake.is_spend_cap(refund.value)
    assert [made["amount_captured"] for made in sandbox.charges(customer)] == [999]


def test_a_declined_card_is_no_spend_cap(kb: keybrake.Client) -> None:
    with kb.vault_key(label="declined", allowed_endpoints=CHARGES, daily_usd_cap=1) as key:
        params: Any = {"amount": 99, "currency": "usd", "source": "tok_chargeDeclined"}
        with pytest.raises(stripe.CardError) as declined:
            keybrake.stripe_client(key, url=kb.url).v1.charges.create(params=params)
    assert not keybrake.is_spend_cap(declined.value)


def test_a_secret_is_not_written_down_by_itself(kb: keybrake.Client, keybrake_stack: LocalStack) -> None:
    with kb.vault_key(label="quiet", allowed_endpoints=CHARGES, uncapped=True) as key:
        assert key.secret.startswith("vault_key_")
        shown = f"{key} {key!r} {key.shown} {kb!r} {keybrake_stack!r}"
        assert key.secret not in shown and keybrake_stack.admin_key not in shown and key.key_id in shown
        for held in (key, kb, [key], keybrake.stripe_client(key, url=kb.url)):
            with pytest.raises(TypeError):
                pickle.dumps(held)
        with pytest.raises(TypeError, match="not in an artifact"):
            copy.deepcopy(key)


def test_money_is_never_a_float(kb: keybrake.Client) -> None:
    wrong: Any = 10.99
    with pytest.raises(TypeError, match="daily_usd_cap"):
        kb.issue(label="float", allowed_endpoints=CHARGES, daily_usd_cap=wrong)
    assert keybrake.usd(1099) == "10.99" and keybrake.usd(5) == "0.05"
    with kb.vault_key(label="exact", allowed_endpoints=CHARGES, daily_usd_cap=Decimal("1E+1")) as key:
        assert Decimal(key.shown["daily_usd_cap"]) == 10


def test_what_is_missing_is_said_before_anything_is_sent(
    keybrake_stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(keybrake.SettingMissing, match="KEYBRAKE_URL"):
        keybrake.Client()
    for no_url in ("127.0.0.1:10000", "http://user:fake@127.0.0.1:10000", "http://127.0.0.1:10000?x=1"):
        with pytest.raises(ValueError, match="not the URL"):
            keybrake.Client(no_url)
    with keybrake.Client(keybrake_stack.url) as client, pytest.raises(keybrake.SettingMissing, match="KEYBRAKE_ADMIN"):
        client.revoke("vk_1")
    for carries_nothing in ("fake key", "fäke", "fake\nkey"):
        with pytest.raises(ValueError, match="KEYBRAKE_ADMIN_KEY has characters") as odd:
            keybrake.Client(keybrake_stack.url, admin_key=carries_nothing)
        assert carries_nothing not in str(odd.value)
    with keybrake.Client(f"{keybrake_stack.url}/", admin_key=f"{keybrake_stack.admin_key}\n") as client:
        assert client.revoke_all(label_prefix="nobody has this label") == 0
    with pytest.raises(keybrake.SettingMissing, match="VAULT_KEY"):
        keybrake.stripe_client(url=keybrake_stack.url)
    with pytest.raises(ValueError, match="not a vault key"):
        keybrake.stripe_client("sk_test_fake", url=keybrake_stack.url)
    monkeypatch.setenv("VAULT_KEY", "vault_key_fake")
    assert keybrake.stripe_client(url=keybrake_stack.url)._requestor.api_key == "vault_key_fake"


def test_a_wrong_credential_is_an_api_error_with_the_problems_words(keybrake_stack: LocalStack) -> None:
    with (
        keybrake.Client(keybrake_stack.url, admin_key=keybrake_stack.audit_key) as client,
        pytest.raises(keybrake.ApiError) as caught,
    ):
        client.issue(label="x", allowed_endpoints=CHARGES, uncapped=True)
    error = caught.value
    assert (error.status, error.code, error.title) == (403, "forbidden", "These credentials may not do this")
    assert "KEYBRAKE_ADMIN_KEY" in error.detail
    again = pickle.loads(pickle.dumps(error))
    assert (again.status, again.code, str(again)) == (error.status, error.code, str(error))
