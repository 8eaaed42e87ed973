"""Bills every customer with keys that are never in an artifact."""

import books
import keybrake
from metaflow import FlowSpec, Parameter, step


class BillingFlow(FlowSpec):
    period = Parameter("period", help="what is billed, such as 2026-07", required=True)

    @step
    def start(self):
        self.customers = books.customers()
        self.next(self.charge)

    @step
    def charge(self):
        for customer in self.customers:
            cents = int(books.price_usd(customer) * 100)
            with keybrake.Client().vault_key(
                label=f"billing-{self.period}-{customer}",
                allowed_endpoints=["POST /v1/charges"],
                lifetime_usd_cap=books.contract_usd(customer),
                expires_in_seconds=600,
            ) as vault_key:
                charge = keybrake.stripe_client(vault_key).v1.charges.create(
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
