"""The pytest plugin: "no double charge" as a line in your own tests::

def test_a_retried_step_charges_once(keybrake_environment, assert_charged_once):
    run_my_step()
    run_my_step()
    assert_charged_once(keybrake.idempotency_key("cus_aaa", 999, "2026-07"))
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, Optional
from urllib.parse import urlsplit

import pytest

from keybrake.client import Client
from keybrake.settings import URL_VARIABLE, Role
from keybrake.testing.local_stack import LocalStack, StackFailed
from keybrake.testing.sandbox import Sandbox

CHECKOUT_VARIABLE = "KEYBRAKE_CHECKOUT"
CONTROL_VARIABLE = "KEYBRAKE_SANDBOX_CONTROL_URL"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the plugin."""
    group = parser.getgroup("keybrake", "Keybrake: what was charged, and how often")
    group.addoption(
        "--keybrake-checkout",
        metavar="DIR",
        help=f"checkout of Keybrake whose local stack is started for the session (or {CHECKOUT_VARIABLE})",
    )
    group.addoption(
        "--keybrake-url",
        metavar="URL",
        help=f"a running Keybrake to test against; without it {URL_VARIABLE} counts when it is a loopback address",
    )


@pytest.fixture(scope="session")
def keybrake_stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A running stack for the whole session: that of a checkout, else one that runs already."""
    checkout = request.config.getoption("keybrake_checkout") or os.environ.get(CHECKOUT_VARIABLE)
    try:
        if checkout:
            stack = LocalStack.start(Path(checkout).resolve(), tmp_path_factory.mktemp("keybrake") / "run")
        else:
            stack = _running(request.config.getoption("keybrake_url"))
    except StackFailed as failure:
        pytest.fail(str(failure), pytrace=False)
    yield stack
    stack.stop()


def _running(url: Optional[str]) -> LocalStack:
    if url is None:
        url = os.environ.get(URL_VARIABLE)
        if url is None:
            raise StackFailed(
                f"no Keybrake to test against: give --keybrake-checkout DIR or --keybrake-url URL, or set "
                f"{CHECKOUT_VARIABLE} or {URL_VARIABLE}"
            )
        if urlsplit(url).hostname not in LOOPBACK:
            raise StackFailed(f"{URL_VARIABLE} is {url}, not a loopback address: say --keybrake-url if you mean it")
    missing = [role.value for role in Role if not os.environ.get(role.value)]
    if missing:
        raise StackFailed(f"not set: {', '.join(missing)}")
    admin_key, audit_key = (os.environ[role.value] for role in (Role.ADMIN, Role.AUDIT))
    return LocalStack(url, admin_key, audit_key, os.environ.get(CONTROL_VARIABLE))


@pytest.fixture
def keybrake_environment(keybrake_stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> LocalStack:
    """The stack, with the variables that `keybrake.Client()` and `keybrake.stripe_client()` read set for the test."""
    for name, value in keybrake_stack.environment.items():
        monkeypatch.setenv(name, value)
    return keybrake_stack


@pytest.fixture
def keybrake_client(keybrake_stack: LocalStack) -> Iterator[Client]:
    """A client of the stack."""
    with keybrake_stack.client() as client:
        yield client


@pytest.fixture
def sandbox(keybrake_stack: LocalStack) -> Iterator[Sandbox]:
    """The books of the sandbox vendor. What a test makes it do wrong ends with the test."""
    try:
        found = keybrake_stack.sandbox()
    except StackFailed as failure:
        pytest.fail(str(failure), pytrace=False)
    with found:
        yield found
        found.clear_faults()


@pytest.fixture
def assert_charged_once(keybrake_client: Client, sandbox: Sandbox) -> Callable[[str], str]:
    """`assert_charged_once(idempotency_key)`: the vendor executed it exactly once, and the audit knows what came of it.
    The id of the charge."""

    def check(idempotency_key: str) -> str:
        __tracebackhide__ = True
        executed = sandbox.executions(idempotency_key)
        assert executed == 1, f"the vendor executed {idempotency_key!r} {executed} times, not once"
        charge_id = keybrake_client.preflight(idempotency_key=idempotency_key)
        assert charge_id is not None, f"the vendor executed {idempotency_key!r}, and the audit does not know of it"
        return charge_id

    return check
