"""Tables of times beside stock PyTorch, from what `make bench` wrote; goals are the project's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tools.tables.markdown import number, table

__all__ = ["RENDERERS"]

CONVOLUTION = re.compile(r"conv3d, (?P<pass>[\w ]+), (?P<case>\d+x\d+x.*)")
PASSES = {"forward": "forward", "backward": "backward", "second": "second derivative"}
GOALS = {  # share of copy bandwidth, times the best stock form, times Inductor
    "forward": (0.80, 1.3, 2.0),
    "backward": (0.80, 4.0, 2.0),
    "second": (0.80, 6.0, 2.0),
}
# Times the best peer, which `make bench-gates` holds.
STEPS = {
    "penalty, norm none": 2.4,
    "critic step, norm none": 1.6,
    "penalty, norm instance": 1.6,
    "critic step, norm instance": 1.4,
    "training step": 1.4,
}


def _best(found: dict[str, dict[str, float]], names: tuple[str, ...], which: str) -> float:
    return min(found[name][which] for name in names if name in found)


def _ratios(
    found: dict[str, dict[str, float]], own: str, names: tuple[str, ...]
) -> tuple[float, float]:
    """The best peer's time over ours, by medians and by minima."""
    by_median, by_minima = (
        _best(found, names, which) / found[own][which] for which in ("median", "min")
    )
    return by_median, by_minima


def _goal(ratios: tuple[float, float], goal: float) -> str:
    """Marked where either ratio misses it."""
    return f"{goal:g}" + ("" if min(ratios) >= goal else ", missed")


STOCK_CONVOLUTIONS = ("PyTorch-NCDHW", "PyTorch-NDHWC")


def convolutions(files: list[Any]) -> list[str]:
    """Own kernels beside the better of PyTorch's layouts: medians, and ratios by both."""
    rows, last = [], ""
    for name, found in files[0]["milliseconds"].items():
        match = CONVOLUTION.fullmatch(name)
        if match is None:
            continue
        own = found["own-NDHWC"]["median"]
        stock = _best(found, STOCK_CONVOLUTIONS, "median")
        ratios = _ratios(found, "own-NDHWC", STOCK_CONVOLUTIONS)
        case = "" if match["case"] == last else match["case"]
        last = match["case"]
        shown = [f"{ratio:.1f}" for ratio in ratios]
        rows.append([case, match["pass"], number(own), number(stock), *shown])
    header = ["input, kernel, stride", "pass", "own", "PyTorch", "ratio", "by minima"]
    return table(header, rows)


LAST = ("group_norm-NDHWC", "instance_norm-NDHWC")
ANY = (*LAST, "group_norm-NCDHW", "instance_norm-NCDHW")
COMPILED = ("inductor-NCDHW", "inductor-NDHWC")


def bandwidth(files: list[Any]) -> list[str]:
    """Milliseconds of norm_act and the share of copy bandwidth, minima."""
    found = files[0]
    times = found["milliseconds, medians of the processes"]
    rows = []
    for name in (*PASSES, "application"):
        share = found["share of copy bandwidth, minima"][name]
        each = found["shares of each process"][name]
        goal = f"{GOALS[name][0]:.0%}" if name in GOALS else ""
        if goal and share < GOALS[name][0]:
            goal += ", missed"
        shares = f"{share:.0%} ({min(each):.0%} to {max(each):.0%})"
        label = PASSES.get(name, "application alone, statistics known")
        rows.append([label, f"{times[name]['min']:.1f}", shares, goal])
    return table(["pass", "milliseconds", "of copy bandwidth (five processes)", "goal"], rows)


def norm_act(files: list[Any]) -> list[str]:
    """Times the stock forms and Inductor at both sizes, by medians and, in brackets, by minima."""
    rows = []
    for size in ("2x32x64x64x64", "2x16x32x32x32"):
        for name, label in PASSES.items():
            found = files[0]["milliseconds"].get(f"{name} {size}")
            if found is None:
                continue
            own = "native-NDHWC"
            last, any_layout, compiled = (_ratios(found, own, n) for n in (LAST, ANY, COMPILED))
            cells = [f"{found[own]['median']:.1f}"]
            cells += [f"{a:.1f} ({b:.1f})" for a, b in (last, any_layout)]
            cells.append(_goal(any_layout, GOALS[name][1]))
            cells.append(f"{compiled[0]:.1f} ({compiled[1]:.1f})")
            cells.append(_goal(compiled, GOALS[name][2]))
            rows.append([size.replace("x", " x "), label, *cells])
    header = ["volume", "pass", "ours, ms", "stock channels last", "stock, better layout"]
    return table([*header, "goal", "Inductor", "goal"], rows)


def _steps(files: list[Any]) -> dict[str, dict[str, dict[str, float]]]:
    found: dict[str, dict[str, dict[str, float]]] = {}
    for file in files:
        found.update(file["milliseconds"])
    return found


def steps(files: list[Any]) -> list[str]:
    """Penalty, critic's step and training step: medians, and ratios by medians and by minima."""
    found, rows = _steps(files), []
    for name, goal in STEPS.items():
        times = found[name]
        peers = [key for key in times if key != "ours"]
        ratios = _ratios(times, "ours", tuple(peers))
        cells = [number(times["ours"]["median"])]
        for kind in ("NCDHW", "NDHWC", "compiled"):
            peer = next((key for key in peers if key.endswith(kind)), None)
            cells.append("" if peer is None else number(times[peer]["median"]))
        rows.append([name, *cells, *(f"{ratio:.2f}" for ratio in ratios), _goal(ratios, goal)])
    header = ["milliseconds", "ours", "eager NCDHW", "eager NDHWC", "compiled"]
    return table([*header, "times the best", "by minima", "goal"], rows)


def passes(files: list[Any]) -> list[str]:
    """The penalty over its own convolution passes, by medians and by minima."""
    rows = []
    for name, found in files[0]["penalty over bare passes"].items():
        both = [f"{found['ratio'][which]:.2f}" for which in ("median", "min")]
        missed = "" if max(found["ratio"].values()) <= 1.2 else ", missed"
        rows.append([name, f"{found['passes']}", *both, f"1.2{missed}"])
    return table(["", "passes", "by medians", "by minima", "goal"], rows)


def memory(files: list[Any]) -> list[str]:
    """MiB held at most beyond what was there, and the share of the better eager form."""
    rows = []
    for name, found in files[0]["peak MiB"].items():
        eager = min(found["eager-NCDHW"], found["eager-NDHWC"])
        share = found["ours"] / eager
        rows.append([name, f"{found['ours']:.1f}", f"{eager:.1f}", f"{share:.2f}"])
    return table(["MiB", "ours", "better eager form", "share"], rows)


def summary(files: list[Any]) -> list[str]:
    """What the README shows of it: times the best peer, by medians and by minima."""
    names = {
        "penalty, norm none": "gradient penalty at 64^3, critic without norms",
        "penalty, norm instance": "the same with instance norms",
        "critic step, norm none": "critic step without norms",
        "critic step, norm instance": "critic step with instance norms",
        "training step": "training step at 32^3",
    }
    found, rows = _steps(files), []
    for name, label in names.items():
        peers = tuple(found[name].keys() - {"ours"})
        alone = "" if "compiled" in peers else " (stock: eager alone)"
        ratios = _ratios(found[name], "ours", peers)
        rows.append([label + alone, *(f"{ratio:.1f}" for ratio in ratios)])
    return table(["the best stock form takes, times ours", "by medians", "by minima"], rows)


RENDERERS: dict[str, Callable[[list[Any]], list[str]]] = {
    "bandwidth": bandwidth,
    "convolutions": convolutions,
    "memory": memory,
    "norm_act": norm_act,
    "passes": passes,
    "steps": steps,
    "summary": summary,
}
