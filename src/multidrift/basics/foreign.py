"""One guard around code that users hand in: their networks, drifts, callbacks and functions."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from pathlib import Path

from multidrift.basics.errors import MultidriftError

_OURS = Path(__file__).parent.parent
_LIBRARIES = ("site-packages", "importlib", "contextlib")  # in the path of a file: no place of the user's


class ForeignError(MultidriftError):
    """What a user's code raised, as one error that says whose it was and where; the original is its cause."""

    def __init__(self, whose: str, what: str, place: str = "") -> None:
        super().__init__(f"{whose} raised {what}{f' at {place}' if place else ''}")
        self.whose, self.what = whose, what

    def at(self, place: str) -> ForeignError:
        """The same error with the place in the run."""
        found = ForeignError(self.whose, self.what, place)
        found.__cause__ = self.__cause__
        return found


@contextlib.contextmanager
def users_code(whose: str, place: str = "") -> Iterator[None]:
    """Run code of a user's; what it raises, `sys.exit` included, becomes a ForeignError."""
    try:
        yield
    except MultidriftError:
        raise
    except (Exception, SystemExit, GeneratorExit) as error:
        raise ForeignError(whose, described(error), place) from error


def described(error: BaseException) -> str:
    """An error in one line, with the last place outside of this package that it came from."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not Path(f.filename).is_relative_to(_OURS)]
    own = [f for f in frames if not any(part in f.filename for part in _LIBRARIES)] or frames
    own = [f for f in own if not f.filename.startswith("<frozen")]
    where = f" ({Path(own[-1].filename).name} line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"
