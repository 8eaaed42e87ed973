"""Bills every customer in a branch of its own; some branches fail and are resumed."""

import books
import keybrake
from metaflow import FlowSpec, Parameter, step


class BillingFlow(FlowSpec):
    period = Parameter("period", help="what is billed, such as 2026-07", required=True)

    @step
    def start(self):
        self.customers = books.customers()
        self.next(self.charge, foreach="customers")

    @step
    def charge(self):
        customer = self.input
        cents = int(books.price_usd(customer) * 100)
        key = keybrake.idempotency_key(customer, cents, self.period)
        self.charge_id = keybrake.Client().preflight(idempotency_key=key)
        if self.charge_id is None:
            charge = keybrake.stripe_client().v1.charges.create(
                {"amount": cents, "currency": "usd", "customer": customer, "description": self.period},
                {"idempotency_key": key},
            )
            self.charge_id = charge.id
        books.record(customer, self.period, self.charge_id)
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
