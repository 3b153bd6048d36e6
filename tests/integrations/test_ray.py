"""The callable of Ray Data: alone, and on a local Ray with two workers."""

import functools
import os
import sys

import numpy as np
import pytest
import torch

import multidrift as md
from multidrift.integrations.ray import Draw

METHOD = md.PoissonMidpoint(4, substeps=3)


def load(scale=1.0):
    def net(x, t, label=0.0):
        shift = label if isinstance(label, float) else label[:, None]
        return torch.tanh(scale * x) + shift

    return md.Denoiser(net, md.schedules.ddpm(), "sample", shape=(2,))


def test_samples_stand_beside_their_numbers():
    whole = md.sample(load(), METHOD, count=10, seed=3, batch_size=4).samples.numpy()
    draw = Draw(load, METHOD, seed=3, batch_size=4)
    found = draw({"id": np.array([7, 2, 9]), "name": np.array(["a", "b", "c"])})
    assert np.array_equal(found["sample"], whole[[7, 2, 9]])
    assert found["name"].tolist() == ["a", "b", "c"]
    assert len(draw({"id": np.array([], dtype=np.int64)})) == 1


def test_columns_go_to_the_network():
    labels = np.array([0.5, -1.0, 2.0])
    found = Draw(load, METHOD, columns=("label",))({"id": np.arange(3), "label": labels})
    own = md.sample(load(), METHOD, count=3, conditioning={"label": torch.from_numpy(labels)}).samples
    assert np.allclose(found["sample"], own.numpy(), atol=1e-6)


def test_bad_batches_and_settings():
    with pytest.raises(md.MultidriftError, match=r"batch: got \['number'\]; it takes a column 'id'"):
        Draw(load, METHOD)({"number": np.arange(3)})
    with pytest.raises(md.MultidriftError, match="load: got 3"):
        Draw(3, METHOD)
    with pytest.raises(md.MultidriftError, match="seed: got 'a'"):
        Draw(load, METHOD, seed="a")


@pytest.mark.skipif(
    not os.environ.get("MULTIDRIFT_TEST_RAY"), reason="starts a local Ray: MULTIDRIFT_TEST_RAY=1 runs it"
)
def test_two_workers_of_a_local_ray():
    ray = pytest.importorskip("ray", reason="the extra `ray`")
    pytest.importorskip("pyarrow", reason="the extra `ray`")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        settings = {"load": functools.partial(load, 0.5), "method": METHOD, "seed": 3, "batch_size": 8}
        ids = ray.data.range(40, override_num_blocks=4)
        workers = ray.data.ActorPoolStrategy(size=2)
        drawn = ids.map_batches(Draw, fn_constructor_kwargs=settings, batch_size=10, compute=workers)
        found = {row["id"]: row["sample"] for row in drawn.take_all()}
    finally:
        ray.shutdown()
    whole = md.sample(load(0.5), METHOD, count=40, seed=3, batch_size=8).samples.numpy()
    assert np.array_equal(np.stack([found[i] for i in range(40)]), whole)
