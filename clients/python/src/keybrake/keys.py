"""Vault keys: what is asked for, and what is issued."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, TypedDict, Union

from keybrake.balances import Balance, read_balances
from keybrake.reading import member, object_of
from keybrake.secrecy import NotPickled

__all__ = [
    "Grant",
    "KeyState",
    "NewKey",
    "Usd",
    "VaultKey",
    "new_key_body",
    "plain",
    "read_key",
    "read_key_state",
    "usd",
]

Usd = Union[str, int, Decimal]
"""US dollars with at most two decimals: "10.99", 10, Decimal("10.99"). Floats are refused."""

CAPS = frozenset(f"{window}_usd_cap" for window in ("daily", "monthly", "lifetime", "rolling", "per_request")) | {
    "worst_case_usd"
}


class Grant(TypedDict, total=False):
    """What a key may do, beside its label and endpoints. The fields are those of `POST /admin/vault_keys`."""

    vendor: str
    daily_usd_cap: Usd
    monthly_usd_cap: Usd
    lifetime_usd_cap: Usd
    per_request_usd_cap: Usd
    rolling_usd_cap: Usd
    rolling_hours: int
    uncapped: bool
    budget: str
    max_requests: int
    expires_in_seconds: int
    expires_at: str
    workspace: str
    constraints: Mapping[str, Any]
    vendor_accounts: Sequence[str]
    idempotency: Literal["required", "optional", "derived"]
    derive_from: Sequence[str]
    derive_scope: str
    duplicate_window_seconds: int
    duplicate_fields: Sequence[str]
    worst_case_usd: Usd
    metadata: Mapping[str, Any]


class NewKey(Grant):
    """All that `issue_many` takes for one key."""

    label: str
    allowed_endpoints: Sequence[str]


@dataclasses.dataclass(frozen=True)
class KeyState:
    """A key as it stands, without its secret. `shown` has all that the API said."""

    key_id: str
    label: str
    status: str
    """`active`, `expired` or `revoked`."""
    expires_at: str
    balances: Sequence[Balance]
    """Of the present windows; empty in a list of keys."""
    shown: Mapping[str, Any] = dataclasses.field(repr=False)


class VaultKey(NotPickled):
    """An issued key. Its secret is shown by `secret` alone: not by `repr`, and it cannot be pickled."""

    __slots__ = ("_secret", "expires_at", "key_id", "label", "shown")

    def __init__(self, *, secret: str, key_id: str, label: str, expires_at: str, shown: Mapping[str, Any]) -> None:
        self._secret = secret
        self.key_id = key_id
        """Public handle, `vk_…`: may be logged and kept."""
        self.label = label
        self.expires_at = expires_at
        """RFC 3339, UTC."""
        self.shown = shown
        """The whole answer, without the secret."""

    @property
    def secret(self) -> str:
        """What takes the place of the vendor's secret key. Keep it in memory, or in the environment of one process."""
        return self._secret

    def __repr__(self) -> str:
        return f"VaultKey(key_id={self.key_id!r}, label={self.label!r})"


def usd(cents: int) -> str:
    """US cents as the text of a cap: 1099 → "10.99"."""
    if isinstance(cents, bool) or not isinstance(cents, int):
        raise TypeError(f"cents are a whole number, not {type(cents).__name__}")
    if cents < 0:
        raise ValueError("cents are not negative")
    return f"{cents // 100}.{cents % 100:02}"


def new_key_body(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON body of a wanted key. A field that is None is left out. Raises `TypeError` for money as a float."""
    return {"vendor": "stripe", **{name: plain(name, value) for name, value in asked.items() if value is not None}}


def plain(name: str, value: Any) -> Any:
    """A field as JSON has it: money as text, exactly."""
    if name not in CAPS or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise TypeError(f"{name} is of type {type(value).__name__}: write dollars as text, like '10.99'")
    return format(Decimal(value), "f")


def read_key(answer: Any) -> VaultKey:
    """An issued key from its JSON."""
    found = dict(object_of(answer, "the issued key"))
    secret = member(found, "vault_key", str)
    del found["vault_key"]
    return VaultKey(
        secret=secret,
        key_id=member(found, "key_id", str),
        label=member(found, "label", str),
        expires_at=member(found, "expires_at", str),
        shown=found,
    )


def read_key_state(answer: Any) -> KeyState:
    """A key that is shown, from its JSON."""
    found = object_of(answer, "the key")
    return KeyState(
        key_id=member(found, "key_id", str),
        label=member(found, "label", str),
        status=member(found, "status", str),
        expires_at=member(found, "expires_at", str),
        balances=read_balances(found) if "balances" in found else [],
        shown=found,
    )
