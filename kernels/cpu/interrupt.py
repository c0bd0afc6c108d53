"""Ctrl-C and SIGTERM while kernels are compiled, when there is nothing yet to save."""
import contextlib
import signal
import threading


class Stopped(KeyboardInterrupt):
    """A signal arrived; `number` says which."""

    def __init__(self, number):
        super().__init__(f"signal {number}")
        self.number = number


def stop(number, frame):
    raise Stopped(number)


@contextlib.contextmanager
def interruptible():
    """Within the block SIGINT and SIGTERM raise Stopped, in place of handlers that only note them.

    A signal that is ignored, or ends the process anyway, is left alone.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(signal.getsignal(number)):
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
