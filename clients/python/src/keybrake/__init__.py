"""Vault keys for the paid calls of pipelines and agents::

import keybrake

kb = keybrake.Client()  # KEYBRAKE_URL, KEYBRAKE_ADMIN_KEY, KEYBRAKE_AUDIT_KEY
name = keybrake.idempotency_key("cus_aaa", 999, "2026-07")
charge_id = kb.preflight(idempotency_key=name)
if charge_id is None:
    with kb.vault_key(label="july-cus_aaa", allowed_endpoints=["POST /v1/charges"], daily_usd_cap="10.99") as key:
        charge = keybrake.stripe_client(key).v1.charges.create(
            params={"amount": 999, "currency": "usd", "customer": "cus_aaa"}, options={"idempotency_key": name}
        )
"""

from keybrake.async_client import AsyncClient
from keybrake.balances import Balance, Statement, StatementWindow
from keybrake.budgets import Budget, BudgetCaps
from keybrake.client import Client
from keybrake.entries import Entry
from keybrake.errors import (
    ApiError,
    ApiUnavailable,
    Error,
    FieldError,
    MalformedAnswer,
    SettingMissing,
    Unavailable,
    Unknown,
)
from keybrake.idempotency import idempotency_key
from keybrake.keys import Grant, KeyState, NewKey, VaultKey, usd
from keybrake.stripe_sdk import is_spend_cap, stripe_client

__all__ = [
    "ApiError",
    "ApiUnavailable",
    "AsyncClient",
    "Balance",
    "Budget",
    "BudgetCaps",
    "Client",
    "Entry",
    "Error",
    "FieldError",
    "Grant",
    "KeyState",
    "MalformedAnswer",
    "NewKey",
    "SettingMissing",
    "Statement",
    "StatementWindow",
    "Unavailable",
    "Unknown",
    "VaultKey",
    "idempotency_key",
    "is_spend_cap",
    "stripe_client",
    "usd",
]
