"""One form of one flow, with customers, books and a Metaflow datastore of its own."""

from __future__ import annotations

import dataclasses
import gzip
import json
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Optional

from hazards.flow_run import DEADLINE_S, FLOWS, Ended, FlowRun, ScenarioFailed
from hazards.trial import Trial

PRICES_USD = {"a": "9.99", "b": "29.99", "c": "99.99"}
PERIOD = "2026-07"
STOLEN_KEY = Path(__file__).resolve().parent / "stolen_key.py"


@dataclasses.dataclass(frozen=True)
class Form:
    """A flow and how it reaches the vendor."""

    flow: str
    # Through Keybrake, or straight to the vendor with the real secret.
    through_keybrake: bool = False
    # What the flow itself asks of Keybrake, beside charging.
    issues_keys: bool = False
    asks_audit: bool = False
    # It takes the name of a budget; this one brakes at the first refusal.
    draws_from_budget: bool = False
    # The flow knows nothing of Keybrake: only its base URL and its key are.
    unchanged: bool = False


class Case:
    """A form and what happens to it. Every customer is this case's alone, so that the vendor's counts are too."""

    def __init__(self, trial: Trial, name: str, form: Form) -> None:
        self.trial = trial
        self.name = name
        self.form = form
        self.folder = trial.folder / name
        self.folder.mkdir()
        self.customers = {letter: f"cus_{name}_{letter}" for letter in PRICES_USD}
        self._periods = {PERIOD}
        self._runs = 0
        self._database = self.folder / "billing.db"
        self._faults = self.folder / "faults"
        self._faults.mkdir()
        self._set_up_books()
        self._budget = f"billing-{name}"
        if form.draws_from_budget:
            trip_on = {"refusals": 1, "within_seconds": 3600}
            trial.admin("POST", "/admin/budgets", {"name": self._budget, "uncapped": True, "trip_on": trip_on})

    def _set_up_books(self) -> None:
        with sqlite3.connect(self._database) as database:
            database.execute("CREATE TABLE customers (customer TEXT PRIMARY KEY, price_usd TEXT, contract_usd TEXT)")
            database.execute("CREATE TABLE charges (customer TEXT, period TEXT, charge_id TEXT)")
            for letter, price in PRICES_USD.items():
                database.execute("INSERT INTO customers VALUES (?, ?, ?)", (self.customers[letter], price, price))

    # What happens

    def run(self, ends: Ended = Ended.WELL, *, period: str = PERIOD, url: Optional[str] = None) -> FlowRun:
        """Runs the flow to its end."""
        run = self.start(period=period, url=url)
        run.wait(ends)
        return run

    def start(self, *, period: str = PERIOD, url: Optional[str] = None) -> FlowRun:
        """Starts the flow, through another Envoy when a `url` is given."""
        self._periods.add(period)
        budget = ["--budget", self._budget] if self.form.draws_from_budget else []
        return self._start(["run", "--period", period, *budget], period, url)

    def resume(self, failed: FlowRun, *, url: Optional[str] = None) -> FlowRun:
        """Resumes a failed run, to its good end."""
        run = self._start(["resume", "--origin-run-id", failed.run_id], PERIOD, url)
        run.wait()
        return run

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

    def open_tripped_budget(self) -> None:
        """What an operator does who has seen why the brake tripped."""
        state = self.trial.admin("GET", f"/admin/budgets/{self._budget}")["state"]
        self.expect(state == "tripped", f"the brake has tripped; the budget is {state}")
        self.trial.admin("PATCH", f"/admin/budgets/{self._budget}", {"state": "open"})

    # What is seen

    def due(self) -> dict[tuple[str, str], int]:
        """What is right: cents by customer and period."""
        return {
            (self.customers[letter], period): int(Decimal(price) * 100)
            for letter, price in PRICES_USD.items()
            for period in self._periods
        }

    def charges(self, letter: Optional[str] = None) -> list[dict[str, Any]]:
        """The vendor's own charges of these customers."""
        wanted = [self.customers[letter]] if letter else list(self.customers.values())
        found = self.trial.sandbox.objects("charges")
        return [charge for charge in found if charge["customer"] in wanted and charge["status"] == "succeeded"]

    def expect(self, holds: bool, what: str) -> None:
        """Raises `ScenarioFailed` unless it holds."""
        if not holds:
            raise ScenarioFailed(f"expected of {self.name}: {what}")

    def use_stolen_key(self, run: FlowRun) -> dict[str, Any]:
        """What somebody gets who reads a key from the run's artifacts and charges a customer once more."""
        argv = [sys.executable, str(STOLEN_KEY), f"BillingFlow/{run.run_id}/start", self.customers["a"]]
        environment = {**self.trial.flow_environment(), **self._environment(PERIOD, None), "PYTHONPATH": str(FLOWS)}
        if self.form.through_keybrake:
            environment["STRIPE_API_BASE"] = f"{self.trial.stack.url}/stripe"
        done = subprocess.run(
            argv,
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            raise ScenarioFailed(f"the stolen key could not be tried: {done.stderr[-2000:]}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def in_datastore(self, text: str) -> bool:
        """Whether the text is anywhere in what Metaflow stored."""
        files = [path for path in (self.folder / "datastore").rglob("*") if path.is_file()]
        return any(text.encode() in _unpacked(path) for path in files)

    # How it is started

    def _start(self, arguments: list[str], period: str, url: Optional[str]) -> FlowRun:
        self._runs += 1
        folder = self.folder / f"run-{self._runs}"
        return self.trial.start(self.form.flow, arguments, self._environment(period, url), folder)

    def _environment(self, period: str, url: Optional[str]) -> dict[str, str]:
        environment = {
            "BILLING_DB": str(self._database),
            "BILLING_DB_FAULTS": str(self._faults),
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(self.folder / "datastore"),
        }
        if not self.form.through_keybrake:
            return {**environment, **self.trial.direct_environment()}
        gate = url or self.trial.stack.url
        if self.form.unchanged:
            key = self._issue(idempotency="derived", derive_scope=period)
            return {**environment, "STRIPE_API_BASE": f"{gate}/stripe", "STRIPE_SECRET_KEY": key}
        environment["KEYBRAKE_URL"] = gate
        if self.form.issues_keys:
            environment["KEYBRAKE_ADMIN_KEY"] = self.trial.stack.admin_key
        else:
            environment["VAULT_KEY"] = self._issue()
        if self.form.asks_audit:
            environment["KEYBRAKE_AUDIT_KEY"] = self.trial.stack.audit_key
        return environment

    def _issue(self, **more: object) -> str:
        """A vault key for one run: what all contracts come to, for these customers."""
        issued = self.trial.admin(
            "POST",
            "/admin/vault_keys",
            {
                "label": f"{self.name}-{self._runs}",
                "vendor": "stripe",
                "allowed_endpoints": ["POST /v1/charges"],
                "constraints": {"customer": sorted(self.customers.values())},
                "lifetime_usd_cap": str(sum(map(Decimal, PRICES_USD.values()))),
                "expires_in_seconds": 7200,
                **more,
            },
        )
        return str(issued["vault_key"])


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
