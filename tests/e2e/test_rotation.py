"""Secrets are replaced while charges run: no restart, and not one request fails."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Callable

from harness import Keybrake, VaultKey, eventually, fresh_key

from stack.calls import call
from stack.run_folder import write_private

CLIENTS = 4
ROTATIONS = 4
# Rounds of each client: more than the one that it may be in.
AT_LEAST = 2


class Traffic:
    """Clients that charge and read without a pause."""

    def __init__(self, kb: Keybrake, key: VaultKey) -> None:
        self.kb = kb
        self.key = key
        self.statuses: Counter[int] = Counter()
        self.rounds = [0] * CLIENTS
        self._ended = threading.Event()
        self._lock = threading.Lock()

    def client(self, number: int) -> None:
        """One of them."""
        while not self._ended.is_set():
            answers = [self.kb.charge(self.key, 1), self.kb.get(self.key, "/v1/charges?limit=1")]
            with self._lock:
                self.statuses.update(answer.status_code for answer in answers)
                self.rounds[number] += 1

    def go_on(self) -> None:
        """Waits until every client has had some more answers, whatever they are: what was on its way is over then."""
        before = list(self.rounds)

        def all_went_on() -> bool:
            return all(now >= then + AT_LEAST for now, then in zip(self.rounds, before))

        eventually(all_went_on, 20, "more traffic")

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """For as long as the block."""
        threads = [threading.Thread(target=self.client, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            self.go_on()
            yield
            self.go_on()
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()


def traffic(kb: Keybrake) -> Traffic:
    """On a key of its own."""
    return Traffic(kb, kb.issue(allowed_endpoints=["POST /v1/charges", "GET /v1/charges"], daily_usd_cap=10_000))


def pids(kb: Keybrake) -> list[object]:
    """Of ledger and Envoy."""
    return [kb.stack.ledger.child.pid, kb.stack.envoy.child.pid]


def test_the_vendors_secret_is_replaced_without_a_restart_and_without_a_failed_request(
    fresh: Callable[..., Keybrake],
) -> None:
    kb = fresh()
    assert kb.stack.sandbox is not None
    old, new = kb.stack.vendor_secret, f"sk_test_sandbox_{secrets.token_hex(24)}"
    # The vendor takes both while the secret is rolled, as Stripe does.
    write_private(kb.stack.folder.key_file("sandbox"), f"{old}\n{new}\n")
    kb.stack.sandbox.restart()
    clients = traffic(kb)
    eventually(lambda: kb.get(clients.key, "/v1/charges").status_code == 200, 10, "the vendor is back")
    before = pids(kb)

    def seen(secret: str) -> bool:
        """Whether the last requests at the vendor all showed this secret."""
        last = [dict(entry["headers"])["authorization"]["sha256"] for entry in kb.vendor_requests()[-CLIENTS:]]
        return set(last) == {sha256(secret)}

    with clients.running():
        for secret in [new, old] * (ROTATIONS // 2):
            kb.stack.folder.write_secret("stripe_credential", f"Bearer {secret}")
            eventually(functools.partial(seen, secret), 10, "the vendor sees the other secret")
            clients.go_on()
    assert set(clients.statuses) == {200}, clients.statuses
    assert pids(kb) == before


def sha256(text: str) -> str:
    """In hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_internal_key_is_replaced_without_a_restart_and_without_a_failed_request(
    fresh: Callable[..., Keybrake],
) -> None:
    """The ledger's file first, then Envoy's: what comes in between is repeated by the filter."""
    kb = fresh()
    clients = traffic(kb)
    before = pids(kb)
    with clients.running():
        for _ in range(ROTATIONS):
            key, reads = f"kb_internal_{secrets.token_hex(24)}", read_again(kb)
            write_private(kb.stack.folder.key_file("internal"), key + "\n")
            kb.stack.folder.write_secret("internal_key", key)
            eventually(functools.partial(lambda reads: read_again(kb) > reads, reads), 10, "the ledger has the new key")
            clients.go_on()
    assert set(clients.statuses) == {200}, clients.statuses
    assert pids(kb) == before
    # The old one is no longer taken, and the change was felt: some batches were turned away and repeated.
    shown = call("GET", f"{kb.stack.ledger_url}/metrics").body.decode()
    assert 'keybrake_rejected_batches_total{status="401"}' in shown


def test_the_internal_key_is_replaced_without_one_batch_turned_away_while_old_and_new_both_count(
    fresh: Callable[..., Keybrake],
) -> None:
    """As many ledgers and Envoys are changed, which cannot be done at one moment."""
    kb = fresh()
    clients = traffic(kb)
    before = pids(kb)
    file = kb.stack.folder.key_file("internal")

    def put_into_the_ledger(text: str) -> None:
        reads = read_again(kb)
        write_private(file, text)
        eventually(lambda: read_again(kb) > reads, 10, "the ledger has read its file again")

    with clients.running():
        for _ in range(ROTATIONS):
            old, new = file.read_text().strip(), f"kb_internal_{secrets.token_hex(24)}"
            put_into_the_ledger(f"{new}\n{old}\n")
            clients.go_on()
            taken = taken_by_envoy(kb)
            kb.stack.folder.write_secret("internal_key", new)
            eventually(functools.partial(lambda taken: taken_by_envoy(kb) > taken, taken), 10, "Envoy has the new key")
            clients.go_on()
            put_into_the_ledger(new + "\n")
            clients.go_on()
    assert set(clients.statuses) == {200}, clients.statuses
    assert pids(kb) == before
    assert 'status="401"' not in call("GET", f"{kb.stack.ledger_url}/metrics").body.decode()


def read_again(kb: Keybrake) -> int:
    """How often the ledger says that its credentials have changed."""
    return kb.stack.ledger.child.log_file.read_text().count("credentials were read again and have changed")


def taken_by_envoy(kb: Keybrake) -> int:
    """How often Envoy has taken an internal key."""
    lines = (
        call("GET", f"{kb.stack.envoy.admin_url}/stats?filter=internal_key.*update_success").body.decode().splitlines()
    )
    assert lines, "Envoy counts it"
    return sum(int(line.rpartition(": ")[2]) for line in lines)


def answers(kb: Keybrake, path: str, key: str, status: int) -> bool:
    """Whether the ledger's API answers so."""
    return kb.http.get(kb.url + path, headers={"Authorization": f"Bearer {key}"}).status_code == status


def test_admin_and_audit_keys_are_replaced_without_a_restart(fresh: Callable[..., Keybrake]) -> None:
    kb = fresh()
    before = pids(kb)
    for name, path in (("admin", "/admin/vault_keys"), ("audit", "/audit")):
        old = getattr(kb.stack, f"{name}_key")
        new = f"kb_{name}_{secrets.token_hex(24)}"
        write_private(kb.stack.folder.key_file(name), new + "\n")

        eventually(functools.partial(answers, kb, path, new, 200), 5, "the new key counts")
        assert answers(kb, path, old, 401)
        write_private(kb.stack.folder.key_file(name), f"{new}\n{old}\n")
        eventually(functools.partial(answers, kb, path, old, 200), 5, "both keys count")
        assert answers(kb, path, new, 200)
    assert pids(kb) == before
    assert kb.charge(kb.issue(), 100, idempotency_key=fresh_key()).status_code == 200
