"""Bills a customer in a Temporal activity."""

import books
import stripe_account
from temporalio import activity


@activity.defn
def bill(customer, period):
    cents = int(books.price_usd(customer) * 100)
    charge = stripe_account.client().v1.charges.create(
        {"amount": cents, "currency": "usd", "customer": customer, "description": period},
    )
    books.record(customer, period, charge.id)
    return charge.id
