"""SIGINT, SIGTERM and SIGHUP as an exception, but never between the start of a program and the note of its pid."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Optional

# A closed terminal (SIGHUP) must not leave a stack behind either.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """One of `SIGNALS` came."""


class _State:
    """Signals are the program's, so this is too."""

    held = False
    came = False


@contextmanager
def signals_raise() -> Iterator[None]:
    """While this is entered, `SIGNALS` raise `Interrupted` in the main thread."""
    before = [signal.signal(sent, _raise) for sent in SIGNALS]
    try:
        yield
    finally:
        for sent, handler in zip(SIGNALS, before):
            signal.signal(sent, handler)


@contextmanager
def signals_held() -> Iterator[None]:
    """While this is entered, `Interrupted` waits; it is raised at the end."""
    _State.held, _State.came = True, False
    try:
        yield
    finally:
        _State.held = False
    if _State.came:
        raise Interrupted


def _raise(_sent: int, _frame: Optional[FrameType]) -> None:
    if _State.held:
        _State.came = True
        return
    raise Interrupted
