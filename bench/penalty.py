"""The gradient penalty and the critic's step beside stock PyTorch, in one process.

    python bench/penalty.py [--keep-heap] [--no-compile] [--size 64] [--rounds 9] [--norm none]

Writes bench/results/<device>/penalty-<heap>.json (with one norm, into the file of the other one,
where that was measured likewise): milliseconds, medians and minima, of

    ours             a critic of fastgan.models, channels_last_3d
    eager-NCDHW      the same critic of torch.nn modules
    eager-NDHWC      likewise, channels_last_3d, activation in place
    compiled         torch.compile of the torch.func.grad form, channels_last_3d

the time of our penalty beside that of its bare convolution passes, which take the same turns: the
operators, sizes and kernels that it runs, on the tensors that it ran them on, and nothing else;

and the most memory, in MiB, that PyTorch held at once beside what it held before (buffers inside
libraries and kernels are not seen).

Each provider's gradients are compared with ours before it is timed. Providers take turns, so that a
disturbance of the machine meets all of them; the load is written beside the times.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from turns import Times, folder_of, in_turns, setting

from fastgan import ops
from fastgan.cli.process import keep_freed_memory
from fastgan.models import build_critic
from fastgan.ops import conv3d_passes

CHANNELS, BATCH, WEIGHT = (16, 32, 64, 128), 2, 10.0
# Largest difference of a gradient from ours, over its largest value. Rounding moves the slope where
# a float32 value lies at the kink, so this tells a wrong formula from a right one and no more.
TOLERANCE = 2e-2
BARE = "bare passes"
NORMS = ("none", "instance")
Step = Callable[[], list[Tensor]]


def stock_critic(
    ours: nn.Module,
    size: int,
    norm: str,
    inplace: bool,
    channels: tuple[int, ...] = CHANNELS,
) -> nn.Sequential:
    """The critic of torch.nn, with the weights of ours."""
    layers: list[nn.Module] = []
    for index, after in enumerate(channels):
        before = channels[index - 1] if index else 1
        normed = bool(index) and norm == "instance"
        layers.append(nn.Conv3d(before, after, 4, 2, 1, bias=not normed))
        if normed:
            layers.append(nn.InstanceNorm3d(after, affine=True))
        layers.append(nn.LeakyReLU(0.2, inplace=inplace))
    side = size >> len(channels)
    net = nn.Sequential(*layers, nn.Conv3d(channels[-1], 1, side))
    parts = [m for m in net if not isinstance(m, nn.LeakyReLU)]
    with torch.no_grad():
        for stage in ours.stages:
            conv = parts.pop(0)
            conv.weight.copy_(stage.conv.weight)
            if stage.norm_act.norm == "none":
                conv.bias.copy_(stage.norm_act.bias)
            else:
                normed_part = parts.pop(0)
                normed_part.weight.copy_(stage.norm_act.weight)
                normed_part.bias.copy_(stage.norm_act.bias)
        head = ours.head.weight.view(1, side, side, side, channels[-1])
        parts[0].weight.copy_(head.permute(0, 4, 1, 2, 3))
        parts[0].bias.copy_(ours.head.bias)
    return net


def by_autograd(net: nn.Module, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()


def by_func(net: nn.Module, x: Tensor) -> Tensor:
    slope = torch.func.grad(lambda t: net(t).sum())(x)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()


def steps(net: nn.Module, penalty: Callable[..., Tensor], x: Tensor) -> dict[str, Step]:
    """The penalty with its gradients, and the critic's loss with it."""
    real, fake = x.flip(0), x.flip(2)
    parameters = list(net.parameters())

    def of(loss: Callable[[], Tensor]) -> Step:
        def run() -> list[Tensor]:
            for p in parameters:
                p.grad = None
            value = loss()
            value.backward()
            return [value.detach(), parameters[0].grad]

        return run

    return {
        "penalty": of(lambda: penalty(net, x)),
        "critic step": of(lambda: net(fake).mean() - net(real).mean() + WEIGHT * penalty(net, x)),
    }


def providers(size: int, norm: str, compiled: bool) -> dict[str, dict[str, Step]]:
    torch.manual_seed(0)
    ours = build_critic(
        architecture="dcgan", shape=(size,) * 3, critic_channels=CHANNELS, norm=norm
    )
    plain = torch.randn(BATCH, 1, size, size, size)
    last = plain.to(memory_format=torch.channels_last_3d)
    ndhwc = stock_critic(ours, size, norm, True).to(memory_format=torch.channels_last_3d)
    out = {
        "ours": steps(ours, lambda net, x: ops.gradient_penalty(net, x, x).value, last),
        "eager-NCDHW": steps(stock_critic(ours, size, norm, False), by_autograd, plain),
        "eager-NDHWC": steps(ndhwc, by_autograd, last),
    }
    if compiled:
        # In place would be functionalised away; the peer in its usual form.
        net = stock_critic(ours, size, norm, False).to(memory_format=torch.channels_last_3d)
        out["compiled"] = steps(net, torch.compile(by_func, fullgraph=True), last)
    return out


class Passes(TorchDispatchMode):
    """Notes every convolution pass, without what the operators of norm_act_conv do beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Tensor], tuple[Any, ...]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func._schema.name.partition("::")[2]
        if name.startswith("conv_"):
            self.calls.append((func, args))
        elif name == "norm_act_conv_fprop":
            z, _, _, weight, _, _, bias, _, _, size, stride, padding = args
            assert not size, "a critic has no transposed convolution"
            geometry = (stride, padding, [1, 1, 1], 1)
            self.calls.append((conv3d_passes.conv_fprop, (z, weight, bias, *geometry)))
        elif name == "norm_act_conv_wgrad":
            g, z, *_, kernel, _, stride, padding = args
            geometry = (stride, padding, [1, 1, 1], 1)
            self.calls.append((conv3d_passes.conv_wgrad, (g, z, kernel, *geometry)))
        return func(*args, **(kwargs or {}))


def bare_passes(run: Step) -> tuple[int, Callable[[], None]]:
    """How many convolution passes a step has, and what runs them again."""
    with Passes() as noted:
        run()
    calls = [
        (op, [a.detach() if isinstance(a, Tensor) else a for a in args]) for op, args in noted.calls
    ]

    def again() -> None:
        with torch.no_grad():
            for op, args in calls:
                op(*args)

    return len(calls), again


def check(found: list[Tensor], expected: list[Tensor], name: str) -> None:
    for f, e in zip(found, expected, strict=True):
        error = ((f - e).abs().max() / e.abs().max()).item()
        if not error <= TOLERANCE:
            raise SystemExit(
                f"{name} differs from ours by {error:.2e}: no figure is worth printing"
            )


def timed(runs: dict[str, Step], rounds: int, bare: Callable[[], None] | None = None) -> Times:
    expected = runs["ours"]()
    for name, run in runs.items():
        check(run(), expected, name)
        run()
    if bare is not None:
        runs = {**runs, BARE: bare}
        bare()
    return in_turns(runs, rounds)


def peak(run: Step) -> float:
    """MiB that the step holds at most, beside what was there before it."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        run()
    events = profile.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    # The step begins by dropping the gradients of an earlier one: what is left then is the base.
    held = list(itertools.accumulate((change for _, change in changes), initial=0))
    return (max(held) - min(held)) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep-heap", action="store_true", help="freed memory is kept, for all")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--norm", choices=NORMS, help="this one alone")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    heap = "kept" if args.keep_heap and keep_freed_memory() else "default"
    path = folder_of(args.out) / f"penalty-{heap}.json"
    machine = setting()
    del machine["load before"]  # each norm has its own
    facts = machine | {
        "heap": heap,
        "workload": f"critic 1-16-32-64-128, kernel 4, {BATCH}x1x{args.size}^3, float32",
        "rounds": args.rounds,
    }
    parts: dict[str, dict[str, Any]] = {
        name: {} for name in ("milliseconds", "penalty over bare passes", "peak MiB", "load")
    }
    if args.norm and path.is_file():
        known = json.loads(path.read_text())
        if facts.items() <= known.items():
            parts = {name: known.get(name, {}) for name in parts}
    print(f"heap: {heap}")
    for norm in [args.norm] if args.norm else NORMS:
        measure(norm, args, parts)
    path.write_text(json.dumps(facts | parts, indent=1) + "\n")
    print(f"written: {path}")


def measure(norm: str, args: argparse.Namespace, parts: dict[str, dict[str, Any]]) -> None:
    before = os.getloadavg()[0]
    built = providers(args.size, norm, not args.no_compile)
    passes, bare = bare_passes(built["ours"]["penalty"])
    for what in ("penalty", "critic step"):
        runs = {name: p[what] for name, p in built.items()}
        found = timed(runs, args.rounds, bare if what == "penalty" else None)
        alone = found.pop(BARE, None)
        name = f"{what}, norm {norm}"
        parts["milliseconds"][name] = found
        for kind in ("median", "min"):
            best = min(t[kind] for provider, t in found.items() if provider != "ours")
            print(f"{name}: {best / found['ours'][kind]:.2f}x the best peer ({kind})")
        for provider, t in found.items():
            print(f"    {provider:14}{t['median']:9.1f}{t['min']:9.1f} ms", flush=True)
        if alone is not None:
            over = {kind: found["ours"][kind] / alone[kind] for kind in ("median", "min")}
            parts["penalty over bare passes"][f"norm {norm}"] = {
                "passes": passes,
                "milliseconds of the passes": alone,
                "ratio": over,
            }
            print(
                f"    {passes} bare passes{alone['median']:9.1f}{alone['min']:9.1f} ms;"
                f" penalty over them: {over['median']:.2f}, minima {over['min']:.2f}"
            )
        parts["peak MiB"][name] = {provider: peak(run) for provider, run in runs.items()}
    parts["load"][f"norm {norm}"] = {"before": before, "after": os.getloadavg()[0]}


if __name__ == "__main__":
    main()
