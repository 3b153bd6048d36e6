"""Ray Data: numbers of samples in, samples out, as one more step of a pipeline that is Ray's."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from multidrift.basics.checks import checked
from multidrift.basics.errors import require
from multidrift.basics.types import Count, Dimensions, Seed
from multidrift.drifts.model import AnyModel
from multidrift.methods.method import Method
from multidrift.processes.process import Process
from multidrift.sampling import sample

Columns = Mapping[str, NDArray[np.generic]]  # type: ignore[explicit-any]  # arrays of any dtype


class Draw:
    """A callable class for Ray's `map_batches`: rows with a number i each, and sample i beside it.

        ids = ray.data.range(50_000)
        drawn = ids.map_batches(Draw, fn_constructor_kwargs={"load": load, "method": md.Euler(50)}, batch_size=64,
                                compute=ray.data.ActorPoolStrategy(size=2))

    Sample i is that of `md.sample(model, method, …, seed=seed, first=i)`, on whichever worker and beside whichever
    others it is drawn. Each worker holds a CPU of Ray's, and reading needs one more: with none left it waits for ever.
    Which ids are done already is for Ray's checkpoints to know (`id_column` of its
    CheckpointConfig).

    - `load`: a function without arguments that gives the model; it is called once in each worker
    - `id_column`: where the numbers stand, in Ray's `range` "id"; `sample_column`: where the samples go
    - `columns`: names of columns that are passed to the network, a row a sample
    - `batch_size`: rows of one network call, for samples that are the same to the bit in batches of any size
    - the other arguments are those of `md.sample`

    Raises MultidriftError on batches without these columns, and as `md.sample` does.
    """

    @checked
    def __init__(
        self,
        load: Callable[[], AnyModel],
        method: Method,
        process: Process | None = None,
        *,
        seed: Seed = 0,
        plan_seed: Seed = 0,
        columns: Sequence[str] = (),
        id_column: str = "id",
        sample_column: str = "sample",
        shape: Dimensions | None = None,
        batch_size: Count | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model, self.method, self.process = load(), method, process
        self.seed, self.plan_seed, self.columns = seed, plan_seed, tuple(columns)
        self.id_column, self.sample_column = id_column, sample_column
        self.shape, self.batch_size, self.device, self.dtype = shape, batch_size, device, dtype

    def __call__(self, batch: Columns) -> dict[str, NDArray[np.generic]]:
        """A batch of rows with their samples, [n, …]."""
        for name in (self.id_column, *self.columns):
            require(name in batch, "batch", sorted(batch), f"a column {name!r}")
        numbers = [operator.index(number) for number in batch[self.id_column].tolist()]
        if not numbers:
            return dict(batch)
        given = {name: torch.from_numpy(np.asarray(batch[name])) for name in self.columns}
        result = sample(
            self.model, self.method, self.process, seed=[self.seed] * len(numbers), first=numbers, shape=self.shape,
            plan_seed=self.plan_seed, conditioning=given or None, batch_size=self.batch_size, device=self.device,
            dtype=self.dtype, progress=False,
        )  # fmt: skip
        return {**batch, self.sample_column: result.samples.cpu().numpy()}
