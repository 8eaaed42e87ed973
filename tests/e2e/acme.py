"""A second vendor, Acme: like Stripe, but its bodies are JSON, and its one endpoint costs money."""

from __future__ import annotations

import json
from typing import Any

from stack.build import ROOT
from stack.envoy_config import plugin_configuration


def pack() -> dict[str, Any]:
    """Its vendor pack."""
    made: dict[str, Any] = json.loads((ROOT / "vendors" / "stripe.json").read_text())
    made.update(vendor="acme", hosts=["api.acme.test"], path={"roots": {"v2": "json"}, "segment_extra": "_"})
    cost = {"amount": "amount", "currency": "currency"}
    pay = {"operation": "payments.create", "endpoint": "POST /v2/payments", "class": "money", "cost": cost}
    made["endpoints"] = [{**pay, "answer": "charge"}]
    made.pop("evidence")
    return made


def beside_stripe() -> dict[str, Any]:
    """The plugin configuration as shipped, with Acme under the prefix `/acme`. Both vendors are one cluster."""
    plugin = plugin_configuration({})
    plugin["vendors"].append({"pack": pack(), "cluster": "stripe", "prefix": "/acme"})
    return plugin
