"""The main job, once, with plain calls: what a user sees at the first `make run`.

Every step checks what it claims, at the vault key's holder, in the ledger and at the vendor; a step that does not
hold ends the demo.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable, Optional, Protocol

from stack.calls import Answer, NoAnswer, call

CAP_USD = 10.99
CHARGE_CENTS = 299
OVER_CAP_CENTS = 900


class StepFailed(Exception):
    """What was expected and what came."""


@dataclass(frozen=True)
class Step:
    """A line of the demo."""

    what: str
    proves: str


class Controlled(Protocol):
    """A sandbox vendor that can be asked what it received."""

    @property
    def control_url(self) -> str:
        """Its control API."""


class Reached(Protocol):
    """A running gate, wherever it runs."""

    @property
    def url(self) -> str:
        """Envoy's egress listener."""

    @property
    def admin_key(self) -> str:
        """May issue and revoke."""

    @property
    def audit_key(self) -> str:
        """May read the audit."""

    @property
    def sandbox(self) -> Optional[Controlled]:
        """None: the vendor cannot be asked."""


def run(stack: Reached, tell: Callable[[Step], None]) -> None:
    """Runs the demo and tells each step once it holds. Raises `StepFailed`."""
    try:
        Demo(stack, tell).run()
    except (NoAnswer, KeyError, TypeError, IndexError) as error:
        raise StepFailed(f"an answer that cannot be read: {error!r}") from error


class Demo:
    """One run of the demo; each has its own vault key and its own idempotency keys."""

    def __init__(self, stack: Reached, tell: Callable[[Step], None]) -> None:
        self.stack = stack
        self.tell = tell
        self.run_id = secrets.token_hex(4)
        self.idempotency_key = f"demo-{self.run_id}-1"
        self.over_cap_key = f"demo-{self.run_id}-2"
        self.vault_key = ""
        self.key_id = ""

    def run(self) -> None:
        """The steps, in order."""
        self.issue()
        charge_id = self.charge()
        self.repeat(charge_id)
        self.refund(charge_id)
        self.over_cap()
        self.audit(charge_id)

    def issue(self) -> None:
        """Issues the key that a batch job would get."""
        wanted = {
            "label": f"demo-{self.run_id}",
            "vendor": "stripe",
            "allowed_endpoints": ["POST /v1/charges"],
            "daily_usd_cap": CAP_USD,
            "expires_in_seconds": 7200,
        }
        answer = call("POST", f"{self.stack.url}/admin/vault_keys", bearer=self.stack.admin_key, json_body=wanted)
        expect("issue a key", answer, 201)
        self.vault_key, self.key_id = answer.json()["vault_key"], answer.json()["key_id"]
        self.tell(
            Step(
                f"key issued: {self.key_id}",
                f"may POST /v1/charges for at most ${CAP_USD} a day; knows no Stripe secret",
            )
        )

    def charge(self) -> str:
        """The first charge."""
        answer = self._post_charge(CHARGE_CENTS, self.idempotency_key)
        expect("charge", answer, 200)
        charge_id = str(answer.json()["id"])
        require(charge_id.startswith("ch_"), f"the charge's id begins with ch_, not {charge_id!r}")
        require(self.settled() == "2.990000", f"$2.99 is settled, not {self.settled()}")
        self._expect_at_vendor(self.idempotency_key, requests=1, executions=1)
        self.tell(
            Step(f"charge 200: {charge_id}", "the vendor executed it once, with a secret that the caller never saw")
        )
        return charge_id

    def repeat(self, charge_id: str) -> None:
        """The same business action again, as a retry or a resumed run sends it."""
        answer = self._post_charge(CHARGE_CENTS, self.idempotency_key)
        expect("the same again", answer, 200)
        require(answer.json()["id"] == charge_id, f"the same id comes back, not {answer.json()['id']!r}")
        require(answer.headers.get("idempotent-replayed") == "true", "the answer says idempotent-replayed: true")
        require(self.settled() == "2.990000", f"nothing more is debited: $2.99, not {self.settled()}")
        self._expect_at_vendor(self.idempotency_key, requests=1, executions=1)
        self.tell(
            Step(
                f"same idempotency key again 200: {charge_id}, replayed",
                "no second debit, no second request at the vendor",
            )
        )

    def refund(self, charge_id: str) -> None:
        """What the key may not do."""
        answer = self._post("/v1/refunds", {"charge": charge_id}, f"demo-{self.run_id}-3")
        expect("refund", answer, 403, "endpoint_not_allowed")
        self._expect_at_vendor(f"demo-{self.run_id}-3", requests=0, executions=0)
        self.tell(
            Step(
                "refund 403: endpoint_not_allowed",
                "a key does what its grant names and nothing else; the vendor heard nothing",
            )
        )

    def over_cap(self) -> None:
        """More than the cap has left."""
        answer = self._post_charge(OVER_CAP_CENTS, self.over_cap_key)
        expect("a charge over the cap", answer, 402, "spend_cap_exceeded")
        require(self.settled() == "2.990000", f"nothing more is debited: $2.99, not {self.settled()}")
        self._expect_at_vendor(self.over_cap_key, requests=0, executions=0)
        self.tell(
            Step(
                "charge of $9.00 402: spend_cap_exceeded",
                f"$2.99 + $9.00 is more than ${CAP_USD}; the vendor heard nothing",
            )
        )

    def audit(self, charge_id: str) -> None:
        """All of it can be read."""
        entries = self._audit({"key_id": self.key_id})
        seen = sorted((entry["operation"] or entry["path"], entry["verdict"], entry["reason"]) for entry in entries)
        require(len(entries) == 3, f"three entries, not {seen}")
        by_reason = {entry["reason"]: entry for entry in entries}
        for reason in ("endpoint_not_allowed", "spend_cap_exceeded"):
            require(
                by_reason[reason]["verdict"] == "refused", f"{reason} is a refusal, not {by_reason[reason]['verdict']}"
            )
        paid = self._audit({"idempotency_key": self.idempotency_key})[0]
        require(paid["stripe_charge_id"] == charge_id, f"the audit names {charge_id}, not {paid['stripe_charge_id']!r}")
        require(
            (paid["outcome"], paid["cost_usd"], paid["replays"]) == ("settled", "2.990000", 1),
            f"settled, $2.99, one replay, not {paid}",
        )
        self.tell(Step("audit: 1 charge with 1 replay, 2 refusals", "who did what, for how much, and what was refused"))

    def settled(self) -> str:
        """What the key's daily cap has settled, in US dollars."""
        answer = call("GET", f"{self.stack.url}/admin/vault_keys/{self.key_id}", bearer=self.stack.admin_key)
        expect("the key's balance", answer, 200)
        return str(
            next(balance for balance in answer.json()["balances"] if balance["window"].startswith("day:"))["settled"]
        )

    def _audit(self, filters: Mapping[str, str]) -> list[dict[str, Any]]:
        query = "&".join(f"{name}={value}" for name, value in filters.items())
        answer = call("GET", f"{self.stack.url}/audit?{query}", bearer=self.stack.audit_key)
        expect("audit", answer, 200)
        entries: list[dict[str, Any]] = answer.json()["entries"]
        return entries

    def _post_charge(self, cents: int, idempotency_key: str) -> Answer:
        # `tok_visa` is Stripe's own test card.
        return self._post("/v1/charges", {"amount": cents, "currency": "usd", "source": "tok_visa"}, idempotency_key)

    def _post(self, path: str, form: Mapping[str, object], idempotency_key: str) -> Answer:
        headers = {"Idempotency-Key": idempotency_key, "X-Agent-Run-Id": f"demo-{self.run_id}"}
        return call(
            "POST", f"{self.stack.url}/stripe{path}", bearer=self.vault_key, headers=headers, form=form, timeout_s=60
        )

    def _expect_at_vendor(self, idempotency_key: str, *, requests: int, executions: int) -> None:
        """Only the sandbox can be asked what it received."""
        if self.stack.sandbox is None:
            return
        counts = call("GET", f"{self.stack.sandbox.control_url}/counts").json()
        seen = counts["by_key"].get(idempotency_key, {"requests": 0, "executions": 0})
        wanted = {"requests": requests, "executions": executions}
        require(seen == wanted, f"the vendor has seen {wanted} under {idempotency_key}, not {seen}")


def expect(what: str, answer: Answer, status: int, reason: Optional[str] = None) -> None:
    """Raises `StepFailed` unless the answer has this status and this reason."""
    came = answer.headers.get("keybrake-reason")
    if answer.status != status or came != reason:
        wanted = f"{status} {reason or ''}".strip()
        body = answer.body[:300].decode(errors="replace")
        raise StepFailed(f"{what}: {wanted} expected, {answer.status} {came or ''} came: {body}")


def require(holds: bool, what: str) -> None:
    """Raises `StepFailed` unless it holds."""
    if not holds:
        raise StepFailed(f"expected: {what}")
