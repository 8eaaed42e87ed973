"""Everything dies, again and again, in an order from a seed, while clients charge through two Envoys. They repeat what
is not decided; in the end the books agree."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Callable

import httpx
from crash import (
    LIFETIME,
    PATIENCE_S,
    executed_cents,
    issue,
    kill,
    no_open_requests,
    sweep,
)
from harness import Keybrake, VaultKey, eventually, fresh_key
from ledger_side import expect_whole_chain

from stack.envoy_node import EnvoyNode

CENTS = 299
CLIENTS = 8
DISASTERS = 14
# Actions that end between one disaster and the next, at least.
BETWEEN = 6
# Actions that fit the cap of the key that has little.
FITTING = 25
DEADLINE_S = 60


class Clients:
    """Clients that charge through any of the Envoys, each action until it is decided, one after the other."""

    def __init__(self, kb: Keybrake, keys: tuple[VaultKey, VaultKey], seed: str) -> None:
        self.kb = kb
        self.keys = keys
        self.random = random.Random(seed)
        self.finals: dict[str, tuple[VaultKey, httpx.Response]] = {}
        self.undecided: set[str] = set()
        self.are_done = threading.Event()
        self._lock = threading.Lock()

    def run(self) -> None:
        """Business actions, until `are_done`."""
        while not self.are_done.is_set():
            self.charge(self.random.choice(self.keys), fresh_key("action"))

    def charge(self, key: VaultKey, name: str) -> None:
        """One business action to its end."""

        def final() -> bool:
            node = self.random.choice(self.kb.stack.envoys)
            try:
                answer = self.kb.charge(key, CENTS, idempotency_key=name, url=f"{node.url}/stripe")
            except httpx.TransportError:
                self._undecided("no answer")
                return False
            if answer.status_code in (200, 402):
                with self._lock:
                    self.finals[name] = key, answer
                return True
            error = answer.json()["error"]
            assert answer.status_code in (409, 502, 503, 504), answer.text
            assert answer.headers["stripe-should-retry"] == "true", answer.text
            self._undecided(error["code"])
            return False

        eventually(final, DEADLINE_S, f"a decision about {name}")

    def _undecided(self, why: str) -> None:
        with self._lock:
            self.undecided.add(why)

    def ended_with(self, status: int, key: VaultKey) -> dict[str, httpx.Response]:
        """The actions of the key that ended so, by idempotency key."""
        return {
            name: answer for name, (of, answer) in self.finals.items() if answer.status_code == status and of == key
        }


class Disasters:
    """What may happen to a part. Each leaves it running again."""

    def __init__(self, kb: Keybrake, seed: str) -> None:
        self.kb = kb
        self.random = random.Random(seed)
        # Each twice, and then by chance: so that no seed leaves one out.
        self.kinds = [self.ledger_killed, self.ledger_restarted, self.ledger_hangs, self.envoy_killed]
        self.kinds += [self.vendor_killed]
        self.order = [*self.kinds, *self.kinds]
        self.order += self.random.choices(self.kinds, k=DISASTERS - len(self.order))
        self.random.shuffle(self.order)

    def slow_vendor(self) -> None:
        """Widens the moment between the vendor's execution and its answer."""
        self.kb.fault({"kind": "delay", "delay_ms": 60, "when": "after"}, times=None)

    def ledger_killed(self) -> None:
        """SIGKILL."""
        kill(self.kb.stack.ledger.child)
        self.kb.stack.ledger.start()

    def ledger_restarted(self) -> None:
        """SIGTERM."""
        self.kb.stack.ledger.restart()

    def ledger_hangs(self) -> None:
        """Longer than a batch is waited for."""
        with hang(self.kb):
            failures = ledger_failures(self.kb)
            eventually(lambda: ledger_failures(self.kb) > failures, PATIENCE_S, "a batch that is late")

    def envoy_killed(self) -> None:
        """SIGKILL. What it had in flight becomes unknown."""
        node: EnvoyNode = self.random.choice(self.kb.stack.envoys)
        kill(node.child)
        # Proves its gate while clients are at work.
        node.start()
        sweep(self.kb)

    def vendor_killed(self) -> None:
        """SIGKILL. It remembers what it executed."""
        assert self.kb.stack.sandbox is not None
        kill(self.kb.stack.sandbox.child)
        self.kb.stack.sandbox.start()
        self.slow_vendor()


@contextlib.contextmanager
def hang(kb: Keybrake) -> Iterator[None]:
    """The ledger stands still in here."""
    kb.stack.ledger.kill(signal.SIGSTOP)
    try:
        yield
    finally:
        kb.stack.ledger.kill(signal.SIGCONT)


def ledger_failures(kb: Keybrake) -> int:
    """How many batches of commands came to nothing, at all Envoys."""
    return sum(sum(node.stats("keybrake_ledger_failures").values()) for node in kb.stack.envoys)


def test_whatever_dies_each_action_is_executed_once_and_the_cap_holds(fresh: Callable[..., Keybrake]) -> None:
    seed = fresh_key("seed")
    print(f"seed: {seed}")
    kb = fresh(plugin={"in_flight_patience_ms": 300}, workers=1)
    kb.second_envoy()
    rich, poor = issue(kb, "100000.00"), issue(kb, f"{FITTING * CENTS / 100 + 0.01:.2f}")
    clients, disasters = Clients(kb, (rich, poor), seed), Disasters(kb, seed)
    disasters.slow_vendor()

    with ThreadPoolExecutor(CLIENTS) as pool:
        begun = [pool.submit(clients.run) for _ in range(CLIENTS)]
        try:
            for disaster in disasters.order:
                wanted = len(clients.finals) + BETWEEN
                eventually(lambda: len(clients.finals) >= wanted, DEADLINE_S, f"load for {disaster}")  # noqa: B023
                disaster()
        finally:
            # What the last one lost becomes unknown, and can be repeated.
            sweep(kb)
            clients.are_done.set()
        for each in begun:
            each.result()

    assert {"no answer", "outcome_unknown"} <= clients.undecided, clients.undecided
    no_open_requests(kb)
    expect_books(kb, clients, rich)
    expect_books(kb, clients, poor)
    settled = [kb.balance(key, LIFETIME).settled for key in (rich, poor)]
    assert sum(settled) * 100 == executed_cents(kb)
    assert len(clients.ended_with(200, poor)) <= FITTING
    # Nothing of the cap is lost: what still fits is let through, and not one more.
    while kb.charge(poor, CENTS).status_code == 200:
        pass
    assert kb.balance(poor, LIFETIME).settled * 100 == FITTING * CENTS
    expect_whole_chain(kb)


def expect_books(kb: Keybrake, clients: Clients, key: VaultKey) -> None:
    """Clients, vendor, balance and audit say the same about each action of the key."""
    paid, turned = clients.ended_with(200, key), clients.ended_with(402, key)
    by_key = kb.counts()["by_key"]
    assert {name: by_key.get(name, {}).get("executions", 0) for name in paid} == dict.fromkeys(paid, 1)
    assert [name for name in turned if by_key.get(name, {}).get("executions")] == []
    balance = kb.balance(key, LIFETIME)
    assert (balance.held, balance.unknown) == (Decimal(0), Decimal(0))
    assert balance.settled * 100 == len(paid) * CENTS
    entries = kb.audit(key_id=key.key_id, verdict="admitted")
    assert {entry["outcome"] for entry in entries} <= {"settled", "released"}
    assert [entry["alarms"] for entry in entries if entry.get("alarms")] == []
    charge_ids = {
        entry["idempotency_key"]: entry["stripe_charge_id"] for entry in entries if entry["outcome"] == "settled"
    }
    assert charge_ids == {name: answer.json()["id"] for name, answer in paid.items()}
