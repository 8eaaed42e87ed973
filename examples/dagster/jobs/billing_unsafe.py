"""Bills every customer in a Dagster op of its own."""

import sys

import books
import stripe_account
from dagster import (
    Config,
    DagsterInstance,
    DagsterRunStatus,
    DynamicOut,
    DynamicOutput,
    ReexecutionOptions,
    RetryPolicy,
    RunsFilter,
    execute_job,
    job,
    op,
    reconstructable,
)


class Month(Config):
    """What is billed."""

    period: str


@op(out=DynamicOut())
def customers():
    for customer in books.customers():
        yield DynamicOutput(customer, mapping_key=customer)


@op
def bill(config: Month, customer: str) -> str:
    cents = int(books.price_usd(customer) * 100)
    charge = stripe_account.client().v1.charges.create(
        {"amount": cents, "currency": "usd", "customer": customer, "description": config.period},
    )
    books.record(customer, config.period, charge.id)
    return charge.id


@job
def billing():
    customers().map(bill)


@job(op_retry_policy=RetryPolicy(max_retries=2))
def billing_with_retries():
    customers().map(bill)


if __name__ == "__main__":
    hazard, period = sys.argv[1:]
    with DagsterInstance.get() as instance:
        failed = instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.FAILURE]), limit=1)
        result = execute_job(
            reconstructable(billing_with_retries if hazard == "retry" else billing),
            instance,
            run_config={"ops": {"bill": {"config": {"period": period}}}},
            reexecution_options=ReexecutionOptions.from_failure(failed[0].run_id, instance) if failed else None,
        )
    sys.exit(not result.success)
