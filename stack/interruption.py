"""SIGINT, SIGTERM and SIGHUP as an exception, but never between the start of a program and the note of its pid."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Callable, Optional

# A closed terminal (SIGHUP) must not leave a stack behind either.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """One of `SIGNALS` came."""


class _State:
    """Signals are the program's, so this is too."""

    held = False
    came = False


def signals_raise() -> AbstractContextManager[None]:
    """While this is entered, `SIGNALS` raise `Interrupted` in the main thread."""
    return _handled(_raise)


def first_signal_raises() -> AbstractContextManager[None]:
    """The same, but only the first of them: what comes after it is ignored, so that an end that has begun is not cut
    short."""
    return _handled(_raise_once)


@contextmanager
def _handled(handler: Callable[[int, Optional[FrameType]], None]) -> Iterator[None]:
    before = [signal.signal(sent, handler) for sent in SIGNALS]
    try:
        yield
    finally:
        for sent, earlier in zip(SIGNALS, before):
            signal.signal(sent, earlier)


@contextmanager
def signals_held() -> Iterator[None]:
    """While this is entered, `Interrupted` waits; it is raised at the end. In another thread than the main one it does
    nothing: no signal interrupts that, and the main one is not to wait for it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
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


def _raise_once(sent: int, frame: Optional[FrameType]) -> None:
    for ignored in SIGNALS:
        signal.signal(ignored, _ignore)
    _raise(sent, frame)


def _ignore(_sent: int, _frame: Optional[FrameType]) -> None:
    """Unlike SIG_IGN, is not inherited, and does not mind a signal that is on its way."""
