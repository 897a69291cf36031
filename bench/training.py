"""A training step of the shipped nodule networks beside a plain PyTorch loop, in one process.

    python bench/training.py [--keep-heap] [--no-compile] [--rounds 60]

One step of examples/nodules_32.yaml is an update of the critic with its penalty, one of the
generator, both Adams and the average of weights, on a batch of bundled nodules:

    ours           `fastgan.train.Training.advance`, with its metrics and its watch for NaN
    plain-NCDHW    torch.nn modules, activations in place, autograd.grad, fused Adam, no metrics
    plain-NDHWC    the same in channels_last_3d
    compiled       its generator and both losses by torch.compile, the penalty by torch.func.grad,
                   channels_last_3d

All start from the same weights and see the same batches, latents and mixes; the losses of the first
steps must agree before a time is printed. Loops take turns, step by step. Writes
bench/results/<device>/training-<heap>.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import tempfile
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from turns import folder_of, in_turns, setting

from fastgan import config as configuration
from fastgan.cli.process import keep_freed_memory
from fastgan.data import open_dataset
from fastgan.models.critic import SPREAD_EPS
from fastgan.models.generator import HEADROOM
from fastgan.random import Draws
from fastgan.train import RunFolder, describe
from fastgan.train.build import variant_of
from fastgan.train.loop import Training
from fastgan.train.optim import lr_factor

LAST = torch.channels_last_3d
CHECKED_STEPS, TOLERANCE = 4, 5e-3


class PlainGenerator(nn.Module):
    """The generator of the example, of torch.nn modules and the weights of ours."""

    def __init__(self, ours: Any, form: torch.memory_format) -> None:
        super().__init__()
        self.embed, self.start = copy.deepcopy(ours.embed), copy.deepcopy(ours.start)
        first, second = ours.stages
        self.up, self.last = _plain(second.conv, form), _plain(ours.last, form)
        self.first = copy.deepcopy(first.affine)
        self.second = copy.deepcopy(second.norm_act.affine)
        self.grid, self.width, self.form = ours.grid, ours.width, form
        self.along = [_smoothing(8 * n) for n in ours.grid]

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        x = self.start(torch.cat([z, self.embed(labels)], 1))
        # The linear layer's features are in NDHWC order.
        x = x.view(-1, *self.grid, self.width).permute(0, 4, 1, 2, 3)
        x = x.contiguous(memory_format=self.form)
        x = self.last(_normed(self.up(_normed(x, self.first, labels)), self.second, labels))
        b, _, d, h, w = x.shape
        x = x.view(b, 2, 2, 2, d, h, w) if x.is_contiguous() else x.unflatten(1, (2, 2, 2))
        x = x.permute(0, 4, 1, 5, 2, 6, 3).reshape(b, 1, 2 * d, 2 * h, 2 * w)
        return HEADROOM * torch.tanh(self._smoothed(x))

    def _smoothed(self, x: Tensor) -> Tensor:
        """Three matrix products: half the time of shifted sums, there and back."""
        b, _, d, h, w = x.shape
        y = x.reshape(-1, w) @ self.along[2]
        y = self.along[1] @ y.view(b * d, h, w)
        return (self.along[0] @ y.view(b, d, h * w)).view(x.shape)


class PlainCritic(nn.Module):
    """Likewise the critic."""

    def __init__(self, ours: Any, form: torch.memory_format) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_plain(stage.conv, form) for stage in ours.stages)
        for conv, stage in zip(self.convs, ours.stages, strict=True):
            conv.bias = nn.Parameter(stage.norm_act.bias.detach().clone())
        self.head, self.embed = copy.deepcopy(ours.head), copy.deepcopy(ours.embed)
        self.form, self.group = form, ours.group

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        b, _, d, h, w = x.shape
        x = x.reshape(b, d // 2, 2, h // 2, 2, w // 2, 2).permute(0, 2, 4, 6, 1, 3, 5)
        x = x.reshape(b, 8, d // 2, h // 2, w // 2).contiguous(memory_format=self.form)
        for conv in self.convs:
            x = functional.leaky_relu_(conv(x), 0.2)
        features = x.permute(0, 2, 3, 4, 1).flatten(1)
        features = torch.cat([features, self._spread(features, labels)], 1)
        return self.head(features).squeeze(1) + (self.embed(labels) * features).sum(1)

    def _spread(self, features: Tensor, labels: Tensor) -> Tensor:
        """Standard deviation of each feature among the samples of a group and class."""
        members = features.view(-1, self.group, features.shape[1])
        classes = labels.view(-1, self.group)
        alike = (classes[:, :, None] == classes[:, None, :]).to(features.dtype)
        share = alike / alike.sum(2, keepdim=True)
        squares = share @ (members - share @ members).square()
        return (squares + SPREAD_EPS).sqrt().flatten(0, 1)


def _plain(ours: nn.Module, form: torch.memory_format) -> nn.Module:
    kind = nn.ConvTranspose3d if isinstance(ours, nn.ConvTranspose3d) else nn.Conv3d
    sizes = (ours.in_channels, ours.out_channels, ours.kernel_size)
    plain = kind(*sizes, stride=ours.stride, padding=1, bias=ours.bias is not None)
    plain.load_state_dict(ours.state_dict())
    return plain.to(memory_format=form)


def _smoothing(n: int) -> Tensor:
    """Symmetric [n, n]: half a voxel and a quarter of each neighbour, of a border itself."""
    matrix, i = 0.5 * torch.eye(n), torch.arange(n)
    for neighbour in (i - 1, i + 1):
        matrix[i, neighbour.clamp(0, n - 1)] += 0.25
    return matrix


def _normed(x: Tensor, affine: nn.Embedding, labels: Tensor) -> Tensor:
    """Conditional instance norm and ReLU."""
    weight, bias = affine(labels)[:, :, None, None, None].chunk(2, 1)
    return functional.relu_(torch.addcmul(bias, functional.instance_norm(x), weight))


class PlainLoop:
    """What a user writes without this project."""

    def __init__(
        self,
        variant: Any,
        dataset: Any,
        config: Any,
        form: torch.memory_format,
        compiled: bool = False,
    ) -> None:
        self.generator = PlainGenerator(variant.modules["generator"], form)
        self.critic = PlainCritic(variant.modules["critic"], form)
        self.average = [p.detach().clone() for p in self.generator.parameters()]
        self.config, self.dataset, self.form = config, dataset, form
        self.prior, self.latent = variant.labels, variant.latent_dim
        train = config.train
        self.rates = {"critic": train.lr_critic, "generator": train.lr_generator}
        self.adams = {
            name: torch.optim.Adam(net.parameters(), lr=1.0, betas=train.betas, fused=True)
            for name, net in (("critic", self.critic), ("generator", self.generator))
        }
        self.draws, self.step = Draws(config.seed), 0
        self.slope = self._slope_by_func if compiled else self._slope
        self.generate: Callable[..., Tensor] = self.generator
        if compiled:
            self.generate = torch.compile(self.generator, fullgraph=True)
            self.critic_loss = torch.compile(self.critic_loss, fullgraph=True)
            self.generator_loss = torch.compile(self.generator_loss, fullgraph=True)

    def critic_loss(self, real: Tensor, fake: Tensor, mix: Tensor, labels: Tensor) -> Tensor:
        both = torch.cat([real, fake])
        scores = self.critic(both, torch.cat([labels, labels]))
        loss = scores[len(real) :].mean() - scores[: len(real)].mean()
        penalty = (self.slope(mix, labels).flatten(1).norm(dim=1) - 1).square().mean()
        return loss + self.config.gan.penalty_weight * penalty

    def generator_loss(self, z: Tensor, labels: Tensor) -> Tensor:
        return -self.critic(self.generator(z, labels), labels).mean()

    def _slope(self, mix: Tensor, labels: Tensor) -> Tensor:
        mix = mix.requires_grad_()
        return torch.autograd.grad(self.critic(mix, labels).sum(), mix, create_graph=True)[0]

    def _slope_by_func(self, mix: Tensor, labels: Tensor) -> Tensor:
        return torch.func.grad(lambda x: self.critic(x, labels).sum())(mix)

    def advance(self) -> tuple[Tensor, Tensor]:
        """One step; the losses of critic and generator."""
        step, draws = self.step, self.draws
        size = self.config.train.batch_size
        batch = self.dataset.sample(size, draws.numpy(step, "batch/critic/0"))
        real, labels = batch.volumes, batch.labels
        z = draws.normal(step, "latent/critic/0", (size, self.latent))
        with torch.no_grad():
            fake = self.generate(z, labels)
        share = torch.rand(size, generator=draws.torch_generator(step, "mix/critic/0"))
        mix = torch.lerp(fake, real, share.view(-1, 1, 1, 1, 1))
        critic_loss = self.critic_loss(real, fake, mix, labels)
        self._update("critic", critic_loss)

        z = draws.normal(step, "latent/generator", (size, self.latent))
        drawn = self.prior.draw(size, draws.numpy(step, "labels/generator"))
        self.critic.requires_grad_(False)
        generator_loss = self.generator_loss(z, drawn)
        self._update("generator", generator_loss)
        self.critic.requires_grad_(True)
        with torch.no_grad():
            decay = min(self.config.train.ema_decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(self.average, list(self.generator.parameters()), 1 - decay)
        self.step += 1
        return critic_loss.detach(), generator_loss.detach()

    def _update(self, name: str, loss: Tensor) -> None:
        adam, train = self.adams[name], self.config.train
        adam.zero_grad(set_to_none=True)
        loss.backward()
        for parameter in adam.param_groups[0]["params"]:
            # The fused kernel walks memory.
            if parameter.grad is not None and parameter.grad.stride() != parameter.stride():
                parameter.grad = torch.empty_like(parameter).copy_(parameter.grad)
        adam.param_groups[0]["lr"] = self.rates[name] * lr_factor(
            self.step, train.steps, train.lr_decay
        )
        adam.step()


def loops(folder: Path, compiled: bool) -> tuple[Training, dict[str, PlainLoop]]:
    with as_file(files("fastgan.examples") / "nodules_32.yaml") as path:
        config = configuration.load(path)
    config.train.precision = "float32"
    dataset = open_dataset(config.data, "train")
    variant = variant_of(config, describe(dataset))
    plain = {
        "plain-NCDHW": PlainLoop(variant, dataset, config, torch.contiguous_format),
        "plain-NDHWC": PlainLoop(variant, dataset, config, LAST),
    }
    if compiled:
        plain["compiled"] = PlainLoop(variant, dataset, config, LAST, compiled=True)
    run = RunFolder.create(folder, config, describe(dataset))
    ours = Training(variant, dataset, config, run, torch.device("cpu"))
    return ours, plain


def check(ours: Training, plain: dict[str, PlainLoop]) -> None:
    """The losses of the first steps agree."""
    for step in range(CHECKED_STEPS):
        ours.advance()
        metrics = ours.metrics()
        expected = [metrics["critic/loss"], metrics["generator/loss"]]
        scale = max(map(abs, expected))
        for name, loop in plain.items():
            for found, known in zip(loop.advance(), expected, strict=True):
                if not abs(found.item() - known) <= TOLERANCE * scale:
                    raise SystemExit(f"{name}: loss {found.item()} at step {step}, ours {known}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep-heap", action="store_true", help="freed memory is kept, for all")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    heap = "kept" if args.keep_heap and keep_freed_memory() else "default"
    with tempfile.TemporaryDirectory() as folder:
        ours, plain = loops(Path(folder), not args.no_compile)
        name, batch = ours.config.name, ours.config.train.batch_size
        check(ours, plain)
        facts = setting()
        runs: dict[str, Any] = {"ours": ours, **plain}
        times = in_turns({key: loop.advance for key, loop in runs.items()}, args.rounds)
    for key, t in times.items():
        print(f"{key:14}{t['median']:9.1f}{t['min']:9.1f} ms")
    for which in ("median", "min"):
        best = min(t[which] for key, t in times.items() if key != "ours")
        print(f"{best / times['ours'][which]:.2f}x the best plain loop ({which})")
    report = facts | {
        "heap": heap,
        "load after": os.getloadavg()[0],
        "workload": f"{name}, a full step of batch {batch}, float32",
        "rounds": args.rounds,
        "milliseconds": {"training step": times},
    }
    path = folder_of(args.out) / f"training-{heap}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
