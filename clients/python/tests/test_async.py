"""The asynchronous twin does what the client does, and has every one of its methods."""

from __future__ import annotations

import asyncio
import inspect
import pickle

import anyio
import httpx
import keybrake
import pytest
from keybrake.testing import LocalStack
from words import CHARGES, AsyncSilentTransport, charge, uncapped


def client(stack: LocalStack) -> keybrake.AsyncClient:
    """Of this stack."""
    return keybrake.AsyncClient(stack.url, admin_key=stack.admin_key, audit_key=stack.audit_key)


def test_it_has_the_same_methods_with_the_same_arguments() -> None:
    ours, twins = vars(keybrake.Client), vars(keybrake.AsyncClient)
    public = {name for name in ours if not name.startswith("_")}
    assert public == {name for name in twins if not name.startswith("_")}
    for name in public - {"url"}:
        assert list(inspect.signature(ours[name]).parameters.values()) == list(
            inspect.signature(twins[name]).parameters.values()
        ), name


def test_it_charges_once_and_asks_before(keybrake_stack: LocalStack, kb: keybrake.Client, customer: str) -> None:
    async def bill() -> None:
        async with client(keybrake_stack) as twin:
            assert await twin.preflight(idempotency_key=customer) is None
            async with twin.vault_key(label=customer, allowed_endpoints=CHARGES, daily_usd_cap="10") as key:
                made = await asyncio.to_thread(charge, kb, key, customer, 999, customer)
                assert (await twin.key(key)).status == "active"
            assert (await twin.key(key)).status == "revoked"
            assert await twin.preflight(idempotency_key=customer) == made.id
            entries = [entry.stripe_charge_id async for entry in twin.audit(label=customer)]
            assert entries == [made.id]
            assert (await twin.statement(key)).adds_up
            with pytest.raises(TypeError):
                pickle.dumps(twin)

    asyncio.run(bill())


def test_a_key_is_revoked_when_its_task_is_cancelled(keybrake_stack: LocalStack, kb: keybrake.Client) -> None:
    async def cancelled() -> keybrake.VaultKey:
        issued: asyncio.Future[keybrake.VaultKey] = asyncio.get_running_loop().create_future()

        async def body() -> None:
            async with (
                client(keybrake_stack) as twin,
                twin.vault_keys([{"label": "cancelled", "allowed_endpoints": CHARGES, "uncapped": True}]) as keys,
            ):
                issued.set_result(keys[0])
                await asyncio.Event().wait()

        running = asyncio.create_task(body())
        key = await issued
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return key

    assert kb.key(asyncio.run(cancelled())).status == "revoked"


def test_a_key_is_revoked_in_a_scope_that_lets_nothing_more_through(
    keybrake_stack: LocalStack, kb: keybrake.Client
) -> None:
    async def cancelled() -> keybrake.VaultKey:
        async with client(keybrake_stack) as twin:
            with anyio.CancelScope() as scope:
                async with twin.vault_key(label="scope", allowed_endpoints=CHARGES, uncapped=True) as key:
                    scope.cancel()
                    await anyio.sleep_forever()
        return key

    assert kb.key(anyio.run(cancelled)).status == "revoked"


def test_many_keys_that_nobody_revokes_hold_it_up_for_half_a_minute_as_well(
    kb: keybrake.Client, keybrake_stack: LocalStack, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = AsyncSilentTransport()
    monkeypatch.setattr("keybrake.telling.time", silent)

    async def issue() -> None:
        async with (
            httpx.AsyncClient(transport=silent) as http,
            keybrake.AsyncClient(keybrake_stack.url, admin_key=keybrake_stack.admin_key, http=http) as twin,
            twin.vault_keys(uncapped("async-silence", 5)),
        ):
            silent.fallen = True

    asyncio.run(issue())
    assert (silent.asked, len(caplog.messages)) == (3, 5)
    assert kb.revoke_all(label_prefix="async-silence-") == 5


def test_it_fails_closed_as_well(keybrake_stack: LocalStack) -> None:
    async def ask(twin: keybrake.AsyncClient) -> None:
        async with twin:
            await twin.preflight(idempotency_key="k1")

    with pytest.raises(keybrake.Unavailable):
        asyncio.run(ask(keybrake.AsyncClient("http://127.0.0.1:1", audit_key="fake")))
    with pytest.raises(keybrake.ApiError, match="unauthenticated"):
        asyncio.run(ask(keybrake.AsyncClient(keybrake_stack.url, audit_key="fake")))
