"""Ladders from pipelines: what fits together samples, what does not is named."""

import re
from dataclasses import replace

import diffusers
import pytest
import torch
from tests import tiny

import multidrift as md

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::multidrift.methods.advice.PlanWarning"),
]


def vae(seed=0, scale=0.18215, channels=4):
    torch.manual_seed(seed)
    return diffusers.AutoencoderKL(
        3, 3, latent_channels=channels, block_out_channels=(4,), norm_num_groups=2, scaling_factor=scale
    )


def sd(made, autoencoder=None):
    return diffusers.StableDiffusionPipeline(
        vae=autoencoder or vae(), text_encoder=None, tokenizer=None, unet=made.net, scheduler=made.scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def wan(made):
    return diffusers.WanPipeline(
        tokenizer=None, text_encoder=None, vae=None, transformer=made.net, scheduler=made.scheduler
    )


def cogvideox(scale):
    made = tiny.cogvideox()
    pipeline = diffusers.CogVideoXPipeline(
        tokenizer=None, text_encoder=None, vae=None, transformer=made.net, scheduler=made.scheduler
    )
    pipeline.vae = vae(scale=scale)
    return pipeline


def flux2(*, distilled):
    made = tiny.flux2()
    encoder = diffusers.AutoencoderKLFlux2(
        block_out_channels=(4,) * 4, layers_per_block=1, latent_channels=4, norm_num_groups=2, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    return diffusers.Flux2KleinPipeline(
        vae=encoder, text_encoder=None, tokenizer=None, transformer=made.net, scheduler=made.scheduler,
        is_distilled=distilled,
    )  # fmt: skip


def test_pipelines_and_folders_make_a_ladder(tmp_path):
    small, big = tiny.sd(), tiny.sd(seed=1, layers_per_block=2)
    sd(small).save_pretrained(tmp_path / "small")
    sd(big).save_pretrained(tmp_path / "big", variant=None)
    ladder = md.Ladder.from_diffusers([tmp_path / "small", str(tmp_path / "big")])
    assert ladder.names == ("small", "big")
    other = md.Ladder.from_diffusers([sd(small), sd(big)], names=("small", "big"))
    assert [level.fingerprint for level in other] == [level.fingerprint for level in ladder]
    mixed = md.Ladder.from_diffusers([tmp_path / "small", sd(big)], names=("small", "big"))
    conditioning, method = small.conditioning(2), md.Multilevel(6, levels=("small", "big"), calls=(6, 3))
    found = [md.sample(model, method, count=2, conditioning=conditioning).samples for model in (ladder, other, mixed)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_levels_of_other_schedules_are_matched():
    """A flow and a chain on one ladder: the flow's schedule, and each network at its own times."""
    chain, flow = tiny.sd(), tiny.sana()
    ladder = md.Ladder.from_diffusers(
        [(chain.net, chain.scheduler), (flow.net, flow.scheduler)], names=("chain", "flow")
    )
    assert ladder.schedule == md.schedules.flow(1000.0, shift=3.0)
    x, conditioning = torch.randn(2, 4, 8, 8), chain.conditioning(2)
    alone = md.Denoiser.from_diffusers(chain.net, chain.scheduler)
    place = 0.4
    t, own = float(ladder.schedule.time(place)), float(alone.schedule.time(place))
    scale = float(alone.schedule.sigma(own) / ladder.schedule.sigma(t))
    with torch.no_grad():
        found = ladder["chain"].predict(x, t, "sample", conditioning)
        wanted = alone.predict(x * scale, own, "sample", conditioning)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_another_shift_and_another_prediction_are_no_matter():
    low, top = tiny.sd3(shift=1.0), tiny.sd3(seed=1, shift=3.0)
    ladder = md.Ladder.from_diffusers([(low.net, low.scheduler), (top.net, top.scheduler)], names=("low", "top"))
    assert ladder["low"].schedule == ladder["top"].schedule == md.schedules.flow(1000.0, shift=3.0)
    v = tiny.sd(scheduler=diffusers.DDIMScheduler(**tiny.LATENT, prediction_type="v_prediction"))
    epsilon = tiny.sd()
    ladder = md.Ladder.from_diffusers([(v.net, v.scheduler), (epsilon.net, epsilon.scheduler)], names=("v", "ε"))
    assert (ladder["v"].predicts, ladder["ε"].predicts) == ("v_prediction", "epsilon")


def test_check_asks_the_networks(tmp_path):
    made = tiny.sd()
    ladder = md.Ladder.from_diffusers([sd(made), sd(made)], names=("a", "b"))
    ladder.check(conditioning=made.conditioning(3))
    other = tiny.sd(seed=9)
    wrong = md.Ladder.from_diffusers([sd(other), sd(made)], names=("a", "b"))
    with pytest.raises(md.MultidriftError, match="level a: at t = .* away from b's"):
        wrong.check(conditioning=made.conditioning(3))


def pairs(*levels):
    return [(made.net, made.scheduler) for made in levels]


REFUSED = {
    "channels": (
        lambda: pairs(tiny.sd(in_channels=8, out_channels=8), tiny.sd()),
        "latents of 8 channels, not 4: their",
    ),
    "sizes": (lambda: pairs(tiny.sd(sample_size=16), tiny.sd()), "made for latents (4, 16, 16), not (4, 8, 8); shape="),
    "scales": (
        lambda: [sd(tiny.sd(), vae(scale=0.13)), sd(tiny.sd())],
        "its VAE scales latents by {'scaling_factor': 0.13}",
    ),
    "weights": (lambda: [sd(tiny.sd(), vae(seed=1)), sd(tiny.sd())], "its VAE has other weights than the top level's"),
    "Wan": (lambda: pairs(tiny.wan(channels=48), tiny.wan(channels=16)), "Wan2.2 TI2V-5B has a VAE of its own"),
    "CogVideoX": (lambda: [cogvideox(1.15258426), cogvideox(0.7)], "CogVideoX 2B (1.15258426) and 5B (0.7)"),
    "klein": (lambda: [flux2(distilled=True), flux2(distilled=False)], "it was distilled to a few fixed steps"),
    "schnell": (
        lambda: pairs(tiny.flux(), tiny.flux(guidance=True)),
        "guidance is distilled into the top level and not into it",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_traps_have_their_own_words(name):
    make, said = REFUSED[name]
    with pytest.raises(md.MultidriftError, match=re.escape(said)) as raised:
        md.Ladder.from_diffusers(make(), names=("low", "top"))
    assert str(raised.value).startswith("level low: ")
    assert str(raised.value).endswith("(the top level is top)")


def test_what_the_caller_answers_for():
    finetuned = [sd(tiny.sd(), vae(seed=1)), sd(tiny.sd())]
    assert len(md.Ladder.from_diffusers(finetuned, names=("low", "top"), same_vae=False)) == 2
    sizes = pairs(tiny.sd(sample_size=16), tiny.sd())
    assert md.Ladder.from_diffusers(sizes, names=("low", "top"), shape=(4, 8, 8)).shape == (4, 8, 8)


def test_half_precision_is_the_same_vae(tmp_path):
    sd(tiny.sd()).to(torch.float16).save_pretrained(tmp_path / "half")
    assert len(md.Ladder.from_diffusers([tmp_path / "half", sd(tiny.sd())], names=("half", "full"))) == 2


def test_text_of_another_encoder_is_named():
    low, top = tiny.flux2(), tiny.flux2(seed=1)
    ladder = md.Ladder.from_diffusers(pairs(low, top), names=("4B", "9B"), shape=top.shape)
    other = replace(top, widths={"encoder_hidden_states": (5, 12)}).conditioning(2)
    with pytest.raises(md.MultidriftError, match="got width 12; Flux2Transformer2DModel takes 8, of its own text"):
        md.sample(ladder, md.Euler(4), count=2, conditioning=other)


def test_two_networks_in_one_pipeline_and_bad_lists():
    made = tiny.wan()
    pipeline = wan(made)
    pipeline.transformer_2 = made.net
    with pytest.raises(md.MultidriftError, match="got WanPipeline with two networks, for more and for less noise"):
        md.Denoiser.from_diffusers(pipeline)
    with pytest.raises(md.MultidriftError, match="names: got .'model', 'model'.; it takes one name a level"):
        md.Ladder.from_diffusers(pairs(made, made))
    with pytest.raises(md.MultidriftError, match="models: got \\[\\]; it takes at least one pipeline"):
        md.Ladder.from_diffusers([])
