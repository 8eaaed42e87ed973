"""Bills every customer with a key that an artifact hands from step to step."""

import os

import books
import stripe_account
from metaflow import FlowSpec, Parameter, step


class BillingFlow(FlowSpec):
    period = Parameter("period", help="what is billed, such as 2026-07", required=True)

    @step
    def start(self):
        self.customers = books.customers()
        self.api_key = os.environ["STRIPE_SECRET_KEY"]
        self.next(self.charge)

    @step
    def charge(self):
        for customer in self.customers:
            cents = int(books.price_usd(customer) * 100)
            charge = stripe_account.client(self.api_key).v1.charges.create(
                {"amount": cents, "currency": "usd", "customer": customer, "description": self.period},
            )
            books.record(customer, self.period, charge.id)
        self.next(self.end)

    @step
    def end(self):
        print(f"{self.period}: {len(self.customers)} customers billed")


if __name__ == "__main__":
    BillingFlow()
