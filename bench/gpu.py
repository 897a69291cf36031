"""Everything that has to be measured on a GPU, in one command; it builds nothing.

    python bench/gpu.py [--device cuda] [--quick] [--out bench/results]

Correctness comes first: every GPU kernel against float64, and no time is printed after a failure.
Then norm_act (forward, backward, second derivative), convolutions of one channel beside cuDNN in
both layouts, and the gradient penalty and the critic's step beside PyTorch: eager NCDHW, eager
channels_last_3d, torch.compile, and a CUDA graph of eager. Each provider's results are compared
with ours before it is timed; the L2 cache is flushed before every run; times are medians, and those
of single operators stand over the bandwidth that a copy reaches here. Writes
<out>/<device>/gpu.json with device, versions, clocks and commit.

`--device cpu --quick` runs the same path on small sizes, which checks this file and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
import gpu_conv3d
import penalty as stock
from gpu_conv3d import forced

from fastgan import ops
from fastgan.cli.bench import certificate
from fastgan.cli.doctor import known_faults
from fastgan.models import build_critic
from fastgan.ops.implementations import dispatch

SLOPE = 0.2
# Volumes that each pass of norm_act must at least read and write.
VOLUMES = {"forward": 2, "backward": 3, "second": 5}
# Largest difference from ours over the largest value; rounding moves slopes at the kink.
TOLERANCE = {torch.float32: 2e-2, torch.bfloat16: 2e-1}
Run = Callable[[], Any]


class Clock:
    """Median seconds of a call on a device, each after the L2 cache was flushed."""

    def __init__(self, device: torch.device, rounds: int) -> None:
        self.device, self.rounds = device, rounds
        # Larger than any L2 cache; random, because zeros can be compressed.
        size = 2**26 if device.type == "cuda" else 2**16
        self.flush = torch.randn(size, device=device)

    def __call__(self, runs: dict[str, Run]) -> dict[str, float]:
        """Medians in milliseconds; the runs take turns."""
        found: dict[str, list[float]] = {name: [] for name in runs}
        for run in runs.values():
            for _ in range(min(2, self.rounds)):
                run()
        for _ in range(self.rounds):
            for name, run in runs.items():
                self.flush.mul_(1.0001)
                found[name].append(self._once(run))
        return {name: statistics.median(times) for name, times in found.items()}

    def _once(self, run: Run) -> float:
        if self.device.type == "cpu":
            start = time.perf_counter()
            run()
            return 1e3 * (time.perf_counter() - start)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)


def machine(device: torch.device) -> dict[str, Any]:
    """What a figure depends on."""

    def answer(*command: str) -> str:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
            return done.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return "unknown"

    on_gpu = device.type == "cuda"
    root = str(Path(__file__).resolve().parents[1])
    clocks = "clocks.sm,clocks.mem,clocks.max.sm,clocks_throttle_reasons.active"
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "clocks": answer("nvidia-smi", f"--query-gpu={clocks}", "--format=csv") if on_gpu else "",
        "commit": answer("git", "-C", root, "rev-parse", "HEAD"),
        "changed": bool(answer("git", "-C", root, "status", "--porcelain", "--untracked-files=no")),
    }


def copy_bandwidth(clock: Clock, quick: bool) -> float:
    """Bytes a second that a plain copy reads and writes."""
    source = torch.randn(2**16 if quick else 2**28, device=clock.device)
    target = torch.empty_like(source)
    ms = clock({"copy": lambda: target.copy_(source)})["copy"]
    return 2 * source.numel() * source.element_size() / (1e-3 * ms)


def group_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.leaky_relu(functional.group_norm(x, x.shape[1], weight, bias), SLOPE)


def instance_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.leaky_relu(functional.instance_norm(x, weight=weight, bias=bias), SLOPE)


def ours(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return ops.norm_act(x, weight, bias, num_groups=x.shape[1], negative_slope=SLOPE)


def norm_passes(function: Callable[..., Tensor], values: list[Tensor], second: bool) -> dict:
    """The passes as functions of nothing, on graphs made beforehand."""
    x, weight, bias, g, v = values
    leaves = [t.detach().requires_grad_() for t in (x, weight, bias)]
    cotangent = g.detach().requires_grad_()
    y = function(*leaves)

    def forward() -> list[Tensor]:
        with torch.no_grad():
            return [function(x, weight, bias)]

    runs: dict[str, Run] = {
        "forward": forward,
        "backward": lambda: torch.autograd.grad(y, leaves, g, retain_graph=True),
    }
    if second:
        (slope,) = torch.autograd.grad(y, leaves[0], cotangent, create_graph=True)
        wanted = [cotangent, leaves[0], leaves[1]]
        runs["second"] = lambda: torch.autograd.grad(slope, wanted, v, retain_graph=True)
    return runs


def norm_act(clock: Clock, bandwidth: float, quick: bool) -> list[dict[str, Any]]:
    """Rows of every shape, dtype, pass and provider."""
    rows = []
    shapes = [(1, 4, 6, 6, 6)] if quick else [(2, 32, 64, 64, 64), (2, 32, 128, 128, 128)]
    for shape in shapes:
        for dtype in (torch.float32, torch.bfloat16):
            first = [torch.randn(shape, device=clock.device).to(dtype) for _ in range(3)]
            last = [t.to(memory_format=torch.channels_last_3d) for t in first]
            affine = list(torch.randn(2, shape[1], device=clock.device).to(dtype).unbind())

            def values(volumes: list[Tensor], affine: list[Tensor] = affine) -> list[Tensor]:
                return [volumes[0], *affine, *volumes[1:]]

            built: dict[str, tuple[str, dict[str, Run]]] = {
                "group_norm NCDHW": ("auto", norm_passes(group_norm, values(first), True)),
                "group_norm NDHWC": ("auto", norm_passes(group_norm, values(last), True)),
                "instance_norm NDHWC": ("auto", norm_passes(instance_norm, values(last), True)),
                # Inductor has no second derivative of its own graph.
                "compiled NDHWC": (
                    "auto",
                    norm_passes(torch.compile(group_norm), values(last), False),
                ),
            }
            for name in dispatch.implementations("norm_act", first[0]):
                with ops.implementation(name):
                    for layout, volumes in (("NDHWC", last), ("NCDHW", first)):
                        passes = norm_passes(ours, values(volumes), True)
                        built[f"{name} {layout}"] = (name, passes)
            for what, volumes in VOLUMES.items():
                runs = {n: forced(p[what], impl) for n, (impl, p) in built.items() if what in p}
                ideal = volumes * first[0].numel() * first[0].element_size()
                for name, ms in clock(runs).items():
                    share = ideal / (1e-3 * ms) / bandwidth
                    rows.append(
                        {
                            "shape": list(shape),
                            "dtype": str(dtype).removeprefix("torch."),
                            "pass": what,
                            "provider": name,
                            "ms": ms,
                            "of copy bandwidth": share,
                        }
                    )
    return rows


def critic(clock: Clock, quick: bool) -> list[dict[str, Any]]:
    """The penalty and the critic's step, WGAN-GP, bfloat16 autocast over float32 weights."""
    rows = []
    size, batch = (32, 1) if quick else (128, 8)
    for norm in ("none", "instance"):
        torch.manual_seed(0)
        own = build_critic(
            architecture="dcgan", shape=(size,) * 3, critic_channels=stock.CHANNELS, norm=norm
        )
        peers = {
            layout: stock.stock_critic(own, size, norm, False).to(clock.device)
            for layout in ("NCDHW", "NDHWC", "compiled", "graph")
        }
        for layout in ("NDHWC", "compiled", "graph"):
            peers[layout].to(memory_format=torch.channels_last_3d)
        own.to(clock.device)
        x = torch.randn(batch, 1, size, size, size, device=clock.device)

        def penalty_of_ours(net: nn.Module, x: Tensor) -> Tensor:
            return ops.gradient_penalty(net, x, x).value

        steps = {
            "ours": stock.steps(own, penalty_of_ours, x),
            "eager NCDHW": stock.steps(peers["NCDHW"], stock.by_autograd, x),
            "eager NDHWC": stock.steps(peers["NDHWC"], stock.by_autograd, x),
            "compiled NDHWC": stock.steps(peers["compiled"], torch.compile(stock.by_func), x),
        }
        for what in ("penalty", "critic step"):
            runs = {name: mixed(of[what], clock.device) for name, of in steps.items()}
            runs |= forced_natives(runs["ours"], x)
            if clock.device.type == "cuda":
                graphed = stock.steps(peers["graph"], stock.by_autograd, x)[what]
                runs["eager NDHWC, CUDA graph"] = captured(mixed(graphed, clock.device))
            expected = runs["ours"]()
            for name, run in runs.items():
                differs(run(), expected, f"{what}, norm {norm}, {name}")
            for name, ms in clock(runs).items():
                row = {"what": what, "norm": norm, "size": size, "batch": batch}
                rows.append(row | {"provider": name, "ms": ms})
    return rows


def forced_natives(run: Run, x: Tensor) -> dict[str, Run]:
    """Our step with each implementation that has a norm for this device."""
    names = dispatch.implementations("norm_act", x)
    return {f"ours, {name}": forced(run, name) for name in names}


def mixed(run: Run, device: torch.device) -> Run:
    """`run` under bfloat16 autocast; as it is on a CPU, where that is no faster."""

    def call() -> Any:
        with torch.autocast("cuda", torch.bfloat16):
            return run()

    return call if device.type == "cuda" else run


def captured(run: Run) -> Run:
    """A CUDA graph of `run`; what it returns is what the replay overwrites."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()

    def replay() -> Any:
        graph.replay()
        return result

    return replay


def differs(found: list[Tensor], expected: list[Tensor], name: str) -> None:
    """Stop where a provider computes something else: no figure would be worth printing."""
    on_gpu = expected[0].is_cuda
    tolerance = TOLERANCE[torch.bfloat16 if on_gpu else torch.float32]
    for f, e in zip(found, expected, strict=True):
        error = float((f - e).abs().max() / e.abs().max())
        if not error <= tolerance:
            raise SystemExit(f"{name} differs from ours by {error:.2e}")


def wrong(results: dict[str, Any]) -> Iterator[str]:
    """Problems that a certificate lists."""
    for key, result in results.items():
        for problem in result["problems"]:
            yield f"{key}: {problem}"


def main(arguments: list[str] | None = None) -> Path:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes; no figure of worth")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device that this torch can use")
    faults = known_faults(torch.__version__, torch.backends.cudnn.version())
    if faults:
        raise SystemExit("; ".join(faults))
    with contextlib.suppress(AttributeError):
        torch.backends.cudnn.benchmark = True
    report: dict[str, Any] = {"quick": options.quick, "machine": machine(device)}
    report["correctness"] = certificate(device, shapes=1 if options.quick else 24)
    problems = list(wrong(report["correctness"]["results"]))
    if problems:
        raise SystemExit("\n".join(["no time is printed after these:", *problems]))
    clock = Clock(device, 1 if options.quick else 15)
    report["copy bytes a second"] = bandwidth = copy_bandwidth(clock, options.quick)
    print(f"copy: {bandwidth / 1e9:.0f} GB/s")
    report["norm_act"] = norm_act(clock, bandwidth, options.quick)
    for row in report["norm_act"]:
        shape = "x".join(map(str, row["shape"]))
        print(
            f"norm_act {shape} {row['dtype']:<9}{row['pass']:<9}{row['provider']:<21}"
            f"{row['ms']:9.3f} ms {row['of copy bandwidth']:7.1%}"
        )
    report["conv3d"] = gpu_conv3d.rows(clock, differs, device, bandwidth, options.quick)
    for row in report["conv3d"]:
        shape = "batch {}, {}^3, 1 to {}, {} taps, stride {}".format(*row["shape"])
        print(
            f"conv3d {shape} {row['dtype']:<9}{row['pass']:<16}{row['provider']:<12}"
            f"{row['ms']:9.3f} ms {row['of copy bandwidth']:7.1%}"
        )
    report["critic"] = critic(clock, options.quick)
    for row in report["critic"]:
        print(f"{row['what']:<12} norm {row['norm']:<9}{row['provider']:<26}{row['ms']:9.3f} ms")
    slug = re.sub(r"\W+", "-", report["machine"]["device"].lower()).strip("-")
    path: Path = options.out / slug / "gpu.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written: {path}")
    return path


if __name__ == "__main__":
    main()
