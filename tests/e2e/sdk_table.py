"""What `sdk/refusals.jsonl` holds: a refusal for each line, how it comes about, and what an SDK has to make of it.

How it comes about; by default a charge of $2.99 with a key that `harness.Keybrake.issue` gives:

- `grant`: fields of the vault key's grant; `budget`: terms of the budget it draws from, then without caps of its own
- `secret`: what stands in the vault key's place, by a name of `sdk_scenes.SECRETS`
- `first`: what happens before, by names of `sdk_scenes.STEPS`; `fault`: what the vendor does to every request of it
- `call`, `ids`, `params`: what the SDK is asked; `keyless`: without an idempotency key; `account`, `content_type`;
  `padding`: so many characters in the description
- `listener`: the one that is called; `plugin`: the plugin configuration, where it differs

What comes of it:

- `code`: the code's name in the contract, or null where the no is the vendor's own; `shows`: the code as the SDK shows
  it, if it is another; `type`; `status`; `says`: part of the message; `error`: members of the error besides
- `raises`: the class of the exception, which Node's SDK calls the same with `Stripe` before
- `requests`: how many the SDK makes, with its retries as they come; `retry`: what the answer advises
- `vendor`: requests and executions at the vendor; none and not a byte unless it says so; null: it is not there,
  and not a byte is sent

A line with nothing but `usual` changes what the lines after it need not say.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal, Optional

import hostile_table

from stack.build import ROOT

CHARGE = {"amount": 299, "currency": "usd", "source": "tok_visa"}
CONTRACT = ROOT / "src" / "contract" / "src" / "refusal.rs"


@dataclasses.dataclass(frozen=True)
class Row:
    """One line."""

    name: str
    code: Optional[str]
    status: int
    raises: str
    says: str
    shows: Optional[str]
    type: Optional[str] = "invalid_request_error"
    error: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    requests: int = 1
    retry: Optional[str] = None
    vendor: Optional[tuple[int, int]] = (0, 0)
    grant: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    budget: Optional[Mapping[str, Any]] = None
    secret: Optional[str] = None
    first: tuple[str, ...] = ()
    fault: Optional[Mapping[str, Any]] = None
    call: str = "charges.create"
    ids: tuple[str, ...] = ()
    params: Mapping[str, Any] = dataclasses.field(default_factory=lambda: CHARGE)
    padding: int = 0
    keyless: bool = False
    account: Optional[str] = None
    content_type: Optional[str] = None
    listener: Literal["stripe", "egress"] = "stripe"
    plugin: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def rows() -> list[Row]:
    """All lines."""
    return [_row(told) for told in hostile_table.lines(hostile_table.TABLES.parent / "sdk" / "refusals.jsonl")]


def _row(told: dict[str, Any]) -> Row:
    told.setdefault("shows", told["code"])
    if told["code"] is not None:
        told.setdefault("retry", "true" if told.get("requests", 1) > 1 else "false")
    if told.get("vendor") is not None:
        told["vendor"] = tuple(told["vendor"])
    for name in ("first", "ids"):
        told[name] = tuple(told.get(name, ()))
    return Row(**told)


def codes_of_the_contract() -> list[str]:
    """The names on the wire of all refusals that filter and ledger know."""
    (body,) = re.findall(r"pub enum RefusalCode \{(.*?)\n\}", CONTRACT.read_text(), re.DOTALL)
    variants = re.findall(r"^    ([A-Z][A-Za-z]*),$", body, re.MULTILINE)
    return [re.sub(r"(?<!^)(?=[A-Z])", "_", variant).lower() for variant in variants]
