"""`stolen_key.py FLOW/RUN/STEP CUSTOMER`: takes the artifact `api_key` of that step and tries to charge with it.

A program of its own, because Metaflow's client reads its settings once. Prints JSON: `status`, and `code` when it is
refused.
"""

from __future__ import annotations

import json
import sys

import stripe
import stripe_account
from metaflow import Step, namespace


def main() -> None:
    """Prints what the vendor, or the gate before it, answers."""
    path, customer = sys.argv[1:]
    namespace(None)
    key = Step(path).task.data.api_key
    try:
        stripe_account.client(key).v1.charges.create(
            {"amount": 999, "currency": "usd", "customer": customer, "description": "stolen"}
        )
        print(json.dumps({"status": 200, "code": None}))
    except stripe.StripeError as error:
        print(json.dumps({"status": error.http_status, "code": error.error.code if error.error else None}))


if __name__ == "__main__":
    main()
