"""What the README shows is run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import keybrake
import pytest
from built import PACKAGE
from keybrake.testing import LocalStack, Sandbox
from test_metaflow import run_flow

BLOCKS = re.findall(r"^```python\n(.*?)^```", (PACKAGE / "README.md").read_text(), re.MULTILINE | re.DOTALL)
FILES = {block.splitlines()[0][2:]: block for block in BLOCKS if block.startswith("# ")}


def test_its_lines_charge_once_and_tell_a_cap(
    keybrake_environment: LocalStack, assert_charged_once: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (block for block in BLOCKS if block not in FILES.values())
    ids = []
    for _ in range(2):
        names: dict[str, object] = {}
        exec(first, names)
        ids.append(names["charge_id"])
    exec(second, names)
    made = assert_charged_once(keybrake.idempotency_key("cus_aaa", 999, "2026-07"))
    assert ids == [made, made]
    assert "our own limit, not the customer's card: Keybrake:" in capsys.readouterr().out
    assert isinstance(keybrake_environment, LocalStack)


def test_its_flow_charges_each_customer_once(
    keybrake_stack: LocalStack, sandbox: Sandbox, installed: Path, tmp_path: Path
) -> None:
    flow = tmp_path / "flow.py"
    flow.write_text(FILES["flow.py"])
    # Other tests bill the period that the flow bills by itself.
    ended = run_flow(
        flow, "--period=2026-10", installed=installed, folder=tmp_path, environment=keybrake_stack.environment
    )
    assert ended.returncode == 0, ended.stdout
    for customer, cents in (("cus_aaa", 999), ("cus_bbb", 2999)):
        assert sandbox.executions(keybrake.idempotency_key(customer, cents, "2026-10")) == 1


def test_its_test_passes(
    keybrake_stack: LocalStack,
    sandbox: Sandbox,
    installed: Path,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytester.makepyfile(test_billing=FILES["test_billing.py"])
    variables = {
        **keybrake_stack.environment,
        "KEYBRAKE_SANDBOX_CONTROL_URL": str(keybrake_stack.control_url),
        "PYTHONPATH": str(installed),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
    assert sandbox.executions(keybrake.idempotency_key("cus_aaa", 999, "2026-08")) == 1
