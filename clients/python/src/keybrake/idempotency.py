"""The idempotency key of one business action, made from what the action is."""

from __future__ import annotations

import hashlib
import operator
from typing import SupportsIndex, Union

__all__ = ["idempotency_key"]

PREFIX = "kbc1_"


def idempotency_key(*parts: Union[str, SupportsIndex]) -> str:
    """The key of an action that is named by these parts: customer, amount in the smallest unit, period, purpose.

    The same parts give the same key in every attempt, run and process. Any other part, or the same in another order,
    gives another one. Take nothing that differs between two attempts at one action: no run id, attempt or time.

    Format, for those who compute it elsewhere: `kbc1_` and the SHA-256, in lower-case hex, of all parts. A part is its
    text as UTF-8, before it the number of its bytes (decimal) and a colon. A whole number is its decimal digits, so
    that 999 from one source and "999" from another are one purchase.

    Raises `TypeError` for floats, booleans and everything else that is neither text nor a whole number, `ValueError`
    for no parts, or a part that is empty or blank: a customer that was not found must not get everybody's key.
    """
    if not parts:
        raise ValueError("an idempotency key needs at least one part")
    digest = hashlib.sha256()
    for place, part in enumerate(parts, start=1):
        text = _text(place, part).encode("utf-8")
        digest.update(b"%d:%b" % (len(text), text))
    return PREFIX + digest.hexdigest()


def _text(place: int, part: Union[str, SupportsIndex]) -> str:
    if isinstance(part, str):
        if not part.strip():
            raise ValueError(f"part {place} of the idempotency key is empty")
        return part
    if isinstance(part, bool) or not hasattr(part, "__index__"):
        raise TypeError(
            f"part {place} of the idempotency key is of type {type(part).__name__}: only text and whole numbers have "
            "one spelling; give an amount in the currency's smallest unit"
        )
    return str(operator.index(part))
