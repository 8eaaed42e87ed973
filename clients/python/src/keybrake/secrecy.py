"""Keeping secrets out of whatever is written down by itself: pickles, copies, artifacts of a flow."""

from __future__ import annotations

from typing import NoReturn, SupportsIndex

__all__ = ["NotPickled"]


class NotPickled:
    """Cannot be pickled. (Metaflow pickles everything that a step puts on `self`, and keeps it for ever.)"""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} holds a secret and is not pickled: keep it in a variable, not in an artifact"
        )
