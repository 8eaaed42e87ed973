"""The proof at the start that the gate works: a gate that says no and lets the call pass all the same is found out."""

from __future__ import annotations

import re
from typing import Callable

import pytest
from harness import Keybrake

from stack import StackError

pytestmark = pytest.mark.gate


def says_no_and_passes(config: str) -> str:
    """The filter is off on the vendor's path, and whatever the vendor answers looks like our refusal."""
    off = (
        "typed_per_filter_config:\n"
        "                            keybrake:\n"
        '                              "@type": type.googleapis.com/envoy.config.route.v3.FilterConfig\n'
        "                              disabled: true\n"
        "                          response_headers_to_add:\n"
        "                            - header: {key: keybrake-reason, value: vault_key_invalid}\n"
        "                              append_action: OVERWRITE_IF_EXISTS_OR_ADD\n"
        "                          match: {prefix: /stripe/}\n"
    )
    changed, count = re.subn(r"match: \{prefix: /stripe/\}\n", off, config)
    assert count == 1
    return changed


def test_a_gate_that_says_no_and_lets_the_call_pass_is_no_gate(fresh: Callable[..., Keybrake]) -> None:
    with pytest.raises(StackError, match="has a gate that does not work") as refused:
        fresh(without=("rbac",), edit=says_no_and_passes)
    assert "went to the vendor" in refused.value.line
