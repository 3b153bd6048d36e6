"""A progress bar over all processes of a job, with the time left."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from multidrift.generation.folder import Folder
from multidrift.generation.job import Job

_EVERY = 1.0  # seconds between looks at the folder


class Progress:
    """Counts the samples that lie in the folder, whoever drew them."""

    def __init__(self, folder: Folder, job: Job, *, wanted: bool) -> None:
        self.folder, self.wanted = folder, wanted
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=Console(stderr=True), transient=True, disable=not wanted)
        self._task = self._bar.add_task("samples", total=job.count, completed=self._there() if wanted else 0)
        self._looked = time.monotonic()

    def watch(self) -> None:
        """Look again, at most once a second."""
        if self.wanted and time.monotonic() - self._looked > _EVERY:
            self._looked = time.monotonic()
            self._bar.update(self._task, completed=self._there())

    def _there(self) -> int:
        return sum(cast("int", record["count"]) for record in self.folder.records().values())

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
