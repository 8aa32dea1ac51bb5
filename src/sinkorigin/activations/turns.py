"""Order among batches that several workers run at the same time."""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager


class Turns:
    """Lets the batches of several workers do each thing in the order of the batches.

    So every file gets its rows, and every sum its terms, in one order, however the workers run.
    """

    def __init__(self):
        self._done: dict[object, int] = {}
        self._failed = False
        self._changed = threading.Condition()

    @contextmanager
    def take(self, thing: object, number: int) -> Iterator[None]:
        """Wait until batches 0 … number − 1 have done ``thing``, then do it."""
        with self._changed:
            self._changed.wait_for(lambda: self._failed or self._done.get(thing, 0) == number)
            if self._failed:
                raise _Stopped
        yield
        with self._changed:
            self._done[thing] = number + 1
            self._changed.notify_all()

    def fail(self) -> None:
        """Wake all who wait for a turn that will not come."""
        with self._changed:
            self._failed = True
            self._changed.notify_all()


class _Stopped(Exception):
    """Another batch failed."""


def wait_for_all(started: Iterable[Future]) -> None:
    """Wait for all; raise what one of them raised itself, not that it was stopped."""
    errors = [error for future in list(started) if (error := future.exception()) is not None]
    for error in errors:
        if not isinstance(error, _Stopped):
            raise error
