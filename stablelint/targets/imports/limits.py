"""A limit on the seconds that a piece of code may run, in the main thread."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from stablelint.targets.imports.left_out import TooLong

_AGAIN_SECONDS = 0.5  # code that catches everything is stopped at its next try


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise :class:`TooLong` in the body after ``seconds``; limits may be nested.

    Without effect outside of the main thread and where there is no interval timer.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TooLong(f"runs longer than {seconds:g} s")

    began = time.monotonic()
    before = signal.signal(signal.SIGALRM, stop)
    outer, _ = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if outer:
            left = max(outer - (time.monotonic() - began), 0.001)
            signal.setitimer(signal.ITIMER_REAL, left, _AGAIN_SECONDS)
