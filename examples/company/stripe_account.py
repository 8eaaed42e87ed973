"""Stripe as a job without Keybrake has it: the official SDK with the secret key of the account."""

from __future__ import annotations

import os
from typing import Optional

import stripe


def client(secret_key: Optional[str] = None) -> stripe.StripeClient:
    """The SDK with STRIPE_SECRET_KEY, or another key, for STRIPE_API_BASE (without it, Stripe itself)."""
    if os.environ.get("STRIPE_CA_BUNDLE"):
        stripe.ca_bundle_path = os.environ["STRIPE_CA_BUNDLE"]
    api = os.environ.get("STRIPE_API_BASE", stripe.DEFAULT_API_BASE)
    return stripe.StripeClient(secret_key or os.environ["STRIPE_SECRET_KEY"], base_addresses={"api": api})
