"""Work in a process of its own that is killed at a random point, and what several of them at once do to one another."""

import os
import random
import signal
import time
import traceback

# At how many points work is killed and for how long two write at once: a few in the tests, 20 by `make faults`.
POINTS = int(os.environ.get("FAULTS", "3"))
SECONDS = float(os.environ.get("FAULTS", "0.7"))


def child(work):
    """The number of a process that does the work and ends: a copy of this one, without its seconds of imports."""
    number = os.fork()
    if number:
        return number
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 (whatever it is, the process ends here)
        traceback.print_exc()
    finally:
        os._exit(status)


def ended(number):
    """The status of a process, once it is no more: 0 where it did its work, −9 where it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def kill(number):
    os.kill(number, signal.SIGKILL)


def killed_at_random(prepare, work, check):
    """Kill the work at random points of the time that it takes, each time from the start; how often it was in time.

    `prepare()` before each, `check(killed)` after: killed is False where the work was done before.
    """
    prepare()
    started = time.perf_counter()
    assert ended(child(work)) == 0
    whole = time.perf_counter() - started
    check(killed=False)
    rng, killed = random.Random(0), 0  # noqa: S311 (points in time; the machine makes them differ)
    for _ in range(POINTS):
        prepare()
        number = child(work)
        time.sleep(rng.uniform(0.0, whole))
        kill(number)
        status = ended(number)
        assert status in (0, -signal.SIGKILL)
        killed += status != 0
        check(killed=status != 0)
    return killed


def for_a_while(work):
    """Again and again, until the time is up."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        work()


def litter(folder):
    """What is left of unfinished work in a folder: whatever begins with a dot."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))
