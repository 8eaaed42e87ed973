"""Budgets, statements, and lists over all their pages."""

from __future__ import annotations

import secrets
from decimal import Decimal

import keybrake
import pytest
import stripe
from keybrake import calls
from words import CHARGES, charge


def test_keys_under_a_budget_share_its_cap_until_its_brake_trips(kb: keybrake.Client, customer: str) -> None:
    name = f"july-{secrets.token_hex(4)}"
    made = kb.create_budget(name, daily_usd_cap="15", trip_on={"refusals": 1, "within_seconds": 60})
    assert (made.name, made.state, made.parent) == (name, "open", None)
    both: list[keybrake.NewKey] = [
        {"label": f"{name}-{place}", "allowed_endpoints": CHARGES, "budget": name} for place in (1, 2)
    ]
    with kb.vault_keys(both) as (first, second):
        charge(kb, first, customer, 999, f"{customer}-1")
        with pytest.raises(stripe.CardError) as refused:
            charge(kb, second, customer, 999, f"{customer}-2")
        assert keybrake.is_spend_cap(refused.value)
        [left] = kb.budget(name).balances
        assert (left.limit, left.cap, left.free, left.settled) == (
            "daily_usd_cap", Decimal(15), Decimal("5.01"), Decimal("9.99"),
        )  # fmt: skip
        assert kb.budget(name).state == "tripped" and kb.budget(name).tripped_at is not None
        assert kb.reopen_budget(name).state == "open"
        charge(kb, second, customer, 500, f"{customer}-3")
        assert kb.freeze_budget(name).state == "frozen"
        with pytest.raises(stripe.PermissionError):
            charge(kb, second, customer, 1, f"{customer}-4")
    [window] = kb.budget_statement(name)
    assert (window.settlements.count, window.settlements.usd, window.adds_up) == (2, Decimal("14.99"), True)
    assert name in [budget.name for budget in kb.budgets()]
    with pytest.raises(keybrake.ApiError) as twice:
        kb.create_budget(name, uncapped=True)
    assert (twice.value.status, twice.value.code) == (409, "conflict")


def test_a_statement_says_what_became_of_each_cap(kb: keybrake.Client, customer: str) -> None:
    with kb.vault_key(
        label=f"statement-{customer}", allowed_endpoints=CHARGES, daily_usd_cap="10", lifetime_usd_cap="20"
    ) as key:
        charge(kb, key, customer, 250, customer)
        statement = kb.statement(key)
    assert statement.adds_up and statement.time_zone == "UTC"
    daily, lifetime = sorted(statement, key=lambda window: window.limit)
    assert (daily.limit, daily.closing.free, daily.begins_at is None) == ("daily_usd_cap", Decimal("7.5"), False)
    assert (lifetime.window, lifetime.closing.settled, lifetime.begins_at) == ("lifetime", Decimal("2.5"), None)
    assert [window.window for window in kb.statement(key.key_id, window=daily.window)] == [daily.window]
    assert list(kb.statement(key, window="day:2020-01-01")) == []


def test_lists_go_over_all_pages_and_each_element_comes_once(
    kb: keybrake.Client, customer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "PAGE", 2)
    names = [f"{customer}-{place}" for place in range(5)]
    with kb.vault_key(label=customer, allowed_endpoints=CHARGES, daily_usd_cap="10") as key:
        for name in names:
            charge(kb, key, customer, 100, name)
    entries = list(kb.audit(label=customer))
    assert [entry.idempotency_key for entry in entries] == names[::-1]
    assert {(entry.key_id, entry.cost_usd, entry.outcome) for entry in entries} == {(key.key_id, Decimal(1), "settled")}
    assert [entry.id for entry in kb.audit(key_id=key.key_id, outcome="settled")] == [entry.id for entry in entries]
    assert [shown.key_id for shown in kb.keys(label_prefix=customer)] == [key.key_id]
    wanted: list[keybrake.NewKey] = [
        {"label": f"{customer}/{place}", "allowed_endpoints": CHARGES, "uncapped": True} for place in range(5)
    ]
    with kb.vault_keys(wanted) as keys:
        listed = [shown.key_id for shown in kb.keys(label_prefix=f"{customer}/", status="active")]
    assert sorted(listed) == sorted(issued.key_id for issued in keys)
