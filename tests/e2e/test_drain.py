"""`deploy/compose/drain`, which Kubernetes calls before it ends a pod of Envoy."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from harness import Keybrake, fresh_key
from vendor_side import arrives_at_the_vendor

from stack.build import ROOT
from stack.ports import free_ports

DRAIN = ROOT / "deploy" / "compose" / "drain"
VENDOR_TAKES_S = 5.0


def test_it_waits_for_a_charge_that_runs_and_takes_no_new_one(fresh: Callable[..., Keybrake]) -> None:
    kb = fresh()
    key, name = kb.issue(), fresh_key()
    kb.fault({"kind": "delay", "delay_ms": int(VENDOR_TAKES_S * 1000)}, idempotency_key=name)
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        running = pool.submit(kb.charge, key, 299, idempotency_key=name)
        arrives_at_the_vendor(kb, name)
        port = kb.stack.options.ports.envoy_admin
        subprocess.run([DRAIN, str(port), "60"], check=True, timeout=70)
        took = time.monotonic() - began
        assert running.result().status_code == 200
    assert VENDOR_TAKES_S <= took < 30, took
    with pytest.raises(httpx.ConnectError):
        httpx.post(f"{kb.url}/stripe/v1/charges", trust_env=False)


@contextlib.contextmanager
def silent_once(admin: str, method: str) -> Iterator[int]:
    """The port of a way to Envoy's admin that gives no answer to the first request of this method."""
    asked = itertools.count()

    class Way(http.server.BaseHTTPRequestHandler):
        """Passes on what it is asked."""

        def do_POST(self) -> None:
            self.pass_on()

        def do_GET(self) -> None:
            self.pass_on()

        def pass_on(self) -> None:
            if self.command == method and next(asked) == 0:
                return
            answer = httpx.request(self.command, f"{admin}{self.path}", trust_env=False)
            self.send_response(answer.status_code)
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Way) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()
    assert next(asked) > 0


def test_figures_that_nobody_tells_are_not_taken_for_none(fresh: Callable[..., Keybrake]) -> None:
    kb = fresh()
    key, name = kb.issue(), fresh_key()
    kb.fault({"kind": "delay", "delay_ms": int(VENDOR_TAKES_S * 1000)}, idempotency_key=name)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(kb.charge, key, 299, idempotency_key=name)
        arrives_at_the_vendor(kb, name)
        with silent_once(f"http://127.0.0.1:{kb.stack.options.ports.envoy_admin}", "GET") as port:
            subprocess.run([DRAIN, str(port), "60"], check=True, timeout=70)
        # A little is between the vendor's answer and the client's; the drain waited for both.
        assert running.result(timeout=0.5).status_code == 200


def test_it_gives_up_in_time(fresh: Callable[..., Keybrake]) -> None:
    kb = fresh()
    key, name = kb.issue(), fresh_key()
    kb.fault({"kind": "delay", "delay_ms": 12_000}, idempotency_key=name)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(kb.charge, key, 299, idempotency_key=name)
        arrives_at_the_vendor(kb, name)
        began = time.monotonic()
        subprocess.run([DRAIN, str(kb.stack.options.ports.envoy_admin), "3"], check=True, timeout=60)
        assert 2 <= time.monotonic() - began < 9
        assert not running.done()
        assert running.result().status_code == 200


def test_listeners_are_asked_to_close_until_they_do(fresh: Callable[..., Keybrake]) -> None:
    kb = fresh()
    with silent_once(f"http://127.0.0.1:{kb.stack.options.ports.envoy_admin}", "POST") as port:
        subprocess.run([DRAIN, str(port), "60"], check=True, timeout=70)
    with pytest.raises(httpx.ConnectError):
        httpx.post(f"{kb.url}/stripe/v1/charges", trust_env=False)


def test_an_envoy_that_is_not_there_is_not_drained() -> None:
    (port,) = free_ports(1)
    assert subprocess.run([DRAIN, str(port), "2"], check=False, timeout=30).returncode == 1


def test_an_envoy_that_answers_nothing_holds_nobody_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert subprocess.run([DRAIN, str(port), "2"], check=False, timeout=30).returncode == 1
