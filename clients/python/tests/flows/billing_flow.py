"""A flow that bills three customers, and in which everything goes wrong once: the database after a charge, the machine
after a charge, and an amount in the wrong unit."""

import os
import signal

import keybrake
import stripe
from metaflow import FlowSpec, Parameter, current, retry, secrets, spend_cap, step

CUSTOMERS = Parameter("customers", help="three, with commas between")


class BillingFlow(FlowSpec):
    """Charges each customer once."""

    customers = CUSTOMERS

    @step
    def start(self):
        """What is to be billed. No key here."""
        assert "VAULT_KEY" not in os.environ
        database, machine, unit = self.customers.split(",")
        self.bills = [(database, 999), (machine, 2999), (unit, 500)]
        self.next(self.charge, foreach="bills")

    @retry(times=1, minutes_between_retries=0)
    @spend_cap(
        allowed_endpoints=["POST /v1/charges"],
        lifetime_usd_cap=lambda flow: keybrake.usd(flow.input[1]),
        constraints=lambda flow: {"customer": [flow.input[0]]},
    )
    @step
    def charge(self):
        """Charges one of them, with a key that can do just that."""
        assert "KEYBRAKE_ADMIN_KEY" not in os.environ
        customer, cents = self.input
        database, machine, unit = self.customers.split(",")
        if customer == unit:
            try:
                self.pay(customer, cents * 100, "wrong unit")
            except stripe.CardError as refused:
                assert keybrake.is_spend_cap(refused)
        self.charge_id = self.pay(customer, cents, "2026-07")
        if current.retry_count == 0 and customer == database:
            raise RuntimeError("the database is gone")
        if current.retry_count == 0 and customer == machine:
            os.kill(os.getpid(), signal.SIGKILL)
        self.next(self.join)

    def pay(self, customer, cents, period):
        """The charge's id."""
        params = {"amount": cents, "currency": "usd", "customer": customer, "source": "tok_visa"}
        name = keybrake.idempotency_key(customer, cents, period)
        return keybrake.stripe_client().v1.charges.create(params=params, options={"idempotency_key": name}).id

    @secrets(
        sources=[
            {
                "type": "vault-key",
                "id": "READER_KEY",
                "options": {"allowed_endpoints": ["GET /v1/charges/{id}"], "uncapped": True},
            }
        ]
    )
    @spend_cap(allowed_endpoints=["GET /v1/balance"], uncapped=True)
    @step
    def join(self, inputs):
        """Reads them back, with a key that can only do that; the step's own key is another."""
        assert os.environ["READER_KEY"] != os.environ["VAULT_KEY"]
        reader = keybrake.stripe_client(os.environ["READER_KEY"])
        self.charge_ids = [one.charge_id for one in inputs]
        assert all(reader.v1.charges.retrieve(charge_id).paid for charge_id in self.charge_ids)
        self.next(self.end)

    @step
    def end(self):
        """Nothing more."""


if __name__ == "__main__":
    BillingFlow()
