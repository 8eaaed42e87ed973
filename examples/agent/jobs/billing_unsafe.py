"""An agent that bills: a loop that decides, calls a tool and looks at what came back. `decide` stands for the model."""

import json
import os
import sqlite3
import sys
from pathlib import Path

import books
import stripe
import stripe_account

ATTEMPTS = 3


def charge(customer, period):
    """The tool."""
    cents = int(books.price_usd(customer) * 100)
    charge = stripe_account.client().v1.charges.create(
        {"amount": cents, "currency": "usd", "customer": customer, "description": period},
    )
    books.record(customer, period, charge.id)
    return charge.id


def decide(history, customers):
    """The next tool call, made anew after each observation: who is not billed yet, and has not failed too often."""
    billed = {seen["customer"] for seen in history if "charge" in seen}
    tried = [seen["customer"] for seen in history if "error" in seen]
    return next((one for one in customers if one not in billed and tried.count(one) < ATTEMPTS), None)


def main(period, customers):
    """Runs until there is nothing left to do. The history is on disk, so that a restarted agent goes on with it."""
    memory = Path(os.environ["AGENT_MEMORY"])
    history = [json.loads(line) for line in memory.read_text().splitlines()] if memory.exists() else []
    while (customer := decide(history, customers)) is not None:
        try:
            seen = {"customer": customer, "charge": charge(customer, period)}
        except sqlite3.OperationalError as error:
            seen = {"customer": customer, "error": str(error)}
        except stripe.CardError as error:
            sys.exit(f"refused, a person decides: {error.code}")
        history.append(seen)
        with memory.open("a") as file:
            file.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
