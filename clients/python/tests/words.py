"""Short words for what most tests do."""

from __future__ import annotations

from typing import Any, Union

import keybrake
import stripe

CHARGES = ["POST /v1/charges"]


def charge(
    kb: keybrake.Client, key: Union[keybrake.VaultKey, str], customer: str, cents: int, name: str
) -> stripe.Charge:
    """A charge as a pipeline makes it, through Stripe's own SDK."""
    params: Any = {"amount": cents, "currency": "usd", "customer": customer, "source": "tok_visa"}
    return keybrake.stripe_client(key, url=kb.url).v1.charges.create(params=params, options={"idempotency_key": name})
