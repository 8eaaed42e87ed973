"""Stripe's own SDK, sent through Keybrake."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Optional, Union

from keybrake.errors import SettingMissing
from keybrake.keys import VaultKey
from keybrake.settings import find_url

if TYPE_CHECKING:
    import stripe

__all__ = ["is_spend_cap", "stripe_client"]

KEY_VARIABLE = "VAULT_KEY"


def stripe_client(
    key: Union[VaultKey, str, None] = None, *, url: Optional[str] = None, **options: Any
) -> stripe.StripeClient:
    """The official `stripe.StripeClient` with a vault key, every address of it Keybrake's.

    Without `key` the vault key of the environment variable `VAULT_KEY` is used, without `url` `KEYBRAKE_URL`.
    `options` are those of `StripeClient`. It tries once, or as often as `max_network_retries` says:
    the same idempotency key goes with each try, Keybrake says which answers are worth another one, and an execution is
    never repeated.

    Raises `SettingMissing`, `ValueError` for what is no vault key (a real Stripe secret never leaves by mistake) and
    `ImportError` without the package `stripe` (`pip install 'keybrake[stripe]'`).
    """
    from stripe import StripeClient  # noqa: PLC0415 (an optional dependency)

    secret = key.secret if isinstance(key, VaultKey) else key or os.environ.get(KEY_VARIABLE)
    if not secret:
        raise SettingMissing(f"{KEY_VARIABLE} is not set, and no key was given")
    if not secret.startswith("vault_key_"):
        raise ValueError("not a vault key: it begins with vault_key_")
    vendor = find_url(url) + "/stripe"
    everywhere = {name: vendor for name in ("api", "connect", "files", "meter_events")}
    return StripeClient(secret, **{"base_addresses": everywhere, **options})


def is_spend_cap(error: BaseException) -> bool:
    """Is this Keybrake's own limit? Stripe's SDKs make a `CardError` of every 402, so that without this question a cap
    looks like a customer's declined card."""
    return getattr(error, "code", None) == "spend_cap_exceeded"
