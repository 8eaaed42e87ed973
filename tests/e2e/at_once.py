"""Many requests at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import httpx
from harness import CLIENT_TIMEOUT_S, Keybrake, VaultKey, fresh_key


def charge_request(
    kb: Keybrake,
    key: VaultKey,
    cents: int,
    *,
    idempotency_key: Optional[str] = None,
    form: Optional[Mapping[str, Any]] = None,
    url: Optional[str] = None,
) -> httpx.Request:
    """What `Keybrake.charge` sends, not sent yet."""
    return httpx.Request(
        "POST",
        f"{url or kb.url}/stripe/v1/charges",
        headers={"Authorization": f"Bearer {key.secret}", "Idempotency-Key": idempotency_key or fresh_key()},
        data={"amount": str(cents), "currency": "usd", "source": "tok_visa", **(form or {})},
    )


def at_once(requests: Sequence[httpx.Request]) -> list[httpx.Response]:
    """The answers to all of them, in their order; each has a connection of its own."""

    async def send_all() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=len(requests))
        async with httpx.AsyncClient(timeout=2 * CLIENT_TIMEOUT_S, trust_env=False, limits=limits) as client:
            return await asyncio.gather(*(client.send(request) for request in requests))

    return asyncio.run(send_all())
