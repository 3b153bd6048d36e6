"""How many examples a fuzz test tries, and what each of them may do: answer, or raise one clear error in time."""

import contextlib
import os
import signal
import warnings

from hypothesis import HealthCheck, settings

import multidrift as md

# Of all fuzz tests together: a few in the tests, 5,000 by `make fuzz`.
TOTAL = int(os.environ.get("FUZZ_EXAMPLES", "0"))
_LONG = TOTAL > 0
_SECONDS = 20


def examples(share, few):
    """The settings of a test with a share of all examples, or `few` in the tests, where they are always the same."""
    return settings(
        max_examples=round(share * TOTAL) if _LONG else few,
        derandomize=not _LONG,
        database=None,
        deadline=None,  # of the machine's load; what hangs is stopped below
        print_blob=_LONG,
        suppress_health_check=list(HealthCheck),
    )


class HangsError(BaseException):
    """Nothing catches it."""


@contextlib.contextmanager
def in_time(seconds=_SECONDS):
    """Raise in what takes longer than this."""

    def late(*_):
        raise HangsError(f"no answer in {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def answered(call, *args, **kwargs):
    """(what the call gave, None) or (None, its clear error); anything else is raised as it came."""
    try:
        with in_time():
            return call(*args, **kwargs), None
    except md.MultidriftError as error:
        message = str(error)
        assert "\n" not in message, message
        assert 10 < len(message) < 2000, message
        return None, error
