"""Bills every customer in one step; the step starts again when its machine is taken away."""

import books
import stripe_account
from metaflow import FlowSpec, Parameter, retry, step


class BillingFlow(FlowSpec):
    period = Parameter("period", help="what is billed, such as 2026-07", required=True)

    @step
    def start(self):
        self.customers = books.customers()
        self.next(self.charge)

    @retry(times=2, minutes_between_retries=0)
    @step
    def charge(self):
        for customer in self.customers:
            cents = int(books.price_usd(customer) * 100)
            charge = stripe_account.client().v1.charges.create(
                {"amount": cents, "currency": "usd", "customer": customer, "description": self.period},
            )
            books.record(customer, self.period, charge.id)
        self.next(self.end)

    @step
    def end(self):
        print(f"{self.period}: {len(self.customers)} customers billed")


if __name__ == "__main__":
    BillingFlow()
