"""A limit on the time that one strategy of the computer-algebra system may take."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class OutOfTime(BaseException):
    """A strategy that used up its seconds; no `except Exception` inside the strategy stops it."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` when the block has taken this many seconds of processor time.

    Processor time, so that a busy machine decides as an idle one does.  Limits nest: the outer one
    goes on.  Where the system knows no such clock, and outside the main thread, there is no limit.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(
        signal, "setitimer"
    ):
        yield
        return

    def stop(signum, frame):
        # Not inside a callback of another library, which would only print what it caught.
        if "jax" not in (frame.f_globals.get("__name__", "") if frame else ""):
            raise OutOfTime

    before = signal.signal(signal.SIGVTALRM, stop)
    # Again and again, should a bare `except` swallow it.
    left, again = signal.setitimer(signal.ITIMER_VIRTUAL, seconds, 0.1)
    started = min(left, seconds) if left else seconds
    if started < seconds:
        signal.setitimer(signal.ITIMER_VIRTUAL, started, 0.1)
    try:
        yield
    finally:
        rest, _ = signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        if left:
            signal.setitimer(signal.ITIMER_VIRTUAL, max(left - (started - rest), 1e-3), again)
