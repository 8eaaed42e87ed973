"""Judges by what the vendor charged and what the ledger wrote down; believes neither the jobs nor the orchestrator.

Everything here is made of values: charges as the sandbox lists them, entries as the audit has them, and what is due:
cents by (customer, period).
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

CENTS = Decimal(100)
UNDECIDED = ("in_flight", "held", "unknown")

Due = Mapping[tuple[str, str], int]


@dataclasses.dataclass(frozen=True)
class Tally:
    """How many charges, and how much together."""

    charges: int
    cents: int

    @classmethod
    def of(cls, charges: Iterable[Mapping[str, Any]]) -> Tally:
        """What the vendor took."""
        amounts = [int(charge["amount_captured"]) for charge in charges]
        return cls(len(amounts), sum(amounts))

    @classmethod
    def of_due(cls, due: Due) -> Tally:
        """What is right: one charge for each customer and period."""
        return cls(len(due), sum(due.values()))


def unsafe_problems(charges: Sequence[Mapping[str, Any]], due: Due) -> list[str]:
    """Why a form does not show its hazard: the vendor is to have taken too much."""
    taken, right = Tally.of(charges), Tally.of_due(due)
    if taken.cents > right.cents:
        return []
    return [f"shows no hazard: the vendor took {taken.cents} cents, and {right.cents} are due"]


def safe_problems(charges: Sequence[Mapping[str, Any]], due: Due, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is not exactly once and exactly right, or on which vendor and ledger do not agree."""
    problems = []
    taken = sorted((charge["customer"], charge["description"], charge["amount_captured"]) for charge in charges)
    if taken != sorted((customer, period, cents) for (customer, period), cents in due.items()):
        problems.append(f"not exactly what is due; charges at the vendor: {taken}")
    settled = {
        entry["stripe_charge_id"]: Decimal(entry["cost_usd"]) for entry in entries if entry["outcome"] == "settled"
    }
    at_vendor = {charge["id"]: charge["amount_captured"] / CENTS for charge in charges}
    if settled != at_vendor:
        problems.append(f"the ledger settled {_usd(settled)}; the vendor took {_usd(at_vendor)}")
    undecided = [entry["outcome"] for entry in entries if entry["outcome"] in UNDECIDED]
    if undecided:
        problems.append(f"not decided in the ledger: {undecided}")
    return problems


def refusals(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """The reasons of what was refused, in alphabetical order."""
    return sorted(entry["reason"] for entry in entries if entry["verdict"] == "refused")


def by_customer(entries: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Audit entries by the customer that a request named."""
    found: dict[str, list[Mapping[str, Any]]] = collections.defaultdict(list)
    for entry in entries:
        found[(entry["params"] or {}).get("customer", "")].append(entry)
    return found


def balance_problems(keys: Iterable[Mapping[str, Any]], charges: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether the caps of all keys, each a lifetime cap, were debited for just these charges and hold nothing back."""
    balances = [balance for key in keys for balance in key["balances"]]
    settled = sum((Decimal(balance["settled"]) for balance in balances), Decimal())
    kept_back = sum((Decimal(balance["held"]) + Decimal(balance["unknown"]) for balance in balances), Decimal())
    problems = []
    if settled * CENTS != Tally.of(charges).cents:
        problems.append(f"caps of all keys: ${settled} settled, but the vendor took {Tally.of(charges).cents} cents")
    if kept_back:
        problems.append(f"caps of all keys: ${kept_back} held or unknown when all is over")
    return problems


def _usd(amounts: Mapping[str, Decimal]) -> str:
    return ", ".join(f"{name} ${amount:.2f}" for name, amount in sorted(amounts.items())) or "nothing"
