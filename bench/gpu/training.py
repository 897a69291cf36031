"""Whole training steps: critic updates with their penalty, the generator's, Adams, the average.

`fastgan.gans` makes the phases, as in `fastgan train`; loop and optimisers are written out here,
because a bare machine lacks what a run folder and a configuration need. The peer is a plain loop of
torch.nn modules with as many parameters.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import penalty as stock
import torch
from torch import Tensor, nn

from bench.gpu.clock import Clock, Row, Run, Setting, forced
from bench.gpu.critic import LAST, mixed
from fastgan.gans import AdversarialGAN, AdversarialSettings
from fastgan.models import build_critic, build_generator
from fastgan.ops.implementations import dispatch
from fastgan.random import Draws

LATENT, DECAY = 128, 0.999


class Size(NamedTuple):
    """Of volumes, batch and networks."""

    side: int
    batch: int
    generator: tuple[int, ...]
    critic: tuple[int, ...]
    critic_steps: int


SIZES = [
    Size(32, 16, (256, 128, 64), (64, 128, 256), 5),
    Size(128, 8, (256, 128, 64, 32, 16), (16, 32, 64, 128, 256), 1),
]
QUICK = [Size(8, 2, (8, 4), (4, 8), 2), Size(16, 2, (8, 8, 4), (4, 8, 8), 1)]


class Real(NamedTuple):
    """A batch that lies on the device already."""

    volumes: Tensor  # [B, 1, D, H, W]
    labels: None = None


def rows(setting: Setting) -> Iterator[Row]:
    """Each size and provider."""
    clock = Clock(setting.device, setting.quick, budget=3.0)
    sizes = QUICK if setting.quick else SIZES
    # What may hold kernels of minutes, or has to be compiled, comes last.
    for stage in ("own", "peer", "compiled"):
        for size, (name, build, belongs) in ((s, p) for s in sizes for p in _providers(s, setting)):
            if belongs != stage:
                continue
            row: Row = {"size": size.side, "batch": size.batch, "critic steps": size.critic_steps}
            row["provider"] = name
            try:
                run = build()
                losses = run()
                if not bool(torch.stack([t.float() for t in losses]).isfinite().all()):
                    yield row | {"problem": "a loss is not finite"}
                    continue
                ms = clock({name: run})[name]
                seen = size.batch * size.critic_steps
                yield row | {"ms": ms, "real volumes a second": 1e3 * seen / ms}
            except Exception as problem:
                yield row | {"problem": f"{type(problem).__name__}: {str(problem)[:300]}"}
            finally:
                run = losses = None  # type: ignore[assignment]
                gc.collect()


def _providers(size: Size, setting: Setting) -> Iterator[tuple[str, Callable[[], Run], str]]:
    """Name, what makes a step by it, and its stage."""
    probe = torch.empty(1, 1, 2, 2, 2, device=setting.device)
    names = dispatch.implementations("norm_act", probe)

    def own(name: str) -> Run:
        return forced(ours(size, setting.device), name)

    yield "reference", partial(own, "reference"), "own"
    if "native" in names:
        yield "native", partial(own, "native"), "own"
    for layout, form in (("NDHWC", LAST), ("NCDHW", torch.contiguous_format)):
        yield f"stock {layout}", partial(plain, size, form, setting.device), "peer"
    if "triton" in names and setting.device.type == "cuda":
        yield "triton", partial(own, "triton"), "compiled"


def ours(size: Size, device: torch.device) -> Run:
    """A step by the phases of WGAN-GP."""
    torch.manual_seed(0)
    shape = (size.side,) * 3
    generator = build_generator(
        architecture="dcgan",
        shape=shape,
        latent_dim=LATENT,
        generator_channels=size.generator,
        norm="instance",
    )
    critic = build_critic(
        architecture="dcgan", shape=shape, critic_channels=size.critic, norm="instance"
    )
    settings = AdversarialSettings(critic_steps=size.critic_steps)
    gan = AdversarialGAN(generator, critic, settings)
    gan.to(device)
    real = Real(torch.rand(size.batch, 1, *shape, device=device) * 2 - 1)
    step = Step(generator, critic, device)
    draws, done = Draws(0), 0

    def run() -> list[Tensor]:
        nonlocal done
        losses = []
        for phase in gan.phases(done, lambda purpose: real, draws):
            step.only(phase.name)
            losses.append(step.update(phase.name, lambda phase=phase: phase.loss()[0]))
        step.average()
        done += 1
        return losses

    return run


class Step:
    """Optimisers and average of both loops."""

    def __init__(self, generator: nn.Module, critic: nn.Module, device: torch.device) -> None:
        self.networks = {"generator": generator, "critic": critic}
        self.device = device
        settings = AdversarialSettings().optimisers()
        self.adams = {}
        for name, net in self.networks.items():
            adam = settings[name]
            betas = (adam.beta1, adam.beta2)
            self.adams[name] = torch.optim.Adam(
                net.parameters(), lr=adam.lr, betas=betas, fused=True
            )
        self.averages = copy.deepcopy(list(generator.parameters()))

    def only(self, name: str) -> None:
        for other, net in self.networks.items():
            net.requires_grad_(other == name)

    def update(self, name: str, loss: Callable[[], Tensor]) -> Tensor:
        adam = self.adams[name]
        adam.zero_grad(set_to_none=True)
        value: Tensor = mixed(loss, self.device)()
        value.backward()
        for parameter in adam.param_groups[0]["params"]:
            # The fused kernel walks memory.
            if parameter.grad is not None and parameter.grad.stride() != parameter.stride():
                parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)
        adam.step()
        return value.detach()

    def average(self) -> None:
        with torch.no_grad():
            live = list(self.networks["generator"].parameters())
            torch._foreach_lerp_(self.averages, live, 1 - DECAY)


class PlainGenerator(nn.Module):
    """A DCGAN of torch.nn modules."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.width = size.generator[0]
        self.side = size.side >> len(size.generator)
        self.start = nn.Linear(LATENT, self.width * self.side**3)
        layers: list[nn.Module] = [nn.InstanceNorm3d(self.width, affine=True), nn.ReLU(True)]
        for before, after in zip(size.generator, size.generator[1:], strict=False):
            layers.append(nn.ConvTranspose3d(before, after, 4, 2, 1, bias=False))
            layers += [nn.InstanceNorm3d(after, affine=True), nn.ReLU(True)]
        last = nn.ConvTranspose3d(size.generator[-1], 1, 4, 2, 1)
        self.stages = nn.Sequential(*layers, last, nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        x = self.start(z).view(-1, self.width, self.side, self.side, self.side)
        x = x.contiguous(memory_format=memory_format(self.stages))
        volumes: Tensor = self.stages(x)
        return volumes


def memory_format(net: nn.Module) -> torch.memory_format:
    weight = next(p for p in net.parameters() if p.dim() == 5 and p.shape[1] > 1)
    return LAST if weight.is_contiguous(memory_format=LAST) else torch.contiguous_format


def plain(size: Size, form: torch.memory_format, device: torch.device) -> Run:
    """What a user writes without this project."""
    torch.manual_seed(0)
    shape = (size.side,) * 3
    like = build_critic(
        architecture="dcgan", shape=shape, critic_channels=size.critic, norm="instance"
    )
    critic: nn.Module = stock.stock_critic(like, size.side, "instance", False, size.critic)
    generator = PlainGenerator(size)
    for net in (generator, critic):
        net.to(device, memory_format=form)
    real = torch.rand(size.batch, 1, *shape, device=device) * 2 - 1
    step = Step(generator, critic, device)

    def latents() -> Tensor:
        return torch.randn(size.batch, LATENT, device=device)

    def critic_loss() -> Tensor:
        with torch.no_grad():
            fake = generator(latents()).float()
        share = torch.rand(size.batch, 1, 1, 1, 1, device=device)
        penalty = stock.by_autograd(critic, torch.lerp(fake, real, share))
        loss: Tensor = critic(fake).mean() - critic(real).mean() + stock.WEIGHT * penalty
        return loss

    def generator_loss() -> Tensor:
        loss: Tensor = -critic(generator(latents())).mean()
        return loss

    def run() -> list[Any]:
        step.only("critic")
        losses = [step.update("critic", critic_loss) for _ in range(size.critic_steps)]
        step.only("generator")
        losses.append(step.update("generator", generator_loss))
        step.average()
        return losses

    return run
