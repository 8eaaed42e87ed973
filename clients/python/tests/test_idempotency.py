"""The idempotency key is made from what is bought, and from nothing else."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
from keybrake import idempotency_key


def test_it_is_the_same_in_every_attempt_and_process() -> None:
    here = idempotency_key("cus_aaa", 2999, "2026-07")
    assert here == idempotency_key("cus_aaa", 2999, "2026-07")
    code = "import keybrake; print(keybrake.idempotency_key('cus_aaa', 2999, '2026-07'))"
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert elsewhere.stdout.strip() == here


def test_its_format_is_the_documented_one() -> None:
    digest = hashlib.sha256(b"7:cus_aaa4:29997:2026-07").hexdigest()
    assert idempotency_key("cus_aaa", 2999, "2026-07") == f"kbc1_{digest}"
    assert idempotency_key("ü") == "kbc1_" + hashlib.sha256("2:ü".encode()).hexdigest()


def test_it_differs_by_every_part_and_by_where_a_part_ends() -> None:
    keys = [
        idempotency_key("cus_aaa", 2999, "2026-07"),
        idempotency_key("cus_bbb", 2999, "2026-07"),
        idempotency_key("cus_aaa", 2998, "2026-07"),
        idempotency_key("cus_aaa", 2999, "2026-08"),
        idempotency_key("cus_aaa", 2999, "2026-07", "seats"),
        idempotency_key("2026-07", 2999, "cus_aaa"),
        idempotency_key("cus_aaa2", 999, "2026-07"),
        idempotency_key("cus_aaa:2999:2026-07"),
        idempotency_key("7:cus_aaa", 2999, "2026-07"),
    ]
    assert len(set(keys)) == len(keys)


def test_a_number_from_a_file_and_a_number_from_code_are_one_purchase() -> None:
    class Column:
        """An integer as data frames have them."""

        def __index__(self) -> int:
            return 999

    assert idempotency_key("cus_aaa", 999) == idempotency_key("cus_aaa", "999") == idempotency_key("cus_aaa", Column())


@pytest.mark.parametrize("part", [9.99, True, None, Decimal("9.99"), b"cus_aaa", ["cus_aaa"]])
def test_what_has_more_than_one_spelling_is_refused(part: Any) -> None:
    with pytest.raises(TypeError, match="part 2"):
        idempotency_key("cus_aaa", part)


@pytest.mark.parametrize("parts", [(), ("",), ("cus_aaa", " "), ("\n", 999)])
def test_what_would_be_everybodys_key_is_refused(parts: Any) -> None:
    with pytest.raises(ValueError, match="part"):
        idempotency_key(*parts)
