"""A second vendor, Acme, that only the files in `tests/packs` know. The sandbox serves its API: payouts, in JSON."""

from __future__ import annotations

import json
from typing import Any

from stack.build import ROOT
from stack.envoy_config import plugin_configuration

# A folder as `keybrake serve --vendors` takes it.
PACKS = ROOT / "tests" / "packs"
GOLDEN = PACKS / "golden" / "acme"


def pack() -> dict[str, Any]:
    """Its vendor pack."""
    made: dict[str, Any] = json.loads((PACKS / "acme.json").read_text())
    return made


def beside_stripe() -> dict[str, Any]:
    """The plugin configuration as shipped, with Acme under the prefix `/acme`. Both vendors are one cluster."""
    plugin = plugin_configuration({})
    plugin["vendors"].append({"pack": pack(), "cluster": "stripe", "prefix": "/acme"})
    return plugin
