"""`deploy/compose/drain`, which Kubernetes calls before it ends a pod of Envoy."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from harness import Keybrake, fresh_key
from vendor_side import arrives_at_the_vendor

from stack.build import ROOT

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
