"""Bills every customer; `@retry` runs a step again when the write to the books fails."""

import books
import keybrake
from metaflow import FlowSpec, Parameter, retry, step


class BillingFlow(FlowSpec):
    period = Parameter("period", help="what is billed, such as 2026-07", required=True)

    @step
    def start(self):
        self.customers = books.customers()
        self.next(self.charge, foreach="customers")

    @retry(times=2, minutes_between_retries=0)
    @step
    def charge(self):
        customer = self.input
        cents = int(books.price_usd(customer) * 100)
        charge = keybrake.stripe_client().v1.charges.create(
            {"amount": cents, "currency": "usd", "customer": customer, "description": self.period},
            {"idempotency_key": keybrake.idempotency_key(customer, cents, self.period)},
        )
        books.record(customer, self.period, charge.id)
        self.charge_id = charge.id
        self.next(self.join)

    @step
    def join(self, branches):
        self.charge_ids = [branch.charge_id for branch in branches]
        self.next(self.end)

    @step
    def end(self):
        print(f"{self.period}: {len(self.charge_ids)} customers billed")


if __name__ == "__main__":
    BillingFlow()
