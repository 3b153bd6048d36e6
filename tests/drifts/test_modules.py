"""The modules behind functions: found, in eval mode, and asked for dtype and device."""

import functools

import pytest
import torch
from accelerate import cpu_offload_with_hook
from tests.fakes import Small

import multidrift as md
from multidrift.drifts.modules import modules_behind

SCHEDULE = md.schedules.ddpm()
GLOBAL = Small(seed=3)


class Holder:
    """An object that has a network and others beside it, as pipelines do."""

    def __init__(self):
        self.unet, self.vae = Small(seed=1), Small(seed=2)
        self.scale = 2.0


class Wrapper:
    def __init__(self, net):
        self.net = net

    def __call__(self, x, t):
        return self._inner(x, t)

    def _inner(self, x, t):
        return self.net(x, t)

    def method(self, x, t):
        return self.net(x, t)


def through_a_global(x, t):
    return GLOBAL(x, t)


def through_another_function(x, t):
    return through_a_global(x, t)


def through_a_default(x, t, net=GLOBAL):
    return net(x, t)


def ways(net):
    holder = Holder()
    holder.unet = net
    nets, wrapper = {"a": net}, Wrapper(net)

    def inner(x, t):
        return net(x, t)

    listed = [lambda x: x, net]
    return {
        "itself": net,
        "closure": lambda x, t: net(x, t),
        "attribute": lambda x, t: holder.unet(x, t) * holder.scale,
        "mapping": lambda x, t: nets["a"](x, t),
        "list": lambda x, t: listed[1](x, t),
        "partial": functools.partial(lambda inner, x, t: inner(x, t), net),
        "object": Wrapper(net),
        "method": Wrapper(net).method,
        "compiled": torch.compile(net),
        "object in a closure": lambda x, t: wrapper(x, t),
        "function in a closure": lambda x, t: inner(x, t),
        "bound forward": net.forward,
    }


@pytest.mark.parametrize("way", ways(GLOBAL))
def test_found_through(way):
    net = Small(seed=5)
    found = modules_behind(ways(net)[way])
    assert [getattr(module, "_orig_mod", module) for module in found] == [net]


def test_found_through_globals_and_defaults():
    for function in (through_a_global, through_another_function, through_a_default):
        assert modules_behind(function) == (GLOBAL,)
    assert modules_behind(lambda x, t: torch.cos(x)) == ()


def test_a_closure_runs_in_eval_mode_and_in_its_networks_dtype():
    net = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Conv2d(1, 1, 3, padding=1)).to(torch.bfloat16).train()
    modes = []

    def call(x, t):
        modes.append((net.training, x.dtype))
        return net(x)

    denoiser = md.Denoiser(call, SCHEDULE, shape=(1, 8, 8))
    assert denoiser.dtype == torch.bfloat16
    assert denoiser.device == torch.device("cpu")
    a, b = (md.sample(denoiser, md.Euler(3), count=2).samples for _ in range(2))
    assert torch.equal(a, b)
    assert set(modes) == {(False, torch.bfloat16)}
    assert net.training
    assert net[0].training


def test_modules_that_are_named_take_the_place_of_those_found():
    hidden = {1: [Small(seed=6).half()]}

    def call(x, t):
        return next(iter(hidden.values()))[0](x, t)

    denoiser = md.Denoiser(call, SCHEDULE, shape=(1, 8, 8), modules=hidden[1])
    assert denoiser.modules == (hidden[1][0],)
    assert denoiser.renamed("other").modules == denoiser.modules
    assert denoiser.dtype == torch.float16
    other = md.Denoiser(call, SCHEDULE, shape=(1, 8, 8), modules=[Small(seed=7).half()])
    assert other.fingerprint != denoiser.fingerprint
    with pytest.raises(md.MultidriftError, match=r"modules\[0\]: got 'net'; it takes a Module"):
        md.Denoiser(call, SCHEDULE, modules=["net"])


def test_an_offloaded_network_is_where_it_computes():
    net = Small()
    cpu_offload_with_hook(net, execution_device=torch.device("meta"))
    assert md.Denoiser(net, SCHEDULE, shape=(1, 8, 8)).device == torch.device("meta")
    assert next(net.parameters()).device == torch.device("cpu")


def test_a_plan_knows_the_tensors_that_a_function_uses(ddpm):
    """Functions of one name with other weights are other levels; what a function keeps of its calls is not asked."""

    def ladder(weight):
        kept = []

        def net(x, t):
            kept.append(x.clone())
            return x * weight

        return md.Ladder([md.Denoiser(net, ddpm, "sample", name=name, shape=(2,)) for name in ("a", "b")])

    one, same, other = (ladder(torch.tensor([w, 1.0])) for w in (0.5, 0.5, 0.25))
    plan = md.Multilevel(5, calls=(5, 4)).plan(one)
    known = md.sample(one, plan, count=2).samples
    assert torch.equal(md.sample(one, plan, count=2).samples, known)
    assert torch.equal(md.sample(same, plan, count=2).samples, known)
    with pytest.raises(md.MultidriftError, match="plan: made for another level a"):
        md.sample(other, plan, count=2)
