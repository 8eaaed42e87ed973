"""Bills every customer in a Flyte task of its own."""

import sys

import books
import flyte
import keybrake

env = flyte.TaskEnvironment(name="billing")


@env.task(cache="auto")
def bill(customer: str, period: str) -> str:
    cents = int(books.price_usd(customer) * 100)
    charge = keybrake.stripe_client().v1.charges.create(
        {"amount": cents, "currency": "usd", "customer": customer, "description": period},
        {"idempotency_key": keybrake.idempotency_key(customer, cents, period)},
    )
    books.record(customer, period, charge.id)
    return charge.id


@env.task
def billing(period: str, retries: int) -> list[str]:
    customers = books.customers()
    billed = list(flyte.map(bill.override(retries=retries), customers, [period] * len(customers)))
    for failed in (one for one in billed if isinstance(one, Exception)):
        raise failed
    return billed


if __name__ == "__main__":
    hazard, period = sys.argv[1:]
    flyte.with_runcontext(mode="local").run(billing, period, retries=2 if hazard == "retry" else 0)
