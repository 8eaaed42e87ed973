"""A filter that traps: bounded answers, no credential without an admission, every hold kept, and one execution each in
the end, without a restart."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from at_once import at_once, charge_request
from crash import (
    PATIENCE_S,
    eventually_parts,
    expect_parts,
    issue,
    no_open_requests,
    sweep,
    timed,
)
from harness import Keybrake, VaultKey, eventually, fresh_key
from ledger_side import expect_whole_chain
from vendor_side import nothing_reaches_the_vendor

from stack import build

pytestmark = pytest.mark.gate

CENTS = 299
IN_FLIGHT = 100
# Longer than the test: no answer comes before the trap, nor after it.
NEVER_MS = 120_000
# The bound on a stream of which nothing is heard any more. (As shipped: the forward time-out and 20 s.)
STREAM_IDLE_MS = 6_000


@pytest.fixture(scope="module")
def trapping(artifacts: build.Artifacts) -> Path:
    """The filter with fail points: a request header makes it trap."""
    target = artifacts.wasm.parent.parent.parent / "fail-points"
    command = ["cargo", "build", "--release", "--target", build.TARGET, "-p", "keybrake-module"]
    command += ["--features", "fail_points", "--target-dir", str(target)]
    subprocess.run(command, cwd=build.ROOT, check=True, stdin=subprocess.DEVNULL)
    return target / build.TARGET / "release" / artifacts.wasm.name


@pytest.fixture(scope="module")
def kb(stacks_folder: Path, artifacts: build.Artifacts, envoy: Path, trapping: Path) -> Iterator[Keybrake]:
    """A stack with that filter and one worker, so that one trap hits all that is in flight."""
    kb = Keybrake.start(
        stacks_folder / "crash-trap",
        artifacts,
        envoy=envoy,
        wasm=trapping,
        workers=1,
        stream_idle_timeout_ms=STREAM_IDLE_MS,
    )
    yield kb
    kb.stop()


def trap(kb: Keybrake, key: VaultKey, point: str) -> httpx.Response:
    """A charge that makes the filter trap: `trap` in its own callback, `trap-root` in the root's next one."""
    return kb.charge(key, 1, idempotency_key=fresh_key("trap"), headers={"x-keybrake-fail-point": point})


def expect_no_word(answer: httpx.Response) -> None:
    """An error in Stripe's shape that says that nothing is known."""
    assert answer.status_code == 503, (answer.status_code, answer.text)
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("api_error", "outcome_unknown"), answer.text
    assert error["message"].startswith("Keybrake: ")
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["stripe-should-retry"] == "true"


def served(kb: Keybrake, key: VaultKey) -> None:
    """Waits until a fresh VM answers. Envoy makes one with the next request, after some traps a second later."""

    def answered() -> bool:
        answer = kb.get(key, "/v1/charges")
        assert answer.status_code in (200, 503), answer.text
        return answer.status_code == 200

    eventually(answered, PATIENCE_S, "a filter that works")


@pytest.mark.parametrize("point", ["trap", "trap-root"])
def test_a_worker_that_traps_with_100_charges_in_flight(kb: Keybrake, point: str) -> None:
    key = issue(kb, "400.00", allowed_endpoints=["POST /v1/charges", "GET /v1/charges"])
    flight = fresh_key("flight")
    names = [f"{flight}-{number}" for number in range(IN_FLIGHT)]
    envoy_pid = kb.stack.envoy.child.pid
    rejected = kb.counts()["rejected_credentials"]
    never = {"kind": "delay", "delay_ms": NEVER_MS, "when": "after"}
    kb.fault(never, times=IN_FLIGHT, idempotency_key=f"{flight}-*")

    with ThreadPoolExecutor(1) as clients:
        requests = [charge_request(kb, key, CENTS, idempotency_key=name) for name in names]
        flying = clients.submit(timed, at_once, requests)
        eventually(lambda: executions(kb, names) == Counter(names), PATIENCE_S, "all of them at the vendor")
        trapped, seconds = timed(trap, kb, key, point)
        answers, all_seconds = flying.result()
    expect_no_word(trapped)
    assert seconds < STREAM_IDLE_MS / 1000 + 2
    assert all_seconds < 2 * STREAM_IDLE_MS / 1000 + 2
    for answer in answers:
        expect_no_word(answer)
    expect_parts(kb, key, free="101.00", held="299.00")

    served(kb, key)
    sweep(kb)
    eventually_parts(kb, key, free="101.00", unknown="299.00")
    outcomes = Counter(entry["outcome"] for entry in kb.audit(key_id=key.key_id, operation="charges.create"))
    assert outcomes == {"unknown": IN_FLIGHT}

    retries = at_once([charge_request(kb, key, CENTS, idempotency_key=name) for name in names])
    assert {answer.status_code for answer in retries} == {200}
    assert len({answer.json()["id"] for answer in retries}) == IN_FLIGHT
    assert executions(kb, names) == Counter(names)
    expect_parts(kb, key, free="101.00", settled="299.00")
    no_open_requests(kb)
    expect_every_vendor_request_admitted(kb, key, names)
    assert kb.counts()["rejected_credentials"] == rejected
    assert kb.stack.envoy.child.pid == envoy_pid and kb.stack.envoy.child.alive()
    expect_whole_chain(kb)


def executions(kb: Keybrake, names: list[str]) -> Counter[str]:
    """How often each of them was executed."""
    by_key: Mapping[str, Any] = kb.counts()["by_key"]
    return Counter({name: by_key[name]["executions"] for name in names if name in by_key})


def expect_every_vendor_request_admitted(kb: Keybrake, key: VaultKey, names: list[str]) -> None:
    """What came to the vendor with the real secret was admitted before, and as often."""
    admitted = Counter(
        {entry["idempotency_key"]: entry["attempts"] for entry in kb.audit(key_id=key.key_id, verdict="admitted")}
    )
    of_ours = [seen["idempotency_key"] for seen in kb.vendor_requests() if seen["idempotency_key"] in names]
    assert Counter(of_ours) == {name: admitted[name] for name in names}
    assert set(admitted) - {None} == set(names), "the request that trapped was admitted"


def test_a_filter_that_traps_on_every_request_lets_none_through(kb: Keybrake) -> None:
    key = issue(kb, "10.00", allowed_endpoints=["POST /v1/charges", "GET /v1/charges"])
    served(kb, key)
    point = {"x-keybrake-fail-point": "trap"}
    with nothing_reaches_the_vendor(kb):
        for _ in range(10):
            for url in (f"{kb.url}/stripe", kb.stripe_url):
                for answer in (
                    kb.charge(key, CENTS, url=url, headers=point),
                    kb.get(key, "/v1/charges", url=url, headers=point),
                ):
                    expect_no_word(answer)
    served(kb, key)
    assert kb.charge(key, CENTS).status_code == 200
    expect_parts(kb, key, free="7.01", settled="2.99")
