"""Train the levels of a ladder: every level on the same data, the same batches and the same recipe."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DModel
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from multidrift.basics.errors import MultidriftError, require
from multidrift.basics.files import write_whole, writing
from multidrift.basics.json_files import parse_json
from multidrift.basics.reading import check_file
from multidrift.basics.version import __version__
from multidrift.schedules.chain import Discrete
from multidrift.training.settings import Progress, TrainingSettings
from multidrift.training.sizes import Size

CHECKPOINT = "checkpoint.safetensors"


def unet(size: Size, image_shape: tuple[int, int, int]) -> UNet2DModel:
    """The network of one level: a plain diffusers U-Net for images [channels, height, width]."""
    channels, height, width = image_shape
    factor = 2 ** (len(size.channels) - 1)
    divisible = height % factor == 0 and width % factor == 0
    require(divisible, "images", f"{height}×{width}", f"a height and width divisible by {factor}")
    return UNet2DModel(
        sample_size=(height, width),
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=size.channels,
        norm_num_groups=4,
        down_block_types=("DownBlock2D",) * len(size.channels),
        up_block_types=("UpBlock2D",) * len(size.channels),
        add_attention=False,
    )


class LevelTrainer:
    """One level in training: the network, its optimiser and its moving average, all resumable.

    Step n draws its batch from (seed, n) alone, so a resumed run continues exactly where the killed one was
    and every level sees the same batches.
    """

    def __init__(
        self, size: Size, schedule: Discrete, images: Tensor, settings: TrainingSettings, device: torch.device
    ) -> None:
        self.size, self.settings, self.device, self.images = size, settings, device, images
        self.schedule = schedule
        torch.manual_seed(settings.seed)  # the networks initialise themselves from torch's global generator
        self.network = unet(size, _image_shape(images)).to(device).train()
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=size.learning_rate, weight_decay=0.0)
        self.average = EMAModel(self.network.parameters(), decay=settings.ema_decay)
        self.step = 0
        times = np.arange(schedule.training_steps)
        self.alpha = torch.from_numpy(schedule.alpha(times)).float()
        self.sigma = torch.from_numpy(schedule.sigma(times)).float()

    def run(self, folder: Path) -> Iterator[Progress]:
        """Train to the end, writing checkpoints to `folder`; yields after every step."""
        self.resume(folder)
        while self.step < self.settings.steps:
            loss = self._train_step()
            if self.step % self.settings.checkpoint_every == 0 or self.step == self.settings.steps:
                self.save(folder)
            yield Progress(self.size.name, self.step, self.settings.steps, loss)

    def _batch(self) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.step)
        count = self.settings.batch_size
        rows = torch.randint(len(self.images), (count,), generator=generator)
        # One time from each of `count` equal strata: the same law, a steadier gradient.
        strata = (torch.arange(count) + torch.rand(count, generator=generator)) / count
        times = (strata * len(self.alpha)).long().clamp(max=len(self.alpha) - 1)
        noise = torch.randn((count, *self.images.shape[1:]), generator=generator)
        return self.images[rows], times, noise

    def _train_step(self) -> float:
        images, times, noise = self._batch()
        noisy = self.alpha[times].view(-1, 1, 1, 1) * images + self.sigma[times].view(-1, 1, 1, 1) * noise
        for group in self.optimiser.param_groups:
            group["lr"] = self.size.learning_rate * self._warm_cosine()
        noisy, times, noise = (tensor.to(self.device) for tensor in (noisy, times, noise))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.half_precision):
            prediction = self.network(noisy, times).sample
        loss = (prediction.float() - noise).square().mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.average.step(self.network.parameters())
        self.step += 1
        value = float(loss.detach())
        if not math.isfinite(value):
            raise MultidriftError(f"training {self.size.name}: the loss is {value} at step {self.step}")
        return value

    def _warm_cosine(self) -> float:
        if self.step < self.settings.warmup:
            return (self.step + 1) / self.settings.warmup
        share = (self.step - self.settings.warmup) / max(1, self.settings.steps - self.settings.warmup)
        return 0.5 * (1.0 + math.cos(math.pi * share))

    def averaged(self) -> UNet2DModel:
        """The network with the moving average of its weights, for use."""
        network = UNet2DModel.from_config(self.network.config)
        self.average.copy_to(network.parameters())
        return network.eval()

    def save(self, folder: Path) -> None:
        """Write the whole training state; a kill leaves the old file or the new one, never half of one."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"average.{i}": v for i, v in enumerate(self.average.shadow_params)}
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{k}": v for k, v in moments.items()}
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        with writing(folder, "checkpoint"):
            folder.mkdir(parents=True, exist_ok=True)
        metadata = {
            "step": str(self.step),
            "recipe": json.dumps(self._recipe),
            "digest": _digest(tensors, str(self.step)),
        }
        write_whole(folder / CHECKPOINT, lambda partial: save_file(tensors, partial, metadata=metadata))

    def resume(self, folder: Path) -> None:
        """Continue from the checkpoint in `folder`, if there is one made with the same recipe."""
        file = folder / CHECKPOINT
        if not file.exists():
            return
        metadata, tensors = _read_checkpoint(file)
        self._check_recipe(file, parse_json(metadata["recipe"].encode(), str(file)))
        try:
            self._restore(int(metadata["step"]), tensors)
        except (KeyError, ValueError, RuntimeError) as error:
            raise MultidriftError(f"{file}: is damaged ({error}); remove it to train from the start") from error

    def _restore(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        self.network.load_state_dict(_under("network.", tensors))
        shadow = _under("average.", tensors)
        self.step = step
        self.average.shadow_params = [shadow[str(i)].to(self.device) for i in range(len(shadow))]
        self.average.optimization_step = self.step
        state = self.optimiser.state_dict()
        state["state"] = {}
        for name, value in _under("optimiser.", tensors).items():
            index, key = name.split(".")
            state["state"].setdefault(int(index), {})[key] = value
        self.optimiser.load_state_dict(state)

    @cached_property
    def _recipe(self) -> dict[str, object]:
        """All that the state after a step depends on: a run with another recipe does not go on from here."""
        recipe: dict[str, object] = {n: v for n, v in asdict(self.settings).items() if n != "checkpoint_every"}
        images = hashlib.sha256(self.images.contiguous().numpy().data).hexdigest()[:16]
        return (
            recipe
            | {
                "channels": list(self.size.channels),
                "learning_rate": self.size.learning_rate,
                "shape": list(self.images.shape),
                "images": images,  # in their order, which the batches are drawn by
                "schedule": hashlib.sha256(json.dumps(self.schedule.to_dict()).encode()).hexdigest()[:16],
                "version": __version__,
            }
        )

    def _check_recipe(self, file: Path, found: object) -> None:
        made = found if isinstance(found, dict) else {}
        other = [name for name in self._recipe if made.get(name) != self._recipe[name]]
        if other:
            listed = ", ".join(f"{name} {made.get(name)!r}, now {self._recipe[name]!r}" for name in other)
            raise MultidriftError(f"{file}: made with other settings ({listed}); repeat them, or remove it")


def _image_shape(images: Tensor) -> tuple[int, int, int]:
    channels, height, width = images.shape[1:]
    return channels, height, width


def _read_checkpoint(file: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors, as they were written."""
    check_file(file, "checkpoint")
    try:
        with safe_open(file, framework="pt") as checkpoint:
            metadata: dict[str, str] = checkpoint.metadata() or {}
            tensors = {name: checkpoint.get_tensor(name) for name in checkpoint.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise MultidriftError(f"{file}: is damaged ({error}); remove it to train from the start") from error
    missing = sorted({"step", "recipe", "digest"} - metadata.keys())
    if missing:
        raise MultidriftError(f"{file}: is no checkpoint of this version (no {missing[0]}); remove it")
    if _digest(tensors, metadata["step"]) != metadata["digest"]:
        raise MultidriftError(f"{file}: is damaged (its hash differs); remove it to train from the start")
    return metadata, tensors


def _digest(tensors: Mapping[str, Tensor], step: str) -> str:
    """A hash of every tensor, its name, and the step."""
    digest = hashlib.sha256(step.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {list(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
