"""Bills every customer in a mapped task of Airflow."""

from datetime import datetime

import books
import keybrake
from airflow.sdk import dag, task


@dag(schedule="@monthly", start_date=datetime(2026, 7, 1), end_date=datetime(2026, 7, 31), catchup=True)
def billing():
    @task
    def customers():
        return books.customers()

    @task
    def bill(customer, logical_date=None):
        period = f"{logical_date:%Y-%m}"
        cents = int(books.price_usd(customer) * 100)
        charge = keybrake.stripe_client().v1.charges.create(
            {"amount": cents, "currency": "usd", "customer": customer, "description": period},
            {"idempotency_key": keybrake.idempotency_key(customer, cents, period)},
        )
        books.record(customer, period, charge.id)
        return charge.id

    bill.expand(customer=customers())


billing()
