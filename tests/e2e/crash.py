"""Words for tests in which a part stops, hangs or dies: how it is brought down, and what has to hold afterwards."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, TypeVar

import httpx
import pytest
from harness import Keybrake, VaultKey, eventually
from ledger_side import expect_balance
from shape import expect_refusal

from stack.child import Child
from stack.envoy_config import plugin_configuration
from stack.envoy_node import GAUGE

# The window of every cap of these tests: midnight and a moved clock do not change it.
LIFETIME = "lifetime"

_SHIPPED = plugin_configuration({})
RESERVE_DEADLINE_S = _SHIPPED["reserve_deadline_ms"] / 1000
SETTLE_WAIT_S = _SHIPPED["settle_wait_ms"] / 1000
FORWARD_TIMEOUT_S = _SHIPPED["forward_timeout_ms"] / 1000
# Defaults of `keybrake serve`.
FORWARD_WITHIN_S = 5.0
SWEEP_GRACE_S = 30.0
# Over every bound that is checked, for a busy machine.
SLACK_S = 2.0
PATIENCE_S = 15.0
# Longer than any test takes: the answer never comes.
NEVER_MS = 120_000

Result = TypeVar("Result")


def issue(kb: Keybrake, usd: str, **grant: Any) -> VaultKey:
    """A key with this much to spend in its life of 30 days."""
    wanted = {"daily_usd_cap": None, "lifetime_usd_cap": usd, "expires_in_seconds": 30 * 86_400}
    return kb.issue(**{**wanted, **grant})


def expect_parts(
    kb: Keybrake, key: VaultKey, *, free: str, held: str = "0", settled: str = "0", unknown: str = "0"
) -> None:
    """Fails unless the key's balance is this."""
    expect_balance(kb, key, free=free, held=held, settled=settled, unknown=unknown, window=LIFETIME)


def eventually_parts(
    kb: Keybrake, key: VaultKey, *, free: str, held: str = "0", settled: str = "0", unknown: str = "0"
) -> None:
    """Waits until the key's balance is this."""

    def fits() -> bool:
        try:
            expect_parts(kb, key, free=free, held=held, settled=settled, unknown=unknown)
        except AssertionError:
            return False
        return True

    with contextlib.suppress(TimeoutError):
        eventually(fits, PATIENCE_S, "this balance")
    expect_parts(kb, key, free=free, held=held, settled=settled, unknown=unknown)


# How parts are brought down


def kill(child: Child) -> None:
    """SIGKILL, and its end."""
    child.kill(signal.SIGKILL)
    assert child.wait(PATIENCE_S), f"{child.name} outlived SIGKILL"


@contextlib.contextmanager
def hanging(child: Child) -> Iterator[None]:
    """The program does nothing at all in here: it keeps its connections and answers none of them."""
    child.kill(signal.SIGSTOP)
    try:
        eventually(lambda: set(_states(child)) == {"T"}, PATIENCE_S, f"{child.name} stands still")
        yield
    finally:
        child.kill(signal.SIGCONT)


def _states(child: Child) -> Sequence[str]:
    threads = Path(f"/proc/{child.pid}/task").glob("*/stat")
    return [thread.read_text().rpartition(")")[2].split()[0] for thread in threads]


def envoy_dies_before_settlement(kb: Keybrake, key: VaultKey, cents: int, name: str) -> None:
    """The vendor executes the charge, its answer is under way, and Envoy is killed and started again."""
    kb.fault({"kind": "delay", "delay_ms": NEVER_MS, "when": "after"}, idempotency_key=name)
    with ThreadPoolExecutor(1) as clients:
        charging = clients.submit(kb.charge, key, cents, idempotency_key=name)
        executed(kb, name)
        kill(kb.stack.envoy.child)
        with pytest.raises(httpx.TransportError):
            charging.result()
    kb.stack.envoy.start()


# What has to hold


def timed(call: Callable[..., Result], *arguments: Any, **named: Any) -> tuple[Result, float]:
    """What the call gives, and the seconds that it took."""
    began = time.monotonic()
    given = call(*arguments, **named)
    return given, time.monotonic() - began


def expect_unavailable(answer: httpx.Response) -> None:
    """503: nothing was sent, try again."""
    expect_refusal(answer, 503, "governance_unavailable", kind="api_error", retry="true")


def expect_unavailable_in_time(asked: tuple[httpx.Response, float]) -> None:
    """503, and not later than a reserve is waited for."""
    answer, seconds = asked
    expect_unavailable(answer)
    assert seconds < RESERVE_DEADLINE_S + SLACK_S, f"503 after {seconds:.1f} s"


def open_slots(kb: Keybrake) -> int:
    """How many requests the filter of the first Envoy has open."""
    gauges = kb.stack.envoy.stats(GAUGE)
    assert gauges, "the filter has no gauge"
    return sum(gauges.values())


def no_open_requests(kb: Keybrake) -> None:
    """Waits until the ledger has acknowledged all that the filter had to tell it."""
    eventually(lambda: open_slots(kb) == 0, PATIENCE_S, "no open request")


def sweep(kb: Keybrake, forward_timeout_s: float = FORWARD_TIMEOUT_S) -> None:
    """Moves the clock to where every attempt without an outcome counts as unknown."""
    kb.advance(seconds=FORWARD_WITHIN_S + forward_timeout_s + SWEEP_GRACE_S + 1)


def reaches_vendor(kb: Keybrake, name: str) -> None:
    """Waits until a request with this idempotency key is at the vendor."""
    eventually(lambda: bool(kb.vendor_requests(name)), PATIENCE_S, f"{name} reaches the vendor")


def executed(kb: Keybrake, name: str) -> None:
    """Waits until the vendor has executed it. (A fault may keep its answer back.)"""
    eventually(lambda: kb.executions(name) == 1, PATIENCE_S, f"{name} is executed")


def answered_by_vendor(kb: Keybrake, name: str) -> None:
    """Waits until the vendor has answered the first request with this key."""

    def answered() -> bool:
        return kb.vendor_requests(name)[0]["status"] is not None

    eventually(answered, PATIENCE_S, f"{name} is answered by the vendor")


def expect_at_vendor(kb: Keybrake, name: str, *, requests: int, executions: int) -> None:
    """Fails unless the vendor has seen this under the idempotency key."""
    seen = kb.counts()["by_key"].get(name, {"requests": 0, "executions": 0})
    assert seen == {"requests": requests, "executions": executions}, f"{name} at the vendor: {seen}"


def executed_cents(kb: Keybrake) -> int:
    """What the vendor has taken in all."""
    return int(kb.counts()["executed_minor"].get("usd", 0))
