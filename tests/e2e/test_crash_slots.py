"""After thousands of requests of every kind, hung-up ones among them, no slot, no hold and no memory is left behind."""

from __future__ import annotations

import os
import random
import socket
import threading
import urllib.parse
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Callable

import httpx
from crash import (
    PATIENCE_S,
    executed_cents,
    expect_at_vendor,
    expect_parts,
    expect_unavailable,
    issue,
    no_open_requests,
    timed,
)
from harness import CLIENT_TIMEOUT_S, Keybrake, VaultKey, eventually, fresh_key
from ledger_side import expect_whole_chain
from vendor_side import nothing_reaches_the_vendor

ROUNDS = 2
CLIENTS = 8
REQUESTS_EACH = 125
# One round's worth of whatever a process keeps for good must be less than this.
GROWTH_BYTES = 24 * 1024 * 1024

FORM = "application/x-www-form-urlencoded"


class Client:
    """One client with its own connection, and its own sequence of requests from the seed."""

    def __init__(self, kb: Keybrake, keys: tuple[VaultKey, VaultKey], seed: str) -> None:
        self.kb = kb
        self.rich, self.poor = keys
        self.random = random.Random(seed)
        self.http = httpx.Client(base_url=f"{kb.url}/stripe", timeout=CLIENT_TIMEOUT_S, trust_env=False)
        self.names = [fresh_key("mixed")]
        self.seen: Counter[str] = Counter()
        self.kinds: list[Callable[[], None]] = [
            self.charge,
            self.charge,
            self.repeat,
            self.slow,
            self.over_cap,
            self.refund,
            self.read,
            self.unreadable,
            self.without_idempotency_key,
            self.unknown_key,
            self.hang_up,
            self.hang_up,
        ]

    def run(self) -> Counter[str]:
        """All its requests; what came of them."""
        with self.http:
            for _ in range(REQUESTS_EACH):
                self.random.choice(self.kinds)()
        return self.seen

    def _post(self, expected: int, key: str, path: str, name: str | None, form: dict[str, object] | str) -> None:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": FORM}
        if name:
            headers["Idempotency-Key"] = name
        content = form if isinstance(form, str) else urllib.parse.urlencode(form)
        answer = self.http.post(path, headers=headers, content=content)
        assert answer.status_code == expected, (expected, answer.status_code, answer.text)
        self.seen[str(expected)] += 1

    def charge(self) -> None:
        """A new charge."""
        self.names.append(fresh_key("mixed"))
        self._post(200, self.rich.secret, "/v1/charges", self.names[-1], {"amount": 7, "currency": "usd"})

    def repeat(self) -> None:
        """One of its own again; the first time, one that is new."""
        form: dict[str, object] = {"amount": 7, "currency": "usd"}
        self._post(200, self.rich.secret, "/v1/charges", self.random.choice(self.names), form)

    def slow(self) -> None:
        """A charge that the vendor takes its time for."""
        form: dict[str, object] = {"amount": 3, "currency": "usd", "description": "slow"}
        self._post(200, self.rich.secret, "/v1/charges", fresh_key("slow"), form)

    def over_cap(self) -> None:
        """More than the key has."""
        form: dict[str, object] = {"amount": 101, "currency": "usd"}
        self._post(402, self.poor.secret, "/v1/charges", fresh_key("over"), form)

    def refund(self) -> None:
        """What the key may not do."""
        self._post(403, self.rich.secret, "/v1/refunds", fresh_key("refund"), {"charge": "ch_1"})

    def unreadable(self) -> None:
        """An amount that is none."""
        self._post(400, self.rich.secret, "/v1/charges", fresh_key("bad"), "amount=7&amount=8&currency=usd")

    def without_idempotency_key(self) -> None:
        """Which the key wants."""
        self._post(400, self.rich.secret, "/v1/charges", None, {"amount": 7, "currency": "usd"})

    def unknown_key(self) -> None:
        """Something that is no vault key."""
        self._post(401, "vault_key_nobody", "/v1/charges", fresh_key("who"), {"amount": 7, "currency": "usd"})

    def read(self) -> None:
        """A list."""
        answer = self.http.get("/v1/charges?limit=1", headers={"Authorization": f"Bearer {self.rich.secret}"})
        assert answer.status_code == 200, answer.text
        self.seen["200"] += 1

    def hang_up(self) -> None:
        """A charge or a read whose client goes away after some bytes, or after some milliseconds."""
        body = "amount=5&currency=usd" + self.random.choice(["", "&description=slow"])
        method, path = self.random.choice([("POST", "/v1/charges"), ("GET", "/v1/charges?limit=1")])
        lines = [f"{method} /stripe{path} HTTP/1.1", "Host: keybrake", f"Authorization: Bearer {self.rich.secret}"]
        if method == "POST":
            lines += [f"Idempotency-Key: {fresh_key('hung')}", f"Content-Type: {FORM}", f"Content-Length: {len(body)}"]
        request = ("\r\n".join(lines) + "\r\n\r\n" + (body if method == "POST" else "")).encode()
        sent = self.random.choice([len(request)] * 3 + [self.random.randrange(len(request))])
        with socket.create_connection(("127.0.0.1", self.kb.stack.envoy.ports.envoy), CLIENT_TIMEOUT_S) as connection:
            connection.sendall(request[:sent])
            connection.settimeout(self.random.choice([0.000_1, 0.002, 0.02]))
            try:
                connection.recv(1)
            except TimeoutError:
                self.seen["hung up"] += 1


def resident_bytes(pid: int) -> int:
    """What the process has in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_2000_mixed_requests_leave_no_slot_no_hold_and_no_memory_behind(fresh: Callable[..., Keybrake]) -> None:
    kb, seed = fresh(), fresh_key("seed")
    print(f"seed: {seed}")
    kb.fault({"kind": "delay", "delay_ms": 40}, times=None, body_contains="slow")
    endpoints = ["POST /v1/charges", "GET /v1/charges"]
    keys = issue(kb, "1000.00", allowed_endpoints=endpoints), issue(kb, "1.00", allowed_endpoints=endpoints)
    envoy_pid = kb.stack.envoy.child.pid
    assert envoy_pid is not None
    resident, seen = [], Counter[str]()
    for number in range(ROUNDS):
        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [Client(kb, keys, f"{seed}-{number}-{client}") for client in range(CLIENTS)]
            for each in [pool.submit(client.run) for client in clients]:
                seen += each.result()
        no_open_requests(kb)
        resident.append(resident_bytes(envoy_pid))

    assert threading.active_count() < CLIENTS
    assert {"200", "400", "401", "402", "403", "hung up"} == set(seen), seen
    assert resident[-1] - resident[0] < GROWTH_BYTES, resident
    rich, poor = (kb.balance(key, "lifetime") for key in keys)
    assert {rich.held, rich.unknown, poor.held, poor.unknown, poor.settled} == {Decimal(0)}
    assert rich.settled * 100 == executed_cents(kb)
    open_entries = [entry for outcome in ("in_flight", "held", "unknown") for entry in kb.audit(outcome=outcome)]
    assert open_entries == []
    assert max(counted["executions"] for counted in kb.counts()["by_key"].values()) == 1
    expect_whole_chain(kb)


def test_a_request_without_a_slot_is_turned_away_at_once(fresh: Callable[..., Keybrake]) -> None:
    kb, slots = fresh(plugin={"max_open_requests": 3}, workers=1), 3
    key, flight, late = issue(kb, "20.00"), fresh_key("slots"), fresh_key("late")
    kb.fault({"kind": "delay", "delay_ms": 1_500}, times=slots, idempotency_key=f"{flight}-*")
    with ThreadPoolExecutor(slots) as clients:
        begun = [clients.submit(kb.charge, key, 299, idempotency_key=f"{flight}-{number}") for number in range(slots)]
        eventually(lambda: len(kb.vendor_requests()) == slots, PATIENCE_S, "all slots at the vendor")
        with nothing_reaches_the_vendor(kb):
            answer, seconds = timed(kb.charge, key, 299, idempotency_key=late)
            expect_unavailable(answer)
            assert seconds < 1, "it waited for a slot"
            assert kb.audit(idempotency_key=late) == []
        assert {each.result().status_code for each in begun} == {200}
    no_open_requests(kb)
    assert kb.charge(key, 299, idempotency_key=late).status_code == 200
    expect_at_vendor(kb, late, requests=1, executions=1)
    expect_parts(kb, key, free="8.04", settled="11.96")
