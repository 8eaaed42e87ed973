"""The company's own books: who is billed, for how much, and what was charged. An SQLite file named by BILLING_DB."""

from __future__ import annotations

import os
import sqlite3
from decimal import Decimal
from pathlib import Path


def _database() -> sqlite3.Connection:
    return sqlite3.connect(os.environ["BILLING_DB"])


def customers() -> list[str]:
    """Everybody who is billed."""
    return [row[0] for row in _database().execute("SELECT customer FROM customers ORDER BY customer")]


def price_usd(customer: str) -> Decimal:
    """What the customer pays, from the price list that sales imports. In dollars."""
    row = _database().execute("SELECT price_usd FROM customers WHERE customer = ?", (customer,)).fetchone()
    return Decimal(row[0])


def contract_usd(customer: str) -> str:
    """The most that the customer has agreed to for a period, from the signed contract."""
    row = _database().execute("SELECT contract_usd FROM customers WHERE customer = ?", (customer,)).fetchone()
    return str(row[0])


def record(customer: str, period: str, charge_id: str) -> None:
    """Notes what was charged. Raises `sqlite3.OperationalError` when the database cannot be written."""
    _fail_when_told_to(customer)
    with _database() as database:
        database.execute("INSERT INTO charges VALUES (?, ?, ?)", (customer, period, charge_id))


def _fail_when_told_to(customer: str) -> None:
    """The fault of the example: a file of this name in BILLING_DB_FAULTS makes one write fail."""
    told = Path(os.environ.get("BILLING_DB_FAULTS", "")) / customer
    if told.is_file():
        told.unlink()
        raise sqlite3.OperationalError("disk I/O error")
