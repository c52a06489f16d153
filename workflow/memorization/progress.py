"""Progress of long work with an estimate of the time left: a bar on a terminal, a few plain lines in a log."""

import sys
import time
from collections.abc import Callable
from typing import TextIO


def duration(seconds: float) -> str:
    """Short text: `48 s`, `12 min`, `3.4 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class Progress:
    """Use as a context manager; call `advance` as often as you like.

    Work that was done in an earlier, interrupted process is given as `done`, and does not count for the estimate.
    In a log, at most one line every `interval_s` seconds, and one at the end.
    """

    def __init__(
        self,
        total: float,
        what: str,
        *,
        done: float = 0,
        interval_s: float = 15,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.total, self.what, self.done = total, what, done
        self._start_done, self._interval, self._clock = done, interval_s, clock
        self._stream = sys.stderr if stream is None else stream
        self._note = ""
        self._bar = self._task = None

    def __enter__(self) -> "Progress":
        self._began = self._last = self._clock()
        if self._stream.isatty():
            self._open_bar()
        return self

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        note = TextColumn("{task.fields[note]}")
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), note)
        self._bar = Bar(*columns, console=Console(file=self._stream))
        self._task = self._bar.add_task(self.what, total=self.total, completed=self.done, note="")
        self._bar.start()

    def advance(self, amount: float = 1, note: str | None = None) -> None:
        """`amount` more is done; `note` is shown beside it until the next one, e.g. the loss."""
        self.done += amount
        self._note = self._note if note is None else note
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, note=self._note)
        elif self._clock() - self._last >= self._interval:
            self._print_line()

    def left_s(self) -> float | None:
        """Seconds left if the rest goes at the pace so far; None before any work is done."""
        fresh = self.done - self._start_done
        if fresh <= 0:
            return None
        return (self._clock() - self._began) * max(self.total - self.done, 0) / fresh

    def _print_line(self) -> None:
        self._last = self._clock()
        left = self.left_s()
        parts = [f"{self.what}: {self.done / self.total:.0%}" if self.total else self.what]
        parts += [f"{duration(self._last - self._began)} so far"]
        parts += [f"about {duration(left)} left"] if left else []
        parts += [self._note] if self._note else []
        print(", ".join(parts), file=self._stream, flush=True)

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        else:
            self._print_line()
