"""Amounts in other currencies, by the operator's table of rates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

from harness import Keybrake, fresh_key
from ledger_side import expect_balance, only_entry
from shape import expect_refusal
from vendor_side import nothing_reaches_the_vendor, vendor_sees

RATES = {"as_of": "2026-11-01", "rates": [{"currency": "eur", "usd": "1.0845"}, {"currency": "jpy", "usd": "0.0066"}]}


def test_another_currency_is_charged_within_the_cap_by_its_rate(fresh: Callable[..., Keybrake], tmp_path: Path) -> None:
    rates = tmp_path / "rates.json"
    rates.write_text(json.dumps(RATES))
    kb = fresh(rates_file=rates)
    key = kb.issue(daily_usd_cap="50.00")

    euros = fresh_key("euros")
    with vendor_sees(kb, requests=1, executions=1):
        assert kb.charge(key, 1000, idempotency_key=euros, form={"currency": "eur"}).status_code == 200
    expect_balance(kb, key, free="39.155", settled="10.845")
    entry = only_entry(kb, idempotency_key=euros)
    assert (entry["amount"], entry["currency"], entry["cost_usd"]) == (1000, "eur", "10.845000")
    assert entry["usd_per_unit"] == "0.010845"

    with vendor_sees(kb, requests=1, executions=1):
        assert kb.charge(key, 5000, form={"currency": "jpy"}).status_code == 200
    expect_balance(kb, key, free="6.155", settled="43.845")

    with nothing_reaches_the_vendor(kb):
        over = kb.charge(key, 568, form={"currency": "eur"})
        expect_refusal(over, 402, "spend_cap_exceeded")
        expect_refusal(kb.charge(key, 1, form={"currency": "gbp"}), 403, "amount_unknown")
    with vendor_sees(kb, requests=1, executions=1):
        assert kb.charge(key, 567, form={"currency": "eur"}).status_code == 200
    expect_balance(kb, key, free="0.005885", settled="49.994115")
