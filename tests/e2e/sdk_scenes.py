"""How the refusals of `sdk/refusals.jsonl` come about: what stands in a vault key's place, and what happens before."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Callable, Optional

from harness import Keybrake, VaultKey, eventually
from shape import expect_refusal
from vendor_side import arrives_at_the_vendor

from stack.envoy_node import unissued_vault_key

# Longer than an SDK takes for its retries, shorter than the stack waits for the vendor.
RUNNING_MS = 6000


@dataclasses.dataclass(frozen=True)
class Scene:
    """What a step works on."""

    kb: Keybrake
    key: VaultKey
    name: str
    """The idempotency key that the SDK will send."""
    budget: Optional[str]

    def charged(self, cents: int, idempotency_key: Optional[str] = None) -> None:
        """A charge that goes through."""
        answer = self.kb.charge(self.key, cents, idempotency_key=idempotency_key)
        assert answer.status_code == 200, answer.text

    def budget_becomes(self, state: str) -> None:
        """Freezes, opens or closes the budget."""
        answer = self.kb.admin("PATCH", f"/admin/budgets/{self.budget}", json={"state": state})
        assert answer.status_code == 200, answer.text

    def lost(self) -> None:
        """A charge of the SDK's whose answer never came."""
        self.kb.fault({"kind": "reset_before_answer"}, idempotency_key=self.name)
        lost = self.kb.charge(self.key, 299, idempotency_key=self.name)
        expect_refusal(lost, 502, "outcome_unknown", kind="api_error", retry="true")

    def refused(self) -> None:
        """A refusal of something else."""
        expect_refusal(self.kb.post(self.key, "/v1/refunds", {"charge": "ch_1"}), 403, "endpoint_not_allowed")


@contextlib.contextmanager
def running(scene: Scene) -> Iterator[None]:
    """The same charge is at the vendor meanwhile, and goes through in the end."""
    kb = scene.kb
    kb.fault({"kind": "delay", "delay_ms": RUNNING_MS}, idempotency_key=scene.name)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(kb.charge, scene.key, 299, idempotency_key=scene.name)
        arrives_at_the_vendor(kb, scene.name)
        yield
        assert not first.done(), "it was not running all the time"
        assert first.result().status_code == 200
    assert kb.executions(scene.name) == 1


@contextlib.contextmanager
def no_ledger(scene: Scene) -> Iterator[None]:
    """The ledger has ended meanwhile."""
    scene.kb.stack.ledger.stop()
    try:
        yield
    finally:
        scene.kb.stack.ledger.start()
        _works_again(scene)


@contextlib.contextmanager
def no_vendor(scene: Scene) -> Iterator[None]:
    """Nobody listens where the vendor was, meanwhile."""
    assert scene.kb.stack.sandbox is not None
    scene.kb.stack.sandbox.stop()
    try:
        yield
    finally:
        scene.kb.stack.sandbox.start()
        _works_again(scene)


def _works_again(scene: Scene) -> None:
    """The refused charge goes through, once: nothing of it had been done."""
    again = lambda: scene.kb.charge(scene.key, 299, idempotency_key=scene.name).status_code == 200  # noqa: E731
    eventually(again, 10, "the charge that was refused")
    assert scene.kb.executions(scene.name) == 1


def at_once(step: Callable[[Scene], None]) -> Callable[[Scene], AbstractContextManager[None]]:
    """A step that is over when it is done."""

    def taken(scene: Scene) -> AbstractContextManager[None]:
        step(scene)
        return contextlib.nullcontext()

    return taken


STEPS: Mapping[str, Callable[[Scene], AbstractContextManager[None]]] = {
    "a_minute_later": at_once(lambda scene: scene.kb.advance(seconds=61)),
    "a_day_later": at_once(lambda scene: scene.kb.advance(hours=24)),
    "revoked": at_once(lambda scene: scene.kb.revoke(scene.key)),
    "frozen": at_once(lambda scene: scene.budget_becomes("frozen")),
    "closed": at_once(lambda scene: scene.budget_becomes("closed")),
    "refused": at_once(Scene.refused),
    "charged": at_once(lambda scene: scene.charged(100)),
    "charged_under_this_name": at_once(lambda scene: scene.charged(100, scene.name)),
    "bought": at_once(lambda scene: scene.charged(299)),
    "lost": at_once(Scene.lost),
    "running": running,
    "no_ledger": no_ledger,
    "no_vendor": no_vendor,
}

SECRETS: Mapping[str, Callable[[], str]] = {
    "unissued": unissued_vault_key,
    "malformed": lambda: "sk_test_" + "0" * 24,
}
