"""No step waits for the device: what would is counted where every operation passes."""

import pytest
import torch
from tests.fakes import Small
from torch.utils._python_dispatch import TorchDispatchMode

import multidrift as md

WAITS = ("_local_scalar_dense", "nonzero", "equal", "item", "is_nonzero", "masked_select", "unique", "allclose")


class Waits(TorchDispatchMode):
    """Counts operations whose result the host must know before it goes on."""

    number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.number += func.overloadpacket.__name__ in WAITS
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def ladder():
    schedule = md.schedules.ddpm()
    return md.Ladder([md.Denoiser(Small(seed=i), schedule, name=f"f{i}", shape=(1, 4, 4)) for i in (1, 2)])


def waits(ladder, method, eta=1.0):
    model = ladder if isinstance(method, md.Multilevel | md.LadderMultistep) else ladder["f2"]
    with Waits() as counted:
        md.sample(model, method, md.Diffusion(model.schedule, eta), count=3)
    return counted.number


METHODS = {
    "Euler": lambda n: md.Euler(n),
    "Multistep": lambda n: md.Multistep(n),
    "Multilevel": lambda n: md.Multilevel(n, calls=(n, n / 2)),
    "Multilevel-each": lambda n: md.Multilevel(n, calls=(n, n / 2), shared=False),
    "Poisson": lambda n: md.PoissonMidpoint(n, substeps=4),
    "LadderMultistep": lambda n: md.LadderMultistep(n, levels=("f1", "f2"), substeps=2),
}


@pytest.mark.filterwarnings("ignore::multidrift.PlanWarning", "ignore::multidrift.RunWarning")
@pytest.mark.parametrize("name", METHODS)
def test_waits_do_not_grow_with_the_steps(ladder, name):
    """The guard looks at its record every 50 calls; beside that a run waits as often at 6 steps as at 12."""
    few, many = (waits(ladder, METHODS[name](n)) for n in (6, 12))
    assert many - few <= 1


@pytest.mark.filterwarnings("ignore::multidrift.RunWarning")
def test_neither_do_those_of_guided_and_transformed_levels(ladder):
    def changed(prediction, x, t):
        return 0.5 * prediction

    scale = {"scale": torch.ones(1)}
    guided = ladder["f2"].guided(3.0, scale, {"scale": -torch.ones(1)}, interval=(0.1, 3.0), rescale=0.5)
    for level in (guided, guided.transformed(changed)):
        few, many = (waits({"f2": level}, md.Euler(n)) for n in (6, 12))
        assert many - few <= 1


def test_a_wait_is_noticed(ladder):
    impatient = md.Denoiser(lambda x, t: x * float(x.mean()), ladder.schedule, shape=(1, 4, 4))
    with Waits() as counted:
        md.sample(impatient, md.Euler(6), count=1)
    assert counted.number >= 6
