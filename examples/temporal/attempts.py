"""`python attempts.py JOB HAZARD PERIOD HISTORY`: runs the activity of a job for every customer, each in Temporal's own
`ActivityEnvironment`.

Temporal's server is not here, so what it does is played: the next attempt after a failed one, by a `RetryPolicy`; a
history of what has completed, which outlives the program; what a dead worker was at, given to the next program that is
started with the same history.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Callable

import books
from temporalio.common import RetryPolicy
from temporalio.testing import ActivityEnvironment

Activity = Callable[[str, str], str]


def completed(activity: Activity, customer: str, period: str, policy: RetryPolicy) -> str:
    """What the activity gives in the first attempt that does not raise. Raises what the last one did."""
    attempt = 1
    while True:
        environment = ActivityEnvironment()
        environment.info = dataclasses.replace(environment.info, activity_id=customer, attempt=attempt)
        try:
            charge: str = environment.run(activity, customer, period)
            return charge
        except Exception as error:
            never_again = type(error).__name__ in (policy.non_retryable_error_types or ())
            if never_again or attempt == policy.maximum_attempts:
                raise
        attempt += 1


def execute(activity: Activity, period: str, history: Path, policy: RetryPolicy, at_once: int) -> None:
    """One workflow execution: the activity for every customer that the history does not know. All are tried before one
    that failed ends the execution, and its history with it."""
    known: dict[str, str] = json.loads(history.read_text()) if history.exists() else {}
    with ThreadPoolExecutor(at_once) as worker:
        running = {
            worker.submit(completed, activity, customer, period, policy): customer
            for customer in books.customers()
            if customer not in known
        }
        for one in as_completed(running):
            if one.exception() is None:
                known[running[one]] = one.result()
                history.write_text(json.dumps(known))
    history.unlink(missing_ok=True)
    for one in running:
        one.result()


if __name__ == "__main__":
    job, hazard, period, history = sys.argv[1:]
    execute(
        importlib.import_module(job).bill,
        period,
        Path(history),
        RetryPolicy(maximum_attempts=1 if hazard == "fan_out" else 3, non_retryable_error_types=["CardError"]),
        # One activity at once where the worker is to die in one.
        at_once=1 if hazard == "replay" else 3,
    )
