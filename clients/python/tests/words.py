"""Short words for what most tests do."""

from __future__ import annotations

from typing import Any, Union

import httpx
import keybrake
import stripe
from keybrake.client import TIMEOUT_S

CHARGES = ["POST /v1/charges"]


def charge(
    kb: keybrake.Client, key: Union[keybrake.VaultKey, str], customer: str, cents: int, name: str
) -> stripe.Charge:
    """A charge as a pipeline makes it, through Stripe's own SDK."""
    params: Any = {"amount": cents, "currency": "usd", "customer": customer, "source": "tok_visa"}
    return keybrake.stripe_client(key, url=kb.url).v1.charges.create(params=params, options={"idempotency_key": name})


class Silence:
    """What a transport has that falls silent: each request after that is asked and times out. It is a clock as well."""

    fallen = False
    asked = 0

    def monotonic(self) -> float:
        """The seconds that went by in time-outs."""
        return self.asked * TIMEOUT_S

    def time_out(self, request: httpx.Request) -> httpx.TimeoutException:
        """One more that nobody answers."""
        self.asked += 1
        return httpx.ReadTimeout("silence", request=request)


class SlowTransport(httpx.HTTPTransport):
    """Each answer takes some seconds, by the clock that this is as well."""

    took = 0.0
    slow_s = 0.0

    def monotonic(self) -> float:
        """The seconds that went by in answers."""
        return self.took

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Carries the request."""
        self.took += self.slow_s
        return super().handle_request(request)


class SilentTransport(Silence, httpx.HTTPTransport):
    """For `Client`."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Carries the request until silence has fallen."""
        if self.fallen:
            raise self.time_out(request)
        return super().handle_request(request)


class AsyncSilentTransport(Silence, httpx.AsyncHTTPTransport):
    """For `AsyncClient`."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carries the request until silence has fallen."""
        if self.fallen:
            raise self.time_out(request)
        return await super().handle_async_request(request)


def uncapped(label: str, count: int) -> list[keybrake.NewKey]:
    """So many keys to issue, with labels that begin so."""
    return [{"label": f"{label}-{place}", "allowed_endpoints": CHARGES, "uncapped": True} for place in range(count)]
