"""Bills every customer in a ZenML step of its own."""

import sys

import books
import keybrake
from zenml import pipeline, step
from zenml.config.retry_config import StepRetryConfig


@step
def bill(customer: str, period: str) -> str:
    cents = int(books.price_usd(customer) * 100)
    charge = keybrake.stripe_client().v1.charges.create(
        {"amount": cents, "currency": "usd", "customer": customer, "description": period},
        {"idempotency_key": keybrake.idempotency_key(customer, cents, period)},
    )
    books.record(customer, period, charge.id)
    return charge.id


bill_with_retries = bill.with_options(retry=StepRetryConfig(max_retries=2))


@pipeline(dynamic=True)
def billing(hazard: str, period: str) -> None:
    charge = bill_with_retries if hazard == "retry" else bill
    for customer in books.customers():
        charge.submit(customer, period)


if __name__ == "__main__":
    billing(*sys.argv[1:])
