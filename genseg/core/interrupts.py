"""Signals that ask a command to end: what is under way is saved, and the exit code is 128 and the
signal's number."""

import contextlib
import signal
from collections.abc import Callable, Iterator

Handler = Callable[..., object] | int | None
ASKING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_last = int(signal.SIGINT)


class Interrupted(KeyboardInterrupt):
    """SIGTERM or SIGHUP, told as Ctrl-C is: files are closed and temporary ones removed on its
    way."""


def note(number: int) -> None:
    """Remember which signal has come."""
    global _last
    _last = number


def exit_code() -> int:
    """Of a command that a signal has ended: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
    return 128 + _last


def _raise(number: int, frame: object) -> None:
    note(number)
    raise Interrupted


def replaced(
    handle: Callable[[int, object], None], numbers: tuple[int, ...] = ASKING
) -> dict[int, Handler]:
    """Give signals a handler; those that had one before. SIGHUP and SIGTERM that the process
    ignores stay ignored, as nohup wants it; SIGINT does not, which a shell ignores for what runs
    behind it. Outside of the main thread signals are somebody else's."""
    before: dict[int, Handler] = {}
    with contextlib.suppress(ValueError):
        for number in numbers:
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, handle)
    return before


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """SIGTERM and SIGHUP raise Interrupted, as Ctrl-C raises KeyboardInterrupt."""
    note(signal.SIGINT)
    before = replaced(_raise, ASKING[1:])
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
