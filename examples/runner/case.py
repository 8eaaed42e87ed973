"""One form of one job, with customers, books and a budget of its own; an orchestrator's folder adds what it needs."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Optional

from examples.runner.program import ScenarioFailed
from examples.runner.trial import Trial

PRICES_USD = {"a": "9.99", "b": "29.99", "c": "99.99"}
PERIOD = "2026-07"
# Long enough to find the program and end it while the vendor's answer is on its way.
ANSWER_DELAY_MS = 6000


class Case:
    """A form and what happens to it. Every customer is this case's alone, so that the vendor's counts are too."""

    def __init__(self, trial: Trial, name: str) -> None:
        self.trial = trial
        self.name = name
        self.folder = trial.folder / name
        self.folder.mkdir()
        self.customers = {letter: f"cus_{name}_{letter}" for letter in PRICES_USD}
        self.periods = {PERIOD}
        self.budget = f"billing-{name}"
        self._issued = 0
        self._database = self.folder / "billing.db"
        self._faults = self.folder / "faults"
        self._faults.mkdir()
        self._set_up_books()

    def _set_up_books(self) -> None:
        with sqlite3.connect(self._database) as database:
            database.execute("CREATE TABLE customers (customer TEXT PRIMARY KEY, price_usd TEXT, contract_usd TEXT)")
            database.execute("CREATE TABLE charges (customer TEXT, period TEXT, charge_id TEXT)")
            for letter, price in PRICES_USD.items():
                database.execute("INSERT INTO customers VALUES (?, ?, ?)", (self.customers[letter], price, price))

    def create_budget(self, **caps: object) -> None:
        """A budget of this case that brakes at the first refusal."""
        trip_on = {"refusals": 1, "within_seconds": 3600}
        self.trial.admin("POST", "/admin/budgets", {"name": self.budget, "trip_on": trip_on, **caps})

    # What happens

    def fail_next_write(self, letter: str) -> None:
        """The next write of this customer to the books fails, once."""
        (self._faults / self.customers[letter]).touch()

    def price_list_in_cents(self, letters: str) -> None:
        """Sales import these prices in cents; the flow takes them for dollars."""
        self._set_prices({letter: str(int(Decimal(PRICES_USD[letter]) * 100)) for letter in letters})

    def price_list_mended(self) -> None:
        """In dollars again."""
        self._set_prices(PRICES_USD)

    def _set_prices(self, prices: Mapping[str, str]) -> None:
        with sqlite3.connect(self._database) as database:
            for letter, price in prices.items():
                database.execute(
                    "UPDATE customers SET price_usd = ? WHERE customer = ?", (price, self.customers[letter])
                )

    def answer_late(self, letter: str) -> None:
        """The vendor executes this customer's next charge; its answer comes later than the caller lives."""
        self.trial.sandbox.fault(
            {"kind": "delay", "delay_ms": ANSWER_DELAY_MS, "when": "after"},
            body_contains=f"customer={self.customers[letter]}",
        )

    def open_tripped_budget(self) -> None:
        """What an operator does who has seen why the brake tripped."""
        state = self.trial.admin("GET", f"/admin/budgets/{self.budget}")["state"]
        self.expect(state == "tripped", f"the brake has tripped; the budget is {state}")
        self.trial.admin("PATCH", f"/admin/budgets/{self.budget}", {"state": "open"})

    # What is seen

    def due(self) -> dict[tuple[str, str], int]:
        """What is right: cents by customer and period."""
        return {
            (self.customers[letter], period): int(Decimal(price) * 100)
            for letter, price in PRICES_USD.items()
            for period in self.periods
        }

    def charges(self, letter: Optional[str] = None) -> list[dict[str, Any]]:
        """The vendor's own charges of these customers."""
        wanted = [self.customers[letter]] if letter else list(self.customers.values())
        found = self.trial.sandbox.objects("charges")
        return [charge for charge in found if charge["customer"] in wanted and charge["status"] == "succeeded"]

    def until_charged(self, letter: str) -> None:
        """Waits until the vendor has executed a charge of this customer."""
        self.trial.until(lambda: bool(self.charges(letter)), f"a charge of {self.customers[letter]}")

    def expect(self, holds: bool, what: str) -> None:
        """Raises `ScenarioFailed` unless it holds."""
        if not holds:
            raise ScenarioFailed(f"expected of {self.name}: {what}")

    # How it is started

    def books_environment(self) -> dict[str, str]:
        """Where the books of this case are."""
        return {"BILLING_DB": str(self._database), "BILLING_DB_FAULTS": str(self._faults)}

    def issue(self, **more: object) -> str:
        """A vault key for one run: what all contracts come to, for these customers."""
        self._issued += 1
        issued = self.trial.admin(
            "POST",
            "/admin/vault_keys",
            {
                "label": f"{self.name}-{self._issued}",
                "vendor": "stripe",
                "allowed_endpoints": ["POST /v1/charges"],
                "constraints": {"customer": sorted(self.customers.values())},
                "lifetime_usd_cap": str(sum(map(Decimal, PRICES_USD.values()))),
                "expires_in_seconds": 7200,
                **more,
            },
        )
        return str(issued["vault_key"])
