"""Two loops that each want to be the outer one: the pipeline's, and the walk of a method.

The walk runs in a thread of its own and waits wherever it needs the network, so that the pipeline's loop can evaluate
it. One of the two runs at any time: nothing happens at once, and nothing depends on how threads are scheduled.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class _Closed(BaseException):  # the walk was given up; no handler of errors must catch it
    """Ends the thread at the place where it waits."""


class Turns(Generic[Question, Answer]):
    """`function(ask)` in a thread that stands still but for between a question's answer and the next question.

    `start` and `answer` return the next question, None once the function has returned, and raise what it raised.
    """

    def __init__(self, function: Callable[[Callable[[Question], Answer]], None]) -> None:
        self._asked: SimpleQueue[Question | BaseException | None] = SimpleQueue()
        self._answered: SimpleQueue[Answer | _Closed] = SimpleQueue()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run, function), daemon=True)

    def start(self) -> Question | None:
        """Run to the first question."""
        self._thread.start()
        return self._next()

    def answer(self, answer: Answer) -> Question | None:
        """Go on with this answer, to the next question."""
        self._answered.put(answer)
        return self._next()

    def close(self) -> None:
        """Give the function up where it waits; harmless after its end."""
        if self._thread.is_alive():
            self._answered.put(_Closed())
            self._thread.join()

    def _next(self) -> Question | None:
        asked = self._asked.get()
        if isinstance(asked, BaseException):
            raise asked
        return asked

    def _run(self, function: Callable[[Callable[[Question], Answer]], None]) -> None:
        try:
            function(self._ask)
            self._asked.put(None)
        except _Closed:
            return
        except BaseException as error:  # noqa: BLE001  # raised where the pipeline runs
            self._asked.put(error)

    def _ask(self, question: Question) -> Answer:
        self._asked.put(question)
        answer = self._answered.get()
        if isinstance(answer, _Closed):
            raise answer
        return answer
