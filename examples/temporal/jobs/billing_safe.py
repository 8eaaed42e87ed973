"""Bills a customer in a Temporal activity."""

import books
import keybrake
from temporalio import activity


@activity.defn
def bill(customer, period):
    cents = int(books.price_usd(customer) * 100)
    charge = keybrake.stripe_client().v1.charges.create(
        {"amount": cents, "currency": "usd", "customer": customer, "description": period},
        {"idempotency_key": keybrake.idempotency_key(customer, cents, period)},
    )
    books.record(customer, period, charge.id)
    return charge.id
