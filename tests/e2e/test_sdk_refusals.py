"""Every refusal in Stripe's own SDKs: each line of `sdk/refusals.jsonl`, in each of them. The exception's class, its
code, status and message; how often the SDK tries; and that nothing is at the vendor where the line says so.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable

import acme
import pytest
from harness import Keybrake, fresh_key
from sdk import RETRIES, SDKS, Failure, Options
from sdk_scenes import SECRETS, STEPS, Scene
from sdk_table import Row, codes_of_the_contract, rows
from vendor_side import nothing_reaches_the_vendor, vendor_sees

from stack.build import Artifacts

# The only classes of the Python SDK that have the answer's code as their own.
PYTHON_WITH_CODE = ("CardError", "InvalidRequestError")

Stacks = Callable[[Mapping[str, Any]], Keybrake]


@pytest.fixture(scope="module")
def stacks(stacks_folder: Path, artifacts: Artifacts, envoy: Path) -> Iterator[Stacks]:
    """A stack per plugin configuration, with two vendors, a small limit on bodies and little patience."""
    made: dict[str, Keybrake] = {}

    def stack(changed: Mapping[str, Any]) -> Keybrake:
        name = json.dumps(changed, sort_keys=True)
        if name not in made:
            usual = {"in_flight_patience_ms": 100, "max_request_bytes": 65_536, "forward_timeout_ms": 20_000}
            plugin = {"vendors": acme.beside_stripe()["vendors"], **usual, **changed}
            folder = stacks_folder / f"sdk-refusals-{len(made)}"
            made[name] = Keybrake.start(folder, artifacts, envoy=envoy, plugin=plugin, vendor_packs=acme.PACKS)
        return made[name]

    yield stack
    for kb in made.values():
        kb.stop()


def scene_of(kb: Keybrake, row: Row) -> Scene:
    """The key that the row tells of, and what it draws from."""
    if row.budget is None:
        return Scene(kb, kb.issue(**row.grant), fresh_key("sdk"), None)
    name = fresh_key("budget")
    answer = kb.admin("POST", "/admin/budgets", json={"name": name, **row.budget})
    assert answer.status_code == 201, answer.text
    return Scene(kb, kb.issue(budget=name, daily_usd_cap=None, **row.grant), fresh_key("sdk"), name)


def requests_of_clients(kb: Keybrake, listener: str) -> int:
    """How many requests the listener has been sent."""
    return sum(kb.stack.envoy.stats(rf"^http\.{listener}\.downstream_rq_total$").values())


def raised(row: Row, scene: Scene, language: str) -> Failure:
    """What the SDK raises, made as its users make it, with its retries as they come."""
    params = dict(row.params)
    if row.padding:
        params["description"] = "x" * row.padding
    name = None if row.keyless else scene.name
    options = Options(idempotency_key=name, account=row.account, content_type=row.content_type)
    url = scene.kb.stripe_url if row.listener == "stripe" else scene.kb.url
    secret = SECRETS[row.secret]() if row.secret else scene.key.secret
    with SDKS[language](url, secret) as sdk:
        return sdk.failure(row.call, *row.ids, params=params, options=options)


@contextlib.contextmanager
def not_a_byte_sent(kb: Keybrake) -> Iterator[None]:
    """What Envoy says about a vendor that cannot be asked."""
    before = kb.stack.envoy.bytes_to_vendor()
    yield
    assert kb.stack.envoy.bytes_to_vendor() == before


def at_the_vendor(kb: Keybrake, row: Row) -> contextlib.AbstractContextManager[None]:
    """What the vendor has to see meanwhile."""
    if row.vendor is None:
        return not_a_byte_sent(kb)
    if row.vendor == (0, 0):
        return nothing_reaches_the_vendor(kb)
    return vendor_sees(kb, requests=row.vendor[0], executions=row.vendor[1])


def expect_told(row: Row, failure: Failure, language: str) -> None:
    """The exception is what the row says, and can be read."""
    assert (failure.kind, failure.status) == (row.raises, row.status), failure
    told = {"type": row.type, "code": row.shows, **row.error}
    assert {name: failure.error.get(name) for name in told if told[name] is not None} == {
        name: value for name, value in told.items() if value is not None
    }
    if language != "python" or row.raises in PYTHON_WITH_CODE:
        assert failure.code == row.shows, failure
    assert row.says in failure.message and failure.message in failure.shown, failure
    assert failure.message.isprintable() and len(failure.message) < 300, failure
    assert failure.headers.get("stripe-should-retry") == row.retry, failure
    # What is the vendor's own stays told apart from what is ours.
    assert failure.message.startswith("Keybrake: ") == (row.code is not None), failure
    assert failure.headers.get("keybrake-reason") == (row.shows if row.code is not None else None), failure
    assert "decline_code" not in failure.error or row.code is None, failure


# Those that the SDKs do not try again take no time.
ROWS = [pytest.param(row, id=str(row), marks=[pytest.mark.gate] if row.requests == 1 else []) for row in rows()]


@pytest.mark.parametrize("language", SDKS)
@pytest.mark.parametrize("row", ROWS)
def test_a_no_in_the_sdk(stacks: Stacks, row: Row, language: str) -> None:
    kb = stacks(row.plugin)
    scene = scene_of(kb, row)
    with contextlib.ExitStack() as around:
        for step in row.first:
            around.enter_context(STEPS[step](scene))
        if row.fault is not None:
            kb.fault(row.fault, times=None, idempotency_key=scene.name)
            around.callback(kb.clear_faults)
        before = requests_of_clients(kb, row.listener)
        with at_the_vendor(kb, row):
            failure = raised(row, scene, language)
        assert requests_of_clients(kb, row.listener) - before == row.requests
        expect_told(row, failure, language)


def test_every_refusal_of_the_contract_has_a_row() -> None:
    assert {row.code for row in rows()} - {None} == set(codes_of_the_contract())
    assert {row.requests for row in rows()} == {1, 1 + RETRIES}
