"""A part is killed at each step of a charge, alone and in pairs from a seed, and comes back; clients repeat the charge
for two days. Each action is executed once at the most, the cap holds, and the books of ledger, audit and vendor agree.

KEYBRAKE_CRASH_SEED repeats a run, KEYBRAKE_CRASH_PAIRS makes a longer one (`make soak`)."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Callable, Optional

import httpx
import pytest
from crash import (
    LIFETIME,
    PATIENCE_S,
    executed,
    issue,
    kill,
    no_open_requests,
    reaches_vendor,
    sweep,
)
from harness import Keybrake, VaultKey, eventually, fresh_key
from ledger_side import expect_whole_chain
from relay import Relay

from stack.build import Artifacts

CENTS = 299
# The cent that makes the key known to the filter, and one charge: a second debit would not fit.
CAP_USD = "3.00"
# For as long the vendor sits on a request that waits for a kill; it goes on with it by itself afterwards.
VENDOR_DELAY_MS = 1_500
DEADLINE_S = 60
SEED = os.environ["KEYBRAKE_CRASH_SEED"]
PAIRS = int(os.environ.get("KEYBRAKE_CRASH_PAIRS", "6"))


@dataclasses.dataclass(frozen=True)
class Charge:
    """One business action."""

    kb: Keybrake
    relay: Relay
    key: VaultKey
    name: str

    def once(self) -> httpx.Response:
        """One try."""
        return self.kb.charge(self.key, CENTS, idempotency_key=self.name)

    def decided(self) -> httpx.Response:
        """Repeats it for as long as it is told to."""
        last: list[httpx.Response] = []

        def final() -> bool:
            with contextlib.suppress(httpx.TransportError):
                last[:] = [self.once()]
                return bool(last[0].headers.get("stripe-should-retry") != "true")
            return False

        eventually(final, DEADLINE_S, f"a decision about {self.name}")
        return last[0]


# The steps. Each stops the charge there: when it yields, the charge has come so far and no further.

Begin = Callable[[], None]
Step = Callable[[Charge, Begin], "contextlib.AbstractContextManager[None]"]


@contextlib.contextmanager
def before_the_reserve_is_committed(charge: Charge, begin: Begin) -> Iterator[None]:
    with charge.relay.keeping_requests():
        begin()
        eventually(lambda: bool(charge.relay.keeping()), PATIENCE_S, "the reserve on its way")
        yield


@contextlib.contextmanager
def after_the_reserve_is_committed_and_before_the_forward(charge: Charge, begin: Begin) -> Iterator[None]:
    with charge.relay.keeping_answers():
        begin()
        eventually(lambda: bool(charge.kb.audit(idempotency_key=charge.name)), PATIENCE_S, "the reserve on record")
        yield


@contextlib.contextmanager
def when_the_vendor_has_accepted(charge: Charge, begin: Begin) -> Iterator[None]:
    charge.kb.fault({"kind": "delay", "delay_ms": VENDOR_DELAY_MS, "when": "before"}, idempotency_key=charge.name)
    begin()
    reaches_vendor(charge.kb, charge.name)
    yield


@contextlib.contextmanager
def when_the_vendor_has_executed(charge: Charge, begin: Begin) -> Iterator[None]:
    charge.kb.fault({"kind": "delay", "delay_ms": VENDOR_DELAY_MS, "when": "after"}, idempotency_key=charge.name)
    begin()
    executed(charge.kb, charge.name)
    yield


@contextlib.contextmanager
def before_the_outcome_is_committed(charge: Charge, begin: Begin) -> Iterator[None]:
    with when_the_vendor_has_executed(charge, begin), charge.relay.keeping_requests():
        eventually(lambda: bool(charge.relay.keeping()), PATIENCE_S, "the outcome on its way")
        yield


@contextlib.contextmanager
def after_the_outcome_is_committed_and_before_the_clients_first_byte(charge: Charge, begin: Begin) -> Iterator[None]:
    with when_the_vendor_has_executed(charge, begin), charge.relay.keeping_answers():
        # Beside it there may be an earlier try's, of which nothing was sent.
        settled = {"idempotency_key": charge.name, "outcome": "settled"}
        eventually(lambda: bool(charge.kb.audit(**settled)), PATIENCE_S, "the outcome on record")
        yield


STEPS: list[Step] = [
    before_the_reserve_is_committed,
    after_the_reserve_is_committed_and_before_the_forward,
    when_the_vendor_has_accepted,
    when_the_vendor_has_executed,
    before_the_outcome_is_committed,
    after_the_outcome_is_committed_and_before_the_clients_first_byte,
]


# The victims. Each is killed at once, and comes back later.


def ledger(kb: Keybrake) -> Callable[[], None]:
    kill(kb.stack.ledger.child)
    return kb.stack.ledger.start


def envoy(kb: Keybrake) -> Callable[[], None]:
    kill(kb.stack.envoy.child)
    return kb.stack.envoy.start


def vendor(kb: Keybrake) -> Callable[[], None]:
    assert kb.stack.sandbox is not None
    kill(kb.stack.sandbox.child)
    return kb.stack.sandbox.start


Victim = Callable[[Keybrake], Callable[[], None]]
VICTIMS: list[Victim] = [ledger, envoy, vendor]


@dataclasses.dataclass(frozen=True)
class Crash:
    """Who is killed when."""

    step: Step
    victim: Victim

    def __str__(self) -> str:
        return f"{self.victim.__name__}-{self.step.__name__}"


SINGLES = [Crash(step, victim) for step in STEPS for victim in VICTIMS]


def pairs() -> list[tuple[Crash, Crash]]:
    """The second hits the client's repeat, or the first try if that has come to its end."""
    chance = random.Random(SEED)
    return [(chance.choice(SINGLES), chance.choice(SINGLES)) for _ in range(PAIRS)]


@pytest.fixture(scope="module")
def relayed(stacks_folder: Path, artifacts: Artifacts, envoy: Path) -> Iterator[tuple[Keybrake, Relay]]:
    """A stack whose Envoy, with one worker, reaches its ledger through a relay. At the end its chain is verified."""
    print(f"seed: {SEED}")
    with tempfile.TemporaryDirectory(prefix="kb") as folder, Relay(Path(folder) / "relay.sock") as relay:
        kb = Keybrake.start(
            stacks_folder / "crash-points",
            artifacts,
            envoy=envoy,
            edit=relay.edit,
            workers=1,
            plugin={"in_flight_patience_ms": 300},
        )
        yield kb, relay
        expect_whole_chain(kb)
        kb.stop()


@pytest.fixture
def charge(relayed: tuple[Keybrake, Relay]) -> Charge:
    """A new action under a key that the filter knows and whose cap fits it once."""
    kb, relay = relayed
    key = issue(kb, CAP_USD)
    assert kb.charge(key, 1).status_code == 200
    return Charge(kb, relay, key, fresh_key("action"))


def crash_during(charge: Charge, crash: Crash) -> None:
    """One try of the charge, the kill, and the part's return. What became of the try is not known here."""
    with ThreadPoolExecutor(1) as clients:
        tries: list[Future[httpx.Response]] = []
        with crash.step(charge, lambda: tries.append(clients.submit(charge.once))):
            come_back = crash.victim(charge.kb)
        come_back()
        with contextlib.suppress(httpx.TransportError):
            for each in tries:
                each.result()
    charge.kb.clear_faults()


def settles_within_two_days(charge: Charge) -> None:
    """Every repeat in two days gives one and the same charge."""
    answers = [charge.decided()]
    for _ in range(2):
        charge.kb.advance(hours=25)
        answers.append(charge.decided())
    assert [answer.status_code for answer in answers] == [200] * 3, [answer.text for answer in answers]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert [answer.headers.get("idempotent-replayed") for answer in answers[1:]] == ["true", "true"]
    expect_books(charge, settled=True, charge_id=answers[0].json()["id"])


def expect_books(charge: Charge, *, settled: bool, charge_id: Optional[str] = None) -> None:
    """Balance, audit and vendor say the same about the action."""
    kb = charge.kb
    no_open_requests(kb)
    amount = Decimal(CENTS) / 100
    balance = kb.balance(charge.key, LIFETIME)
    assert balance.held == 0
    assert (balance.settled, balance.unknown) == (
        (amount + Decimal("0.01"), 0) if settled else (Decimal("0.01"), amount)
    )
    executions = kb.executions(charge.name)
    assert executions == 1 if settled else executions <= 1
    entries = [entry for entry in kb.audit(idempotency_key=charge.name) if entry["verdict"] == "admitted"]
    in_force = [entry for entry in entries if entry["outcome"] != "released"]
    assert [(entry["outcome"], entry["stripe_charge_id"]) for entry in in_force] == [
        ("settled" if settled else "unknown", charge_id)
    ]
    assert [entry["alarms"] for entry in entries if entry.get("alarms")] == []


@pytest.mark.parametrize("crash", SINGLES, ids=str)
def test_a_part_that_dies_at_any_step_costs_no_second_execution(charge: Charge, crash: Crash) -> None:
    crash_during(charge, crash)
    sweep(charge.kb)
    settles_within_two_days(charge)


@pytest.mark.parametrize("two", pairs(), ids=lambda two: f"{two[0]}-then-{two[1]}")
def test_two_parts_that_die_one_after_the_other_cost_no_second_execution(
    charge: Charge, two: tuple[Crash, Crash]
) -> None:
    print(f"seed: {SEED}")
    crash_during(charge, two[0])
    sweep(charge.kb)
    # The second strikes wherever the repeat comes by its step; a repeat that is a replay may not come there at all.
    with contextlib.suppress(TimeoutError):
        crash_during(charge, two[1])
    charge.kb.clear_faults()
    sweep(charge.kb)
    settles_within_two_days(charge)


@pytest.mark.parametrize("crash", [Crash(when_the_vendor_has_executed, envoy)], ids=str)
def test_a_client_that_repeats_after_the_vendors_window_is_told_so_and_nothing_is_sent(
    charge: Charge, crash: Crash
) -> None:
    crash_during(charge, crash)
    charge.kb.advance(hours=25)
    answer = charge.decided()
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "outcome_unknown"), answer.text
    assert len(charge.kb.vendor_requests(charge.name)) == 1
    expect_books(charge, settled=False)
