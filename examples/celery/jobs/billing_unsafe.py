"""Bills every customer in a Celery task of its own. `celery -A billing_unsafe worker` works, this file sends."""

import os
import sqlite3
import sys

import books
import stripe_account
from celery import Celery, group
from sqlalchemy.pool import NullPool

FOLDER = os.environ["CELERY_FOLDER"]
app = Celery("billing", broker=f"sqla+sqlite:///{FOLDER}/broker.db", backend=f"file://{FOLDER}/results")
# No connection to SQLite outlives the fork of the worker's processes.
app.conf.broker_transport_options = {"poolclass": NullPool}
# A message is acknowledged when its task is done, so a worker that dies gives it back.
app.conf.task_acks_late = True
app.conf.task_reject_on_worker_lost = True


def bill(customer, period):
    cents = int(books.price_usd(customer) * 100)
    charge = stripe_account.client().v1.charges.create(
        {"amount": cents, "currency": "usd", "customer": customer, "description": period},
    )
    books.record(customer, period, charge.id)
    return charge.id


charge_once = app.task(bill, name="charge_once")
charge_with_retries = app.task(
    bill, name="charge_with_retries", autoretry_for=(sqlite3.OperationalError,), default_retry_delay=0, max_retries=2
)

if __name__ == "__main__":
    hazard, period = sys.argv[1:]
    charge = charge_with_retries if hazard == "retry" else charge_once
    sent = group(charge.s(customer, period) for customer in books.customers()).apply_async()
    sent.get(propagate=False)
    sys.exit(1 if sent.failed() else 0)
