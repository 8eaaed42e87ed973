"""What happens to the flows. The same happens to both forms of a hazard, wherever that can be.

A scenario that needs time to pass returns what happens after it: all scenarios' first parts run, then the clock that
ledger and vendor read is moved on by `play.LATER_HOURS`, then the rest.
"""

from __future__ import annotations

from typing import Callable, Optional

from examples.runner.play import Hazard, Later
from examples.runner.program import Ended
from examples.runner.trial import Trial
from hazards.case import Form, MetaflowCase
from hazards.flow_run import FlowRun

NEXT_PERIOD = "2026-08"
# A refused connection, with the SDK's attempts, Metaflow's own start and a busy machine.
FAILS_FAST_S = 60.0


def write_fails_once(case: MetaflowCase) -> None:
    """`@retry` does the rest."""
    case.fail_next_write("b")
    case.run()


def fan_out(case: MetaflowCase, wrong: str) -> None:
    """Some prices are a hundred times too high. With Keybrake they are refused, mended, and the run is resumed."""
    case.price_list_in_cents(wrong)
    if not case.form.through_keybrake:
        case.run()
        return
    failed = case.run(Ended.FAILED)
    for letter in wrong:
        case.expect(not case.charges(letter), f"nothing is charged to {letter}, whose price is wrong")
    case.price_list_mended()
    if case.form.draws_from_budget:
        case.open_tripped_budget()
    case.resume(failed)


def write_fails_and_resumed(case: MetaflowCase) -> None:
    """The step fails at its second customer, and is resumed at once."""
    case.fail_next_write("b")
    case.resume(case.run(Ended.FAILED))


def write_fails_and_resumed_later(case: MetaflowCase) -> Later:
    """The same, but somebody resumes it when the vendor has forgotten."""
    case.fail_next_write("b")
    failed = case.run(Ended.FAILED)
    return lambda: void(case.resume(failed))


def killed_while_charging(case: MetaflowCase) -> None:
    """The vendor has executed, its answer is on the way, the task is gone."""
    case.answer_late("b")
    run = case.start()
    case.until_charged("b")
    run.kill_task("charge")
    run.wait()


def two_runs_at_once(case: MetaflowCase) -> None:
    """Both are in the middle of the same charge."""
    case.trial.sandbox.fault(
        {"kind": "delay", "delay_ms": 1500, "when": "before"},
        times=None,
        body_contains=f"customer={case.customers['a']}",
    )
    runs = [case.start(), case.start()]
    for run in runs:
        run.wait()


def key_is_read_from_the_artifacts(case: MetaflowCase) -> Later:
    """Somebody finds the run in the datastore, at once and again much later, and charges with the key that is in it."""
    run = case.run()
    _try_stolen_key(case, run, (402, "spend_cap_exceeded"))
    return lambda: _try_stolen_key(case, run, (401, "vault_key_expired"))


def _try_stolen_key(case: MetaflowCase, run: FlowRun, with_keybrake: tuple[int, str]) -> None:
    wanted = with_keybrake if case.form.through_keybrake else (200, None)
    answer = case.use_stolen_key(run)
    case.expect((answer["status"], answer["code"]) == wanted, f"{wanted} for the stolen key, not {answer}")


def key_is_not_in_the_artifacts(case: MetaflowCase) -> Optional[Later]:
    """The datastore is searched for any key."""
    if not case.form.through_keybrake:
        return key_is_read_from_the_artifacts(case)
    case.run()
    case.expect(case.in_datastore(case.customers["a"]), "the search finds what is in the datastore")
    case.expect(not case.in_datastore("vault_key_"), "no vault key is in the datastore")
    return None


def nobody_answers(case: MetaflowCase) -> None:
    """Without Keybrake the connection breaks while Stripe charges; with it, Keybrake itself is not there."""
    if not case.form.through_keybrake:
        # `StripeClient` makes no attempt of its own after a broken connection, unless it is told to.
        case.trial.sandbox.fault({"kind": "reset_before_answer"}, body_contains=f"customer={case.customers['b']}")
        case.resume(case.run(Ended.FAILED))
        return
    envoy = case.trial.second_envoy
    envoy.kill()
    failed = case.start(url=envoy.url)
    took_s = failed.wait(Ended.FAILED)
    case.expect(took_s < FAILS_FAST_S, f"it fails fast, not after {took_s:.0f} s")
    case.expect(not case.charges(), "nothing is charged while Keybrake is away")
    envoy.restart()
    case.resume(failed, url=envoy.url)


def run_again_and_next_period(case: MetaflowCase) -> Later:
    """A retry, then somebody runs the same period again; a month later the next one is due."""
    case.fail_next_write("b")
    case.run()
    case.run()
    return lambda: void(case.run(period=NEXT_PERIOD))


def void(_: object) -> None:
    """For a result that nobody needs."""


def _hazard(
    name: str,
    what: str,
    without: Form,
    with_keybrake: Form,
    scenario: Callable[[MetaflowCase], Optional[Later]],
) -> Hazard[MetaflowCase]:
    def case(trial: Trial, through_keybrake: bool) -> MetaflowCase:
        form = with_keybrake if through_keybrake else without
        return MetaflowCase(trial, f"{name}_{'safe' if through_keybrake else 'unsafe'}", form)

    return Hazard(name, what, case, scenario)


HAZARDS = (
    _hazard(
        "retry",
        "@retry after a failed database write",
        Form("retry_unsafe.py"),
        Form("retry_safe.py", through_keybrake=True),
        write_fails_once,
    ),
    _hazard(
        "fan_out_one",
        "foreach, one branch 100 times too much",
        Form("fan_out_unsafe.py"),
        Form("fan_out_safe.py", through_keybrake=True, issues_keys=True),
        lambda case: fan_out(case, "b"),
    ),
    _hazard(
        "fan_out_all",
        "foreach, every branch 100 times too much",
        Form("fan_out_unsafe.py"),
        Form("fan_out_safe.py", through_keybrake=True, issues_keys=True),
        lambda case: fan_out(case, "abc"),
    ),
    _hazard(
        "fan_out_braked",
        "the same, with a budget that brakes",
        Form("fan_out_unsafe.py"),
        Form("fan_out_braked.py", through_keybrake=True, issues_keys=True, draws_from_budget=True),
        lambda case: fan_out(case, "abc"),
    ),
    _hazard(
        "resume",
        "resume after a failed database write",
        Form("resume_unsafe.py"),
        Form("resume_safe.py", through_keybrake=True),
        write_fails_and_resumed,
    ),
    _hazard(
        "resume_later",
        "resume 40 days later",
        Form("resume_forgotten.py"),
        Form("resume_safe.py", through_keybrake=True),
        write_fails_and_resumed_later,
    ),
    _hazard(
        "killed",
        "task killed while it charges",
        Form("killed_unsafe.py"),
        Form("killed_safe.py", through_keybrake=True),
        killed_while_charging,
    ),
    _hazard(
        "partial",
        "foreach fails in part, then resume",
        Form("partial_unsafe.py"),
        Form("partial_safe.py", through_keybrake=True, asks_audit=True),
        write_fails_and_resumed,
    ),
    _hazard(
        "overlap",
        "two runs of one period at once",
        Form("overlap_unsafe.py"),
        Form("overlap_safe.py", through_keybrake=True),
        two_runs_at_once,
    ),
    _hazard(
        "artifact",
        "key read from an artifact, twice",
        Form("artifact_unsafe.py"),
        Form("artifact_safe.py", through_keybrake=True, issues_keys=True),
        key_is_read_from_the_artifacts,
    ),
    _hazard(
        "artifact_kept_out",
        "the same, keys kept out of artifacts",
        Form("artifact_unsafe.py"),
        Form("artifact_kept_out.py", through_keybrake=True, issues_keys=True),
        key_is_not_in_the_artifacts,
    ),
    _hazard(
        "unreachable",
        "nobody answers, then resume",
        Form("resume_unsafe.py"),
        Form("resume_safe.py", through_keybrake=True),
        nobody_answers,
    ),
    _hazard(
        "unchanged",
        "unsafe flow as it is; the next period too",
        Form("retry_unsafe.py"),
        Form("retry_unsafe.py", through_keybrake=True, unchanged=True),
        run_again_and_next_period,
    ),
)
