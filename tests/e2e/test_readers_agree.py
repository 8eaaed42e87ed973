"""What the filter accepts, other readers read alike; `tests/fuzz` says how. `make fuzz` is the longer run."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import differential
import pytest
from readers import Readers, readers

BODIES = 20_000


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Readers]:
    """The three readers."""
    with readers(tmp_path_factory.mktemp("readers")) as started:
        yield started


@pytest.mark.parametrize("seed", [1, secrets.randbits(32)], ids=["always the same", "new"])
def test_what_the_filter_accepts_others_read_alike(tried: Readers, seed: int) -> None:
    seen = differential.run(tried, seed, differential.corpus(), BODIES // 2)
    assert seen.disagreement is None, differential.report(tried, seen)
    assert seen.accepted > seen.executions / 10, f"seed {seed}: hardly anything is accepted: {seen.accepted}"
