"""Bills every customer in a branch of its own; the first refusal stops them all."""

import books
import keybrake
from metaflow import FlowSpec, Parameter, step


class BillingFlow(FlowSpec):
    period = Parameter("period", help="what is billed, such as 2026-07", required=True)
    budget = Parameter("budget", help="the budget with the brake that all keys draw from", required=True)

    @step
    def start(self):
        customers = books.customers()
        keys = keybrake.Client().issue_many(
            [
                {
                    "label": f"billing-{self.period}-{customer}",
                    "allowed_endpoints": ["POST /v1/charges"],
                    "constraints": {"customer": [customer]},
                    "lifetime_usd_cap": books.contract_usd(customer),
                    "expires_in_seconds": 7200,
                    "budget": self.budget,
                }
                for customer in customers
            ]
        )
        self.branches = [(customer, key.secret) for customer, key in zip(customers, keys)]
        self.next(self.charge, foreach="branches")

    @step
    def charge(self):
        customer, vault_key = self.input
        cents = int(books.price_usd(customer) * 100)
        charge = keybrake.stripe_client(vault_key).v1.charges.create(
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
