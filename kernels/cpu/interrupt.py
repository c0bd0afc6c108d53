"""Ctrl-C and SIGTERM while kernels are compiled, when there is nothing yet to save.

An exception in the midst of LLVM's work would leave it broken, so signals are noted, and raised where that is safe.
"""
import contextlib
import signal
import threading


class Stopped(KeyboardInterrupt):
    """A signal arrived; `number` says which."""

    def __init__(self, number):
        super().__init__(f"signal {number}")
        self.number = number


class Signals:
    """What arrived so far."""

    number = None

    def note(self, number, frame):
        self.number = number

    def check(self):
        """Raise Stopped where one has arrived."""
        if self.number is not None:
            raise Stopped(self.number)


@contextlib.contextmanager
def noted():
    """Within the block SIGINT and SIGTERM are noted, in place of their handlers; raised at its end at the latest.

    A signal that is ignored, or ends the process anyway, is left alone.
    """
    signals, before = Signals(), {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(signal.getsignal(number)):
                before[number] = signal.signal(number, signals.note)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    signals.check()
