"""What every family of networks shares: a network of diffusers that is called as net(x, t, **conditioning)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Protocol, cast

import torch
from torch import Tensor

from multidrift.basics.errors import MultidriftError, require

Shape = tuple[int, ...]


class Network(Protocol):
    """The part of a diffusers network that adapters use."""

    config: Mapping[str, object]
    dtype: torch.dtype

    def __call__(self, *args: object, **kwargs: object) -> tuple[Tensor, ...]: ...


class Family(ABC):
    """A network whose forward takes other things than (x, t): a subclass says which, for one family.

    - `classes`: names of the diffusers classes it serves
    - `needs`: conditioning without which the network cannot be called
    - `text_width`: the setting of the config that has the width of `encoder_hidden_states`
    - `per_row`: conditioning with a row a sample: one row serves all samples, floats are cast to the network's dtype

    All other conditioning is passed to the network's forward as it is.
    """

    classes: ClassVar[tuple[str, ...]]
    needs: ClassVar[tuple[str, ...]] = ()
    per_row: ClassVar[tuple[str, ...]] = ()
    text_width: ClassVar[str | None] = None

    def __init__(self, network: Network) -> None:
        self.network = network

    def __repr__(self) -> str:
        return f"{type(self).__name__}({class_of(self.network)})"

    def __call__(self, x: Tensor, t: Tensor, **conditioning: object) -> Tensor:
        """The prediction at latents x [n, …] and times t [n] of the scheduler, shaped like x."""
        self._check(conditioning)
        for name in self.per_row:
            if name in conditioning:
                conditioning[name] = _fitted(conditioning[name], x)
        return without_variance(self.forward(x, t, conditioning), x)

    def _check(self, conditioning: Mapping[str, object]) -> None:
        """Raise where conditioning is missing, or a text is another encoder's."""
        kind = class_of(self.network)
        for name in self.needs:
            if conditioning.get(name) is None:
                given = ", ".join(conditioning) or "nothing"
                raise MultidriftError(f"conditioning: got {given}; {kind} takes {', '.join(self.needs)}")
        text, width = conditioning.get("encoder_hidden_states"), self.setting(self.text_width or "")
        if isinstance(text, Tensor) and isinstance(width, int) and text.shape[-1] != width:
            raise MultidriftError(
                f"conditioning['encoder_hidden_states']: got width {text.shape[-1]}; {kind} takes {width}, of its own "
                "text encoder"
            )

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in."""
        return self.network.dtype

    @abstractmethod
    def forward(self, x: Tensor, t: Tensor, conditioning: dict[str, object]) -> Tensor:
        """The network's output, called as its pipeline calls it."""

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return self.number("in_channels")

    @property
    def shape(self) -> Shape | None:
        """One sample's shape, where the config knows it."""
        return square(self.setting("sample_size"), self.channels)

    def tokens(self, shape: Shape) -> int | None:
        """The length of an image's sequence in the network, which flows that shift by resolution go by."""
        del shape
        return None

    def shift(self, shape: Shape) -> float | None:
        """The shift of a flow whose pipeline sets another one than its scheduler's config says; None elsewhere."""
        del shape
        return None

    def unpacked(self, latents: Tensor, shape: Shape) -> Tensor:
        """The pipeline's latents as states [n, *shape]; the same for networks that do not pack them."""
        del shape
        return latents

    def packed(self, x: Tensor) -> Tensor:
        """States as the pipeline's latents: the inverse of `unpacked`."""
        return x

    def setting(self, name: str) -> object:
        """A value of the network's config, None where it has none."""
        return self.network.config.get(name)

    def number(self, name: str) -> int:
        """A count in the network's config."""
        value = self.setting(name)
        if not isinstance(value, int):
            raise MultidriftError(f"model: {class_of(self.network)}'s config has no number {name!r}")
        return value


def class_of(network: object) -> str:
    """The class of a network, also of one within `torch.compile`'s wrapper."""
    return type(getattr(network, "_orig_mod", network)).__name__


def without_variance(output: Tensor, x: Tensor) -> Tensor:
    """The prediction alone of a network that also predicts a variance, in channels of their own."""
    learned = output.ndim == x.ndim and output.shape[1] == 2 * x.shape[1]
    return output[:, : x.shape[1]] if learned else output


def with_extra_channels(x: Tensor, conditioning: dict[str, object], taken: int) -> Tensor:
    """States with the `extra_channels` of the conditioning behind their own, for a network that takes so many."""
    extra, missing = conditioning.pop("extra_channels", None), taken - x.shape[1]
    if extra is None and not missing:
        return x
    right = isinstance(extra, Tensor) and extra.shape[1] == missing
    described = tuple(extra.shape) if isinstance(extra, Tensor) else extra
    require(right, "conditioning['extra_channels']", described, f"a tensor with {missing} channels")
    assert isinstance(extra, Tensor)
    return torch.cat((x, extra), dim=1)


def square(size: object, channels: int) -> Shape | None:
    """(channels, height, width) of a config's `sample_size`, a number or two; None where there is none."""
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else cast("tuple[int, int]", tuple(cast("list[int]", size)))
    return (channels, int(height), int(width))


def _fitted(value: object, x: Tensor) -> object:
    """Conditioning with a row a sample and in the dtype of x, also within a mapping."""
    if isinstance(value, Mapping):
        return {name: _fitted(inner, x) for name, inner in value.items()}
    if not isinstance(value, Tensor):
        return value
    value = value.to(x.device, x.dtype if value.is_floating_point() else value.dtype)
    alone = value.ndim > 0 and len(value) == 1 != len(x)
    return value.expand(len(x), *value.shape[1:]) if alone else value


def filled(value: object, x: Tensor) -> Tensor:
    """A number, or a tensor of one or n numbers, as float32 [n]; a number without waiting for the device."""
    if isinstance(value, Tensor):
        return value.to(x.device, torch.float32).expand(len(x))
    return torch.full((len(x),), float(cast("float", value)), device=x.device)
