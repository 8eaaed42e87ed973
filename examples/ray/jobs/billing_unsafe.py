"""Bills every customer in a Ray task of its own."""

import sqlite3
import sys

import books
import ray
import stripe_account


@ray.remote(num_cpus=1)
def bill(customer, period):
    cents = int(books.price_usd(customer) * 100)
    charge = stripe_account.client().v1.charges.create(
        {"amount": cents, "currency": "usd", "customer": customer, "description": period},
    )
    books.record(customer, period, charge.id)
    return charge.id


if __name__ == "__main__":
    hazard, period = sys.argv[1:]
    # One task at once where the one that is at work is to die.
    ray.init(num_cpus=1 if hazard == "replay" else 3, object_store_memory=80_000_000, include_dashboard=False)
    charge = bill.options(retry_exceptions=[sqlite3.OperationalError]) if hazard == "retry" else bill
    charges = [charge.remote(customer, period) for customer in books.customers()]
    ray.wait(charges, num_returns=len(charges))
    ray.get(charges)
