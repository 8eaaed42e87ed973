"""Bills every customer with a key that is never in an artifact."""

from decimal import Decimal

import books
import keybrake
from metaflow import FlowSpec, Parameter, spend_cap, step


class BillingFlow(FlowSpec):
    period = Parameter("period", help="what is billed, such as 2026-07", required=True)

    @step
    def start(self):
        self.customers = books.customers()
        self.next(self.charge)

    @spend_cap(
        allowed_endpoints=["POST /v1/charges"],
        lifetime_usd_cap=lambda flow: sum(Decimal(books.contract_usd(customer)) for customer in flow.customers),
    )
    @step
    def charge(self):
        for customer in self.customers:
            cents = int(books.price_usd(customer) * 100)
            charge = keybrake.stripe_client().v1.charges.create(
                {"amount": cents, "currency": "usd", "customer": customer, "description": self.period},
                {"idempotency_key": keybrake.idempotency_key(customer, cents, self.period)},
            )
            books.record(customer, self.period, charge.id)
        self.next(self.end)

    @step
    def end(self):
        print(f"{self.period}: {len(self.customers)} customers billed")


if __name__ == "__main__":
    BillingFlow()
