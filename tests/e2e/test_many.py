"""Two Envoys and three ledgers on one PostgreSQL, and one of each dies in the middle of a run of charges."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Callable

import httpx
from harness import Keybrake, VaultKey, eventually, fresh_key
from ledger_side import audited, expect_balance, expect_whole_chain
from more_ledgers import FurtherLedger, further_ledger
from postgres_server import postgres
from vendor_side import charged_cents

from stack.envoy_config import Changes
from stack.envoy_node import EnvoyNode
from stack.ports import Ports

CENTS = 299
CHARGES = 240
# $299.00 and not a cent of the next.
FITTING = 100
CAP = "301.98"
AT_ONCE = 24
# A client that is told to come again does, at the other Envoy, for so long.
PATIENCE_S = 40.0
# One request of it may take so long.
REQUEST_S = 10.0
# An attempt that nobody tells the outcome of is given up after forward-within, forward time-out and grace.
FLAGS = ("--forward-within-ms", "1000", "--sweep-grace-ms", "1000")
PLUGIN = {"forward_timeout_ms": 2000, "in_flight_patience_ms": 1000}
GIVEN_UP_S = 4.0


@dataclasses.dataclass
class Run:
    """What the clients saw."""

    final: dict[str, int] = dataclasses.field(default_factory=dict)
    errors: Counter[str] = dataclasses.field(default_factory=Counter)
    slowest_s: float = 0.0
    # A client has given up: the others need not try for as long.
    broken: bool = False
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)

    def paid(self) -> int:
        """Charges that came to a good end so far."""
        with self.lock:
            return sum(status == 200 for status in self.final.values())

    def told(self, name: str, status: int, took_s: float) -> None:
        """One charge has its answer."""
        with self.lock:
            self.final[name] = status
            self.slowest_s = max(self.slowest_s, took_s)

    def failed(self, what: str) -> None:
        """One request has none, or one that says come again."""
        with self.lock:
            self.errors[what] += 1


def until_answered(run: Run, key: VaultKey, name: str, form: dict[str, str], nodes: Sequence[EnvoyNode]) -> None:
    """A client as it should be: the same idempotency key until there is an answer, each time at the other Envoy."""
    began = time.monotonic()
    headers = {"Authorization": f"Bearer {key.secret}", "Idempotency-Key": name}
    with httpx.Client(timeout=REQUEST_S, trust_env=False) as client:
        attempt = 0
        while not run.broken and time.monotonic() - began < PATIENCE_S:
            url = nodes[(hash(name) + attempt) % len(nodes)].url
            attempt += 1
            try:
                answer = client.post(f"{url}/stripe/v1/charges", headers=headers, data=form)
            except httpx.HTTPError as error:
                run.failed(type(error).__name__)
                time.sleep(0.05)
                continue
            if answer.status_code in (200, 402):
                run.told(name, answer.status_code, time.monotonic() - began)
                return
            assert answer.headers.get("stripe-should-retry") == "true", (answer.status_code, answer.text)
            run.failed(f"{answer.status_code} {answer.headers['keybrake-reason']}")
            time.sleep(0.2)
    run.broken = True
    raise AssertionError(f"{name} has no answer: {run.errors}")


@contextlib.contextmanager
def three_ledgers(kb: Keybrake, url: str) -> Iterator[list[FurtherLedger]]:
    """All on one database."""
    with contextlib.ExitStack() as open_ones:
        yield [open_ones.enter_context(further_ledger(kb, url, f"ledger-{n}", *FLAGS)) for n in range(3)]


def has_ledgers(node: EnvoyNode, count: int) -> bool:
    """Whether this Envoy takes so many ledgers for healthy."""
    return list(node.stats(r"^cluster\.keybrake_commands\.membership_healthy$").values()) == [count]


def test_one_ledger_and_one_envoy_killed_during_a_run_leave_the_cap_exact(
    fresh: Callable[..., Keybrake],
) -> None:
    with postgres() as url:
        kb = fresh(database_url=url, plugin=PLUGIN)
        with three_ledgers(kb, url) as ledgers:
            addresses = [ledger.address for ledger in ledgers]
            nodes = [kb.stack.add_envoy(Ports.free(), Changes(plugin=PLUGIN), addresses) for _ in range(2)]
            for node in nodes:
                eventually(functools.partial(has_ledgers, node, 3), 10, "three healthy ledgers")
            run, customer, key = charges_with_two_deaths(kb, nodes, ledgers)
            exact(kb, key, customer, run)
            one_ledger_is_enough(kb, nodes[0], ledgers)
        expect_whole_chain(kb, url)
        print(
            f"\n{CHARGES} charges, {AT_ONCE} at once: {sum(run.errors.values())} answers that say come again or none:"
        )
        print(f"{dict(run.errors)}; slowest charge {run.slowest_s:.1f} s")
        kb.stop()


def charges_with_two_deaths(
    kb: Keybrake, nodes: Sequence[EnvoyNode], ledgers: Sequence[FurtherLedger]
) -> tuple[Run, str, VaultKey]:
    """The run, its customer and its key."""
    key = kb.issue(daily_usd_cap=CAP)
    customer = fresh_key("cus").replace("-", "_")
    kb.fault({"kind": "delay", "delay_ms": 50}, times=None, body_contains=customer)
    form = {"amount": str(CENTS), "currency": "usd", "source": "tok_visa", "customer": customer}
    names = [fresh_key("many") for _ in range(CHARGES)]
    run = Run()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [pool.submit(until_answered, run, key, name, form, nodes) for name in names]
        try:
            eventually(lambda: run.paid() >= FITTING // 5, 60, "a fifth is paid")
            ledgers[0].process.kill()
            eventually(functools.partial(has_ledgers, nodes[0], 2), 10, "the dead ledger is known to be dead")
            eventually(lambda: run.paid() >= FITTING // 2, 60, "half is paid")
            nodes[1].kill()
            for one in asked:
                one.result()
        except BaseException:
            run.broken = True
            raise
    kb.clear_faults()
    # Money that a dead Envoy had set aside may have come back after others were told that there is none left.
    for name in [name for name, status in run.final.items() if status == 402]:
        until_answered(run, key, name, form, nodes[:1])
    return run, customer, key


def one_ledger_is_enough(kb: Keybrake, node: EnvoyNode, ledgers: Sequence[FurtherLedger]) -> None:
    """With two of three dead, every request is answered, once that is known."""
    ledgers[1].process.kill()
    eventually(functools.partial(has_ledgers, node, 1), 10, "the second dead ledger is known to be dead")
    key = kb.issue()
    for _ in range(20):
        assert kb.charge(key, 1, url=f"{node.url}/stripe").status_code == 200


def exact(kb: Keybrake, key: VaultKey, customer: str, run: Run) -> None:
    """On the clients' side, on the vendor's, in the ledger's balance and in its audit."""
    assert Counter(run.final.values()) == {200: FITTING, 402: CHARGES - FITTING}
    assert charged_cents(kb, customer) == [CENTS] * FITTING
    by_key = kb.counts()["by_key"]
    for name, status in run.final.items():
        executions = by_key.get(name, {"executions": 0})["executions"]
        assert executions == (1 if status == 200 else 0), name
    expect_balance(kb, key, free="2.98", settled="299")
    assert Counter(entry[2] for entry in audited(kb, key))["settled"] == FITTING
    # Bounded: at most what was on its way when something died, some times over.
    assert sum(run.errors.values()) <= 12 * AT_ONCE, run.errors
    # At worst one request without any answer, and then the attempt that it began is waited for.
    assert run.slowest_s < REQUEST_S + GIVEN_UP_S + 1
