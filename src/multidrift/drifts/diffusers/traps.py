"""Why two networks are no levels of one ladder: the traps of families people know, and what holds of any.

Each function compares a level with the top one and says what is wrong, or None.
"""

from __future__ import annotations

from multidrift.basics.errors import MultidriftError
from multidrift.drifts.diffusers.facts import Facts


def check_levels(levels: dict[str, Facts], *, same_vae: bool) -> None:
    """Raise, naming the level, on the first thing in which one cannot share a ladder with the top level.

    `same_vae=False` lets pass VAEs that are scaled alike and have other weights.
    """
    top = list(levels)[-1]
    reasons = (*_REASONS, _vae_weights) if same_vae else _REASONS
    for name, facts in levels.items():
        said = next((why for why in (reason(facts, levels[top]) for reason in reasons) if why is not None), None)
        if said is not None:
            raise MultidriftError(f"level {name}: {said} (the top level is {top})")


def _wan(level: Facts, top: Facts) -> str | None:
    both = level.network == top.network == "WanTransformer3DModel"
    if not both or {level.channels, top.channels} != {16, 48}:
        return None
    return (
        f"latents of {level.channels} channels, not {top.channels}: Wan2.2 TI2V-5B has a VAE of its own, of 48, "
        "where Wan2.1 and Wan2.2 A14B share one of 16; it makes no ladder with them"
    )


def _cogvideox(level: Facts, top: Facts) -> str | None:
    both = level.network == top.network == "CogVideoXTransformer3DModel"
    if not both or level.vae is None or top.vae is None or level.vae.scales == top.vae.scales:
        return None
    scale, of_top = (vae.scales.get("scaling_factor") for vae in (level.vae, top.vae))
    return (
        f"its VAE scales latents by {scale}, not {of_top}: CogVideoX 2B (1.15258426) and 5B (0.7) do not share their "
        "latents, and their schedules differ in snr_shift_scale (3 and 1)"
    )


def _few_steps(level: Facts, top: Facts) -> str | None:
    if not level.few_steps and not top.few_steps:
        return None
    which = "it was" if level.few_steps else "the top level was"
    return (
        f"{which} distilled to a few fixed steps (is_distilled), which have no drift between them; FLUX.2 klein makes "
        "a ladder of the base weights of 4B and 9B"
    )


def _guided(level: Facts, top: Facts) -> str | None:
    if level.guided == top.guided:
        return None
    which = "it and not into the top level" if level.guided else "the top level and not into it"
    return (
        f"guidance is distilled into {which} (guidance_embeds), so that they are not two sizes of one function; FLUX.1 "
        "dev and schnell differ so"
    )


def _channels(level: Facts, top: Facts) -> str | None:
    if level.channels == top.channels:
        return None
    return f"latents of {level.channels} channels, not {top.channels}: their VAEs are two"


def _shape(level: Facts, top: Facts) -> str | None:
    if level.shape is None or top.shape is None or level.shape == top.shape:
        return None
    return f"made for latents {level.shape}, not {top.shape}; shape= says at which both are asked, where they can be"


def _vae_scales(level: Facts, top: Facts) -> str | None:
    if level.vae is None or top.vae is None or level.vae.scales == top.vae.scales:
        return None
    return f"its VAE scales latents by {dict(level.vae.scales)}, not {dict(top.vae.scales)}"


def _vae_weights(level: Facts, top: Facts) -> str | None:
    if level.vae is None or top.vae is None or level.vae.has_weights_of(top.vae):
        return None
    return (
        "its VAE has other weights than the top level's; same_vae=False takes them for one, where only decoders were "
        "finetuned"
    )


_REASONS = (_wan, _cogvideox, _few_steps, _guided, _channels, _shape, _vae_scales)
