"""Guidance as part of a level: what it computes, what it costs, and that it is each level's own."""

import numpy as np
import pytest
import torch
from diffusers.guiders import AdaptiveProjectedGuidance, ClassifierFreeGuidance
from tests.fakes import F64

import multidrift as md

COUNT = 3


class Pulled:
    """A network of its conditioning that remembers the rows of every call."""

    def __init__(self, size=0.1):
        self.size, self.rows = size, []

    def __call__(self, x, t, text=None, ids=None, kind="plain"):
        self.rows.append(len(x))
        assert kind == "plain"
        pull = 0.0 if text is None else text.mean(dim=1)
        extra = 0.0 if ids is None else ids["time"]
        return 0.3 * x + torch.sin(x + pull + extra) * torch.cos(t / 1000)[:, None] + self.size


@pytest.fixture
def net():
    return Pulled()


@pytest.fixture
def denoiser(net, ddpm):
    return md.Denoiser(net, ddpm, shape=(2,))


def text(seed, rows=COUNT):
    return torch.randn(rows, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


GIVEN, NEGATIVE = {"text": text(0)}, {"text": text(1)}
PLAIN = torch.full((COUNT, 1), 0.2, dtype=torch.float64)


def by_hand(ddpm, scale, given, without, size=0.1, rescale=0.0, inside=lambda t: True):
    """What a user would write without it: a network of its own."""

    def guided(x, t, rows):
        pick = lambda values: {name: value[rows.long()] for name, value in values.items()}  # noqa: E731
        c, w = Pulled(size)(x, t, **pick(given)), Pulled(size)(x, t, **pick(without))
        found = w + scale * (c - w)
        if rescale:
            found = found * (rescale * c.std(dim=1) / found.std(dim=1) + 1 - rescale)[:, None]
        return torch.where(torch.tensor([inside(float(s)) for s in t])[:, None], found, c)

    return md.Denoiser(guided, ddpm, shape=(2,))


def sampled(model, method, **more):
    return md.sample(model, method, count=COUNT, **(F64 | more))


def run(model):
    return sampled(model, md.Euler(3))


METHODS = [
    md.Euler(8),
    md.Multistep(8),
    md.PoissonMidpoint(4, substeps=5),
    md.Picard(8, tolerance=1e-12),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_guidance_is_the_formula(denoiser, ddpm, method, rescale):
    found = sampled(denoiser.guided(3.0, GIVEN, NEGATIVE, rescale=rescale), method)
    hand = by_hand(ddpm, 3.0, GIVEN, NEGATIVE, rescale=rescale)
    wanted = sampled(hand, method, conditioning={"rows": torch.arange(COUNT)})
    assert torch.allclose(found.samples, wanted.samples, atol=1e-10, rtol=0)


def test_both_predictions_take_one_call_whose_rows_are_counted(denoiser, net):
    result = sampled(denoiser.guided(3.0, GIVEN, NEGATIVE), md.Euler(8))
    assert net.rows == [2 * COUNT] * 8
    assert result.calls == {"model": 16}
    assert result.batches == {"model": 8}
    assert result.peak_rows == 2 * COUNT
    assert result.rounds == 8


@pytest.mark.parametrize("without", [None, {}, {"text": text(1)[:, :2]}], ids=["none", "empty", "shorter"])
def test_predictions_that_fit_no_one_call_take_two(denoiser, net, ddpm, without):
    result = sampled(denoiser.guided(3.0, GIVEN, without), md.Euler(5))
    assert net.rows == [COUNT] * 10
    assert (result.calls, result.batches) == ({"model": 10}, {"model": 10})
    wanted = sampled(by_hand(ddpm, 3.0, GIVEN, without or {}), md.Euler(5), conditioning={"rows": torch.arange(COUNT)})
    assert torch.allclose(result.samples, wanted.samples, atol=1e-10, rtol=0)


def test_conditioning_of_the_run_serves_both_and_is_cut_alike(denoiser, ddpm):
    """A nested row a sample, a row for all, a shared table and a word, in calls of two samples."""
    ids = {"time": torch.linspace(0, 1, COUNT, dtype=torch.float64)[:, None]}
    given = {"text": GIVEN["text"][:1]}  # one prompt for all samples
    run = {"ids": ids, "kind": "plain"}
    found = sampled(denoiser.guided(2.0, given, NEGATIVE), md.Euler(6), conditioning=run, batch_size=2)
    table = {"text": given["text"].expand(COUNT, -1, -1)}
    parts = [by_hand(ddpm, 2.0, table, NEGATIVE)]

    def with_ids(x, t, rows, time):
        old = Pulled.__call__
        try:
            Pulled.__call__ = lambda self, x, t, text: old(self, x, t, text, {"time": time})
            return parts[0].net(x, t, rows)
        finally:
            Pulled.__call__ = old

    hand = md.Denoiser(with_ids, ddpm, shape=(2,))
    wanted = sampled(hand, md.Euler(6), conditioning={"rows": torch.arange(COUNT), "time": ids["time"]})
    assert torch.allclose(found.samples, wanted.samples, atol=1e-10, rtol=0)


def test_a_shared_table_stays_one(ddpm):
    def net(x, t, text, table):
        assert table.shape == (COUNT, 2)
        return x + text.mean(dim=1) + table.sum()

    table = md.shared(torch.ones(COUNT, 2, dtype=torch.float64))
    guided = md.Denoiser(net, ddpm, shape=(2,)).guided(2.0, GIVEN, NEGATIVE)
    result = sampled(guided, md.Euler(4), conditioning={"table": table})
    assert result.batches == {"model": 4}


# Where there is guidance ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [md.Euler(8), md.Picard(8, tolerance=1e-12)], ids=["Euler", "Picard"])
def test_guidance_between_two_noise_levels(denoiser, net, ddpm, method):
    low, high = 0.3, 5.0

    def inside(t):
        return low <= float(ddpm.sigma(t) / ddpm.alpha(t)) <= high

    result = sampled(denoiser.guided(3.0, GIVEN, NEGATIVE, interval=(low, high)), method)
    rows = sum(net.rows)
    hand = by_hand(ddpm, 3.0, GIVEN, NEGATIVE, inside=inside)
    wanted = sampled(hand, method, conditioning={"rows": torch.arange(COUNT)})
    assert torch.allclose(result.samples, wanted.samples, atol=1e-10, rtol=0)
    assert result.calls["model"] * COUNT == rows
    if isinstance(method, md.Euler):
        guided = sum(inside(t) for t in method.grid_for(md.Diffusion(ddpm)))
        assert 0 < guided < 8
        assert rows == (8 + guided) * COUNT


# The weak level as what to be pushed from -------------------------------------------------------------


def test_autoguidance_by_a_smaller_level_of_another_kind(denoiser, ddpm):
    """The weak level predicts the data; both are given the same conditioning; its clip has no say."""
    small = Pulled(0.4)

    def data(x, t, text):
        alpha, sigma = (torch.from_numpy(f(t.double().numpy()))[:, None] for f in (ddpm.alpha, ddpm.sigma))
        return (x - sigma * small(x, t, text)) / alpha

    weak = md.Denoiser(data, ddpm, "sample", clip=0.1, name="small", shape=(2,))
    result = sampled(denoiser.guided(2.0, GIVEN, weak=weak), md.Euler(6))
    assert result.calls == {"model": 6, "small": 6}

    def guided(x, t, rows):
        given = {"text": GIVEN["text"][rows]}
        c, w = Pulled()(x, t, **given), Pulled(0.4)(x, t, **given)
        return w + 2.0 * (c - w)

    hand = md.Denoiser(guided, ddpm, shape=(2,))
    wanted = sampled(hand, md.Euler(6), conditioning={"rows": torch.arange(COUNT)})
    assert torch.allclose(result.samples, wanted.samples, atol=1e-9, rtol=0)


# A ladder ---------------------------------------------------------------------------------------------


@pytest.fixture
def ladder(ddpm):
    return md.Ladder([md.Denoiser(Pulled(s), ddpm, name=n, shape=(2,)) for n, s in (("f1", 0.3), ("f2", 0.1))])


def test_every_level_has_its_own_conditioning(ladder, ddpm):
    own = {"f1": {"text": text(2)}, "f2": GIVEN}
    guided = ladder.guided(3.0, own, NEGATIVE)
    method = md.Multilevel(8, calls=(8, 4))
    result = sampled(guided, method)
    hands = [by_hand(ddpm, 3.0, own[name], NEGATIVE, size=s) for name, s in (("f1", 0.3), ("f2", 0.1))]
    wanted = sampled(md.Ladder(hands, ("f1", "f2")), method, conditioning={"rows": torch.arange(COUNT)})
    assert torch.allclose(result.samples, wanted.samples, atol=1e-10, rtol=0)
    assert result.calls == {name: 2 * calls for name, calls in wanted.calls.items()}
    away = ladder.guided(2.0, GIVEN, weak="f1")
    assert [level.layers == () for level in away] == [True, False]
    assert "f1" in sampled(away, md.Euler(4)).calls


def test_all_levels_equal_give_the_path_of_one(denoiser):
    """The telescope vanishes: guidance is taken in every level before levels are subtracted."""
    guided = denoiser.guided(1.5, GIVEN, NEGATIVE, rescale=0.5)
    ladder = md.Ladder([guided, guided], ("a", "b"))
    one = sampled(guided, md.Euler(10))
    assert torch.allclose(
        sampled(ladder, md.Multilevel(10, calls=(10, 3))).samples, one.samples, atol=1e-12, rtol=1e-11
    )


def test_guidance_is_computed_in_the_precision_of_the_state(ddpm):
    """Of a half-precision network only the two predictions are rounded, not their combination."""

    class Half(torch.nn.Linear):
        def forward(self, x, t, shift):
            return super().forward(x) + shift

    net = Half(2, 2).bfloat16()
    guided = md.Denoiser(net, ddpm, shape=(2,)).guided(
        7.5, {"shift": torch.ones(1, 2).bfloat16()}, {"shift": -torch.ones(1, 2).bfloat16()}
    )
    x = torch.randn(5, 2)
    c, w = ((net(x.bfloat16(), None, shift=s)).float() for s in (1.0, -1.0))
    assert torch.equal(guided.predict(x, 500.0, "epsilon", {}), w + 7.5 * (c - w))


# Guiders of diffusers ---------------------------------------------------------------------------------


def test_a_guider_is_the_formula(denoiser, ddpm):
    guider = ClassifierFreeGuidance(guidance_scale=3.0, guidance_rescale=0.7)
    result = sampled(denoiser.guided(guider, GIVEN, NEGATIVE), md.Euler(8))
    hand = by_hand(ddpm, 3.0, GIVEN, NEGATIVE, rescale=0.7)
    wanted = sampled(hand, md.Euler(8), conditioning={"rows": torch.arange(COUNT)})
    assert torch.allclose(result.samples, wanted.samples, atol=1e-10, rtol=0)
    assert result.calls == {"model": 16}
    assert guider.get_state()["step"] is None  # the one that was given is left alone


@pytest.mark.parametrize("method", [md.Euler(10), md.Picard(10, tolerance=1e-12)], ids=["Euler", "Picard"])
def test_start_and_stop_of_a_guider_are_shares_of_time(denoiser, ddpm, method):
    guider = ClassifierFreeGuidance(guidance_scale=3.0, start=0.2, stop=0.7)
    result = sampled(denoiser.guided(guider, GIVEN, NEGATIVE), method)
    hand = by_hand(ddpm, 3.0, GIVEN, NEGATIVE, inside=lambda t: 200 <= int((999 - t) / 999 * 1000) < 700)
    wanted = sampled(hand, method, conditioning={"rows": torch.arange(COUNT)})
    assert torch.allclose(result.samples, wanted.samples, atol=1e-10, rtol=0)
    if isinstance(method, md.Euler):
        assert 10 < result.calls["model"] < 20


def test_a_guider_with_momentum_starts_anew_in_every_run_and_level(denoiser, ladder):
    guider = AdaptiveProjectedGuidance(guidance_scale=3.0, adaptive_projected_guidance_momentum=-0.5)
    guided = denoiser.guided(guider, GIVEN, NEGATIVE)
    first, second = (sampled(guided, md.Euler(6)) for _ in range(2))
    assert torch.equal(first.samples, second.samples)
    levels = ladder.guided(guider, GIVEN, NEGATIVE)
    assert torch.isfinite(sampled(levels, md.Multilevel(6, calls=(6, 3))).samples).all()
    with pytest.raises(md.MultidriftError, match="momentum, which follows one step after another"):
        sampled(guided, md.Picard(6))


# Transforms -------------------------------------------------------------------------------------------


def test_inpainting_keeps_what_is_known(denoiser):
    known = torch.randn(COUNT, 2, dtype=torch.float64)
    mask = torch.tensor([[1.0, 0.0]], dtype=torch.float64)

    def put_in(prediction, x, t, known, mask):
        assert prediction.shape == x.shape
        assert len(known) == len(t) == len(x)
        return mask * known + (1 - mask) * prediction

    level = denoiser.guided(3.0, GIVEN, NEGATIVE).transformed(put_in, known=known, mask=mask)
    for method in (md.Euler(6), md.Picard(6, tolerance=1e-12)):
        result = sampled(level, method, batch_size=2)
        assert torch.equal(result.samples[:, 0], known[:, 0])
        assert not torch.isclose(result.samples[:, 1], known[:, 1]).any()
    assert sampled(level, md.Euler(6)).calls == {"model": 12}


def test_posterior_sampling_sees_the_gradient_through_the_network(ddpm):
    net = torch.nn.Linear(2, 2).double()
    level = md.Denoiser(lambda x, t: net(x), ddpm, shape=(2,))

    def towards(prediction, x, t):
        gradient = torch.autograd.grad((prediction**2).sum(), x)[0]
        return prediction - 0.1 * gradient

    x = torch.randn(4, 2, dtype=torch.float64)
    moved = level.transformed(towards, differentiable=True)
    with torch.no_grad():
        found = moved.predict(x, 300.0, "sample", {})
    at = x.clone().requires_grad_()
    data = level.predict(at, 300.0, "sample", {})
    wanted = data - 0.1 * torch.autograd.grad((data**2).sum(), at)[0]
    assert torch.allclose(found, wanted, atol=1e-12)
    assert not found.requires_grad
    assert torch.isfinite(sampled(moved, md.Euler(5)).samples).all()


# Bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d, _: d.guided("much"), "scale: got 'much'; it takes a number"),
        (lambda d, _: d.guided(float("nan")), "scale: got nan"),
        (lambda d, _: d.guided(2.0, rescale=1.5), "rescale: got 1.5"),
        (lambda d, _: d.guided(2.0, interval=(3.0, 1.0)), "interval: got"),
        (lambda d, _: d.guided(2.0, [1]), "conditional: got .1."),
        (lambda d, _: d.guided(2.0, {}, {}, weak=d), "unconditional: got 'a mapping'; it takes None with weak="),
        (lambda d, _: d.guided(2.0).guided(2.0), "guided: got Denoiser"),
        (lambda d, _: d.guided(2.0, weak=d.guided(2.0)), "weak: got"),
        (lambda d, _: d.transformed(3), "function: got 3"),
        (lambda _, k: k.guided(2.0, {"f1": GIVEN}), "conditional of level f2: got None; it takes one for each"),
        (lambda _, k: k.guided(2.0, {"f1": GIVEN, "f2": 3}), "conditional of level f2: got 'int'"),
        (lambda _, k: k.guided(2.0, weak="f7"), "level: got 'f7'"),
        (lambda d, _: run(d.guided(2.0, {"text": text(0, 2)})), "level model: conditional\\['text'\\]: got"),
        (lambda d, _: run(d.transformed(lambda p, x, t: p[:1])), "level model: transform: got \\(1, 2\\)"),
    ],
)  # fmt: skip
def test_one_clear_error(denoiser, ladder, make, message):
    with pytest.raises(md.MultidriftError, match=message):
        make(denoiser, ladder)


def test_a_guider_that_was_in_a_run_is_refused(denoiser):
    used = ClassifierFreeGuidance()
    used.set_state(step=3, num_inference_steps=10, timestep=torch.tensor(5))
    with pytest.raises(md.MultidriftError, match="guider: got 'ClassifierFreeGuidance with the state of another run'"):
        denoiser.guided(used)


def test_a_level_out_of_memory_is_named(ddpm):
    def net(x, t):
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(md.MultidriftError, match="level big: out of memory on 3 rows at once; a lower batch_size="):
        sampled(md.Denoiser(net, ddpm, name="big", shape=(2,)), md.Euler(3))


def test_plans_hold_for_any_prompt_and_only_for_their_guidance(ladder):
    method = md.Multilevel(6, calls=(6, 3))
    plan = method.plan(ladder.guided(3.0, GIVEN, NEGATIVE))
    sampled(ladder.guided(3.0, {"text": text(5)}, NEGATIVE), plan)
    with pytest.raises(md.MultidriftError, match="plan: made for another level f1"):
        sampled(ladder.guided(2.0, GIVEN, NEGATIVE), plan)


def test_saving_does_not_lose_guidance_without_a_word(tmp_path):
    ladder = md.Ladder.bundled("digits")
    guided = ladder.guided(1.0)
    with pytest.raises(md.MultidriftError, match="level f1: has guidance or a transform"):
        guided.save(tmp_path / "ladder")
    assert np.isfinite(ladder["f1"].schedule.t_max)
