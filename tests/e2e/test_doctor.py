"""`keybrake doctor` and the gate as a condition of readiness, before real Envoys with real mistakes in them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Callable, Optional

import pytest
from harness import Keybrake, eventually
from more_ledgers import further_ledger
from own_envoy import replaced
from test_gate_proof import says_no_and_passes

from stack.calls import NoAnswer, call
from stack.envoy_config import Changes, render
from stack.envoy_node import EnvoyNode
from stack.ports import LOOPBACK

DEADLINE_S = 90.0
START_S = 40.0


def doctor(kb: Keybrake, node: EnvoyNode, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report."""
    command = [str(kb.stack.artifacts.ledger), "doctor", "--json", "--envoy-admin", node.admin_url, *arguments]
    command += [f"{node.url}/stripe/v1/charges"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    report: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, report


def faults(report: dict[str, Any]) -> str:
    """All faults of a report as one text."""
    return "\n".join(
        f"{found['checked']}: {found['detail']}" for found in report["findings"] if found["state"] == "fault"
    )


def without_the_field(config: str) -> str:
    return replaced(config, {"allow_on_headers_stop_iteration: true": "allow_on_headers_stop_iteration: false"})


def failing_open(config: str) -> str:
    return replaced(config, {"failure_policy: FAIL_RELOAD": "failure_policy: FAIL_OPEN"})


def put_up_again(node: EnvoyNode, config: str) -> None:
    """Starts an Envoy again with this configuration, without the launcher's own proof."""
    node.child.stop(5.0)
    node.config_file.write_text(config)
    node.child.start()

    def live() -> bool:
        try:
            return call("GET", f"{node.admin_url}/ready", timeout_s=2).status == 200
        except NoAnswer:
            return False

    eventually(live, START_S, "Envoy is live")


@pytest.fixture
def patient(fresh: Callable[..., Keybrake]) -> tuple[Keybrake, EnvoyNode, str]:
    """A stack, one more Envoy before it, and that one's configuration."""
    kb = fresh()
    node = kb.second_envoy()
    return kb, node, node.config_file.read_text()


def test_a_gate_that_works_has_no_fault(patient: tuple[Keybrake, EnvoyNode, str]) -> None:
    kb, node, _ = patient
    code, report = doctor(kb, node, f"{node.stripe_url}/v1/charges")
    assert faults(report) == ""
    assert (code, report["works"]) == (0, True)
    checked = [found["checked"] for found in report["findings"]]
    assert len(checked) == len(set(checked)), "each is told once"
    assert sum(check.startswith("HTTP/2 POST with trailers") for check in checked) == 2
    assert {"gate of listener egress", "gate of listener stripe", "cluster stripe", "Envoy's version"} <= set(checked)

    command = [str(kb.stack.artifacts.ledger), "doctor", f"{node.url}/stripe/v1/charges"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok"] * 6
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("without", "edit", "expected"),
    [
        ((), without_the_field, ["requests with a body hang", "HTTP/2 POST http", "no answer within 5 seconds"]),
        ((), failing_open, ["it fails open"]),
        (("rbac",), None, ["no RBAC filter behind it asks for wasm.keybrake_admitted"]),
        (("rbac",), says_no_and_passes, ["switches keybrake off", "and lets the request pass"]),
        (
            ("wasm",),
            None,
            ["where the real credential is put in, and has no gate", "the guard behind the gate stopped it"],
        ),
    ],
    ids=["field dropped", "fail open", "no guard", "says no and passes", "no filter"],
)
def test_a_mistake_is_told_in_plain_words(
    patient: tuple[Keybrake, EnvoyNode, str],
    without: tuple[str, ...],
    edit: Optional[Callable[[str], str]],
    expected: list[str],
) -> None:
    kb, node, config = patient
    if without:
        config = render(node.around, Changes(without=without))
    put_up_again(node, edit(config) if edit else config)
    # Whatever reaches the vendor in spite of the gate looks refused as well.
    kb.fault({"kind": "status", "status": 401}, times=None)
    code, report = doctor(kb, node)
    assert (code, report["works"]) == (1, False)
    for part in expected:
        assert part in faults(report)


def test_counters_that_nobody_can_see_are_no_proof(patient: tuple[Keybrake, EnvoyNode, str]) -> None:
    kb, node, config = patient
    unseen = "  stats_matcher: {exclusion_list: {patterns: [{prefix: cluster.stripe.}]}}"
    put_up_again(node, replaced(config, {"stats_config:\n": f"stats_config:\n{unseen}\n"}))
    code, report = doctor(kb, node)
    assert (code, report["works"]) == (1, False)
    assert "whether the canaries reached the vendor cannot be seen" in faults(report)


def test_a_ledger_that_is_away_is_told(patient: tuple[Keybrake, EnvoyNode, str]) -> None:
    kb, node, _ = patient
    kb.stack.ledger.stop()
    code, report = doctor(kb, node)
    assert code == 1
    assert "the gate stands and cannot reach the ledger" in faults(report)
    kb.stack.ledger.start()
    assert doctor(kb, node)[0] == 0


def test_a_ledger_that_was_told_its_gate_is_ready_only_behind_a_working_one(
    patient: tuple[Keybrake, EnvoyNode, str], tmp_path: Path
) -> None:
    kb, node, config = patient
    gate = f"{node.url}/stripe/v1/charges"
    with further_ledger(kb, f"sqlite:{tmp_path / 'keybrake.db'}", "gated", "--gate-url", gate) as ledger:

        def readiness() -> Any:
            return call("GET", f"http://{LOOPBACK}:{ledger.address.api_port}/readyz").json()

        eventually(lambda: readiness()["ready"], START_S, "a gate that is proven")
        put_up_again(node, says_no_and_passes(config).replace("vault_key_invalid", "none"))
        eventually(lambda: not readiness()["ready"], START_S, "a gate that is found out")
        assert "none, where a key that nobody issued must get 401" in " ".join(readiness()["reasons"])
        put_up_again(node, config)
        eventually(lambda: readiness()["ready"], START_S, "a gate that is proven again")
