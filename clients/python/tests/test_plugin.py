"""The pytest plugin in somebody else's suite."""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

import pytest
from built import PACKAGE
from keybrake.testing import LocalStack

ROOT = PACKAGE.parents[1]
SUITE = """
import keybrake

def bill(customer, name, key):
    params = {"amount": 999, "currency": "usd", "customer": customer, "source": "tok_visa"}
    keybrake.stripe_client(key).v1.charges.create(params=params, options={"idempotency_key": name})

def test_a_step_that_runs_twice_charges_once(keybrake_environment, sandbox, assert_charged_once):
    name = keybrake.idempotency_key("cus_suite", 999, "2026-07")
    with keybrake.Client().vault_key(label="suite", allowed_endpoints=["POST /v1/charges"], daily_usd_cap="50") as key:
        bill("cus_suite", name, key)
        bill("cus_suite", name, key)
    assert assert_charged_once(name) == sandbox.charges("cus_suite")[0]["id"]
    assert (sandbox.executions(name), sandbox.requests(name)) == (1, 1)

def test_a_charge_that_is_not_made_is_seen(assert_charged_once):
    assert_charged_once("nobody charged this")

def test_a_second_charge_is_seen(keybrake_environment, keybrake_client, sandbox, assert_charged_once):
    sandbox.fault({"kind": "stored_500"}, path="/v1/nothing", times=None)
    with keybrake_client.vault_key(label="two", allowed_endpoints=["POST /v1/charges"], daily_usd_cap="50") as key:
        bill("cus_two", "two-1", key)
        bill("cus_two", "two-2", key)
    assert len(sandbox.charges("cus_two")) == 1
"""


@pytest.fixture
def run(pytester: pytest.Pytester, installed: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Runs the suite in a process of its own, which finds the plugin because the package is installed."""
    monkeypatch.setenv("PYTHONPATH", str(installed))
    pytester.makepyfile(SUITE)
    return functools.partial(pytester.runpytest_subprocess, "-p", "no:cacheprovider")


def test_it_counts_what_the_vendor_of_a_running_stack_executed(
    keybrake_stack: LocalStack, run: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in keybrake_stack.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KEYBRAKE_SANDBOX_CONTROL_URL", str(keybrake_stack.control_url))
    result = run()
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*the vendor executed 'nobody charged this' 0 times, not once*"])
    result.stdout.fnmatch_lines(["*assert 2 == 1*"])
    with keybrake_stack.sandbox() as sandbox:
        assert sandbox.faults() == [], "what a test made go wrong ends with it"


@pytest.mark.parametrize(
    ("variables", "arguments", "said"),
    [
        ({}, [], "*no Keybrake to test against*"),
        ({"KEYBRAKE_URL": "https://keybrake.example"}, [], "*not a loopback address*"),
        ({"KEYBRAKE_URL": "http://127.0.0.1:1"}, [], "*not set: KEYBRAKE_ADMIN_KEY, KEYBRAKE_AUDIT_KEY*"),
        ({}, ["--keybrake-checkout=/nowhere"], "*/nowhere is not a checkout of Keybrake*"),
    ],
)
def test_without_a_stack_that_is_meant_the_suite_fails_rather_than_pass(
    variables: dict[str, str],
    arguments: list[str],
    said: str,
    run: Callable[..., pytest.RunResult],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    result = run(*arguments)
    assert result.ret != 0 and result.parseoutcomes().get("errors") == 3
    result.stdout.fnmatch_lines([said])


def test_a_stack_ends_with_its_session_also_when_that_is_killed(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from keybrake.testing import LocalStack
stack = LocalStack.start(Path(sys.argv[1]), Path(sys.argv[2]))
print(stack.url, stack.control_url, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run(
        [sys.executable, "-c", code, str(ROOT), str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": str(PACKAGE / "src")},
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    ports = [int(url.rpartition(":")[2]) for url in killed.stdout.split()]
    assert len(ports) == 2
    deadline = time.monotonic() + 60
    while any(listens(port) for port in ports):
        assert time.monotonic() < deadline, f"something still listens on {ports}"
        time.sleep(0.1)


def listens(port: int) -> bool:
    """Whether somebody does, on loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
