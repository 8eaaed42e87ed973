"""`make run`: the main job once, in order, and what is left when it ends."""

from __future__ import annotations

import signal

import pytest
from harness import Keybrake
from launcher import Launcher, Launchers, end, gone, one_clear_line, wait_for_line

from stack import build, demo
from stack.calls import call
from stack.child import Child

STEPS = [
    "✓ key issued: vk_",
    "✓ charge 200: ch_",
    "✓ same idempotency key again 200: ch_",
    "✓ refund 403: endpoint_not_allowed",
    "✓ charge of $9.00 402: spend_cap_exceeded",
    "✓ audit: 1 charge with 1 replay, 2 refusals",
]

pytestmark = [pytest.mark.gate, pytest.mark.usefixtures("artifacts", "envoy")]


def steps_of(out: str) -> list[str]:
    """The lines of the demo's steps."""
    return [line.strip() for line in out.splitlines() if line.strip().startswith("✓")]


def test_the_demo_runs_in_order_and_leaves_nothing(launchers: Launchers) -> None:
    launcher = launchers()
    ended = launcher.run("run", "--once")
    assert ended.code == 0, ended
    said = steps_of(ended.out)
    assert [line[: len(step)] for line, step in zip(said, STEPS)] == STEPS
    assert len(said) == len(STEPS)
    assert "\x1b[" not in ended.out + ended.err, "colours belong on a terminal"
    assert "keybrake_filter.wasm" in ended.out
    assert launcher.leaves_nothing()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_run_stays_without_a_terminal_until_a_signal_ends_it(launchers: Launchers, sent: int) -> None:
    launcher = launchers()
    with launcher.begin("run") as running:
        lines = wait_for_line(running, "$KEYBRAKE_URL/audit")
        assert f"  source {launcher.run_dir}/env" in lines
        assert call("GET", f"http://127.0.0.1:{launcher.ports.envoy}/readyz").status == 200
        ended = end(running, sent)
    assert ended.code == 0, ended
    assert launcher.leaves_nothing()


def test_run_ends_when_a_part_ends_by_itself(launchers: Launchers) -> None:
    launcher = launchers()
    with launcher.begin("run") as running:
        wait_for_line(running, "$KEYBRAKE_URL/audit")
        (pid_file,) = (launcher.run_dir / "pids").glob("ledger.json")
        ledger = Child.found("ledger", pid_file, launcher.run_dir / "log")
        assert ledger is not None
        ledger.kill(signal.SIGKILL)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "keybrake: ledger ended by itself" in err
    gone(launcher)


def test_a_step_that_does_not_hold_fails_the_demo(keybrake: Keybrake) -> None:
    """The demo's checks are real: with a vendor that answers something else they fail."""
    job = demo.Demo(keybrake.stack, lambda _: None)
    keybrake.fault({"kind": "status", "status": 429, "code": "rate_limit"}, idempotency_key=job.idempotency_key)
    job.issue()
    with pytest.raises(demo.StepFailed, match="charge: 200 expected, 429"):
        job.charge()


def test_the_demo_notices_a_second_request_at_the_vendor(keybrake: Keybrake) -> None:
    """What a gate that forwards a replay would look like."""
    job = demo.Demo(keybrake.stack, lambda _: None)
    job.issue()
    charge_id = job.charge()
    keybrake.past_the_gate("POST", "/v1/charges", {"amount": "1"}, idempotency_key=job.idempotency_key)
    with pytest.raises(demo.StepFailed, match="the vendor has seen"):
        job.repeat(charge_id)


def test_up_status_env_down(launchers: Launchers) -> None:
    launcher = launchers()
    assert launcher.run("status").code == 3
    up = launcher.run("up")
    assert up.code == 0, up
    status = launcher.run("status")
    assert status.code == 0
    assert [line.split()[1] for line in status.out.splitlines()] == ["envoy", "ledger", "sandbox"]
    assert launcher.run("env").out == (launcher.run_dir / "env").read_text()
    again = one_clear_line(launcher.run("up"))
    assert "is running already" in again
    assert "ledger (pid " in again
    assert launcher.run("status").out == status.out, "a refused start touches nothing"
    down = launcher.run("down")
    assert down.code == 0, down
    ended = [line.split()[1] for line in down.out.splitlines() if line.endswith(" ended")]
    assert ended == ["envoy", "ledger", "sandbox"]
    assert launcher.leaves_nothing()
    assert launcher.run("down").out == "keybrake: nothing was running\n"


def lasting_lines(launcher: Launcher) -> list[str]:
    """The file to source, without the sandbox's control API, which takes a free port each time."""
    lines = (launcher.run_dir / "env").read_text().splitlines()
    return [line for line in lines if "KEYBRAKE_SANDBOX_CONTROL_URL" not in line]


def test_a_stack_comes_back_with_its_keys_and_its_money(launchers: Launchers) -> None:
    launcher = launchers()
    assert launcher.run("run", "--once").code == 0
    env = lasting_lines(launcher)
    assert launcher.run("up").code == 0
    assert lasting_lines(launcher) == env
    audit_key = (launcher.run_dir / "keys/audit").read_text().strip()
    seen = call("GET", f"http://127.0.0.1:{launcher.ports.envoy}/audit", bearer=audit_key).json()
    assert len(seen["entries"]) == 3
    assert launcher.run("down").code == 0
    assert build.artifacts().missing() == []
