"""Bills every customer in a Prefect task of its own."""

import sys

import books
import keybrake
from prefect import flow, task
from prefect.cache_policies import INPUTS
from prefect.task_runners import ThreadPoolTaskRunner


@task(persist_result=True, cache_policy=INPUTS)
def bill(customer, period):
    cents = int(books.price_usd(customer) * 100)
    charge = keybrake.stripe_client().v1.charges.create(
        {"amount": cents, "currency": "usd", "customer": customer, "description": period},
        {"idempotency_key": keybrake.idempotency_key(customer, cents, period)},
    )
    books.record(customer, period, charge.id)
    return charge.id


@flow(task_runner=ThreadPoolTaskRunner(max_workers=3))
def billing(period, retries):
    charge = bill.with_options(retries=retries)
    billed = [charge.submit(customer, period) for customer in books.customers()]
    return [future.result() for future in billed]


if __name__ == "__main__":
    hazard, period = sys.argv[1:]
    billing(period, retries=2 if hazard == "retry" else 0)
