"""The examples' referee on made-up books: what it must not let pass."""

from __future__ import annotations

from typing import Any

import pytest

from examples.runner.referee import balance_problems, refusals, safe_problems, unsafe_problems

DUE = {("cus_a", "2026-07"): 999, ("cus_b", "2026-07"): 2999}


def charge(name: str, customer: str, cents: int, period: str = "2026-07") -> dict[str, Any]:
    """As the sandbox lists it."""
    return {"id": name, "customer": customer, "description": period, "amount_captured": cents}


def entry(charge_id: str, cost_usd: str, outcome: str = "settled") -> dict[str, Any]:
    """As the audit has it."""
    return {"stripe_charge_id": charge_id, "cost_usd": cost_usd, "outcome": outcome, "verdict": "admitted"}


CHARGES = [charge("ch_1", "cus_a", 999), charge("ch_2", "cus_b", 2999)]
ENTRIES = [entry("ch_1", "9.990000"), entry("ch_2", "29.990000")]


def test_exactly_what_is_due_is_no_problem() -> None:
    assert safe_problems(CHARGES, DUE, ENTRIES) == []


@pytest.mark.parametrize(
    ("charges", "entries"),
    [
        pytest.param([*CHARGES, charge("ch_3", "cus_a", 999)], [*ENTRIES, entry("ch_3", "9.990000")], id="twice"),
        pytest.param(CHARGES[:1], ENTRIES[:1], id="not at all"),
        pytest.param(
            [charge("ch_1", "cus_a", 2999), charge("ch_2", "cus_b", 999)],
            [entry("ch_1", "29.990000"), entry("ch_2", "9.990000")],
            id="the other's price",
        ),
        pytest.param([CHARGES[0], charge("ch_2", "cus_b", 2999, "2026-08")], ENTRIES, id="another period"),
        pytest.param(CHARGES, ENTRIES[:1], id="the ledger knows less"),
        pytest.param(CHARGES, [*ENTRIES, entry("ch_3", "9.990000")], id="the ledger knows more"),
        pytest.param(CHARGES, [ENTRIES[0], entry("ch_2", "29.980000")], id="a cent apart"),
        pytest.param(CHARGES, [*ENTRIES, entry("", "9.990000", "unknown")], id="an unknown is left"),
    ],
)
def test_anything_else_is_one(charges: list[Any], entries: list[Any]) -> None:
    assert len(safe_problems(charges, DUE, entries)) >= 1


def test_an_unsafe_form_that_takes_no_more_than_is_due_shows_no_hazard() -> None:
    assert len(unsafe_problems(CHARGES, DUE)) == 1
    assert unsafe_problems([*CHARGES, charge("ch_3", "cus_a", 1)], DUE) == []


def test_caps_must_come_to_what_the_vendor_took() -> None:
    def key(settled: str, held: str = "0", unknown: str = "0") -> dict[str, Any]:
        return {"balances": [{"settled": settled, "held": held, "unknown": unknown}]}

    assert balance_problems([key("9.99"), key("29.99")], CHARGES) == []
    assert len(balance_problems([key("9.99"), key("29.98")], CHARGES)) == 1
    assert len(balance_problems([key("9.99"), key("29.99", held="0.01")], CHARGES)) == 1
    assert len(balance_problems([key("9.99"), key("29.99", unknown="0.01")], CHARGES)) == 1


def test_only_refusals_are_told_as_refused() -> None:
    refused = {"verdict": "refused", "reason": "spend_cap_exceeded"}
    assert refusals([*ENTRIES, refused]) == ["spend_cap_exceeded"]
