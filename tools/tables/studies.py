"""Tables of the demo, its studies, the toy game and what compilers made of GPU kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from tools.tables.markdown import table

__all__ = ["RENDERERS"]

COLUMNS = ("AUC gap", "KS volume", "KS surface", "KS elongation", "distance ratio")
LIMITS = ("<= 0.05", "<= 0.25", "<= 0.35", "<= 0.35", "0.8 to 1.25")


def _cells(values: dict[str, list[float]]) -> list[str]:
    return [" / ".join(f"{value:.2f}" for value in values[column]) for column in COLUMNS]


def _outside(columns: Sequence[str]) -> str:
    return ", ".join(column.removeprefix("KS ") for column in columns) or "none"


def demo(files: list[Any]) -> list[str]:
    """The demo's comparison, as its comparison.json has it."""
    rows = [["*limit*", *LIMITS, ""]]
    for name, values in files[0]["rows"].items():
        rows.append([name, *_cells(values), _outside(files[0]["outside"][name])])
    return table(["against unseen patients", *COLUMNS, "outside"], rows)


def repeats(files: list[Any]) -> list[str]:
    """The shipped demo over seeds and splits."""
    rows = []
    for run in files[0]:
        generated = _cells(run["rows"]["generated"])
        outside = _outside(run["outside"]["generated"])
        rows.append([f"{run['seed']}", f"{run['split']}", *generated, outside])
    return table(["seed", "split", *COLUMNS, "outside"], rows)


def ablation(files: list[Any]) -> list[str]:
    """Medians over seeds of each recipe, with the range where there are several."""
    recipes: dict[str, list[dict[str, Any]]] = {}
    for run in files[0]:
        recipes.setdefault(run["recipe"], []).append(run)
    rows = []
    for name, runs in recipes.items():
        cells = []
        for column in COLUMNS[1:4]:
            # Of the two classes the worse.
            found = [max(run["values"][column]) for run in runs]
            spread = f" ({min(found):.2f} to {max(found):.2f})" if len(found) > 1 else ""
            cells.append(f"{median(found):.2f}{spread}")
        ratios = " / ".join(
            f"{median(run['values']['distance ratio'][label] for run in runs):.2f}"
            for label in (0, 1)
        )
        gap = median(run["values"]["AUC gap"][0] for run in runs)
        rows.append([name, f"{len(runs)}", f"{gap:.2f}", *cells, ratios])
    header = ["recipe", "seeds", "AUC gap", "KS volume", "KS surface", "KS elongation"]
    return table([*header, "distance ratio"], rows)


def toy_game(files: list[Any]) -> list[str]:
    """Where each loss ends, and where it should."""
    names = {"least-squares": "least squares", "wasserstein": "Wasserstein, penalised"}
    (steps,) = {game["steps"] for game in files[0].values()}
    rows = [
        [names.get(name, name), f"{game['trained']:.4f}", f"{round(game['on paper'], 8):.8g}"]
        for name, game in files[0].items()
    ]
    return table(["loss", f"t after {steps} steps", "t* on paper"], rows)


TRITON_NORM = {
    "norm_act_statistics_kernel": "statistics",
    "norm_act_apply_kernel": "application",
    "norm_act_bwd_sums_kernel": "backward, sums",
    "norm_act_bwd_apply_kernel": "backward, application",
    "norm_act_bwd_bwd_sums_kernel": "second derivative, sums",
    "norm_act_bwd_bwd_apply_kernel": "second derivative, application",
}
TRITON_NEAREST = {
    "nearest_all_pairs_kernel float32 rows": "all pairs, float32",
    "nearest_all_pairs_kernel bfloat16 rows": "all pairs, bfloat16",
    "nearest_all_pairs_kernel int16 rows": "all pairs, int16",
    "nearest_chosen_pairs_kernel float32 rows": "chosen pairs, float32",
}


def _triton(files: list[Any], names: dict[str, str]) -> list[str]:
    found = {kernel["name"]: kernel for kernel in files[0]["kernels"]}
    rows = []
    for name, label in names.items():
        kernel = found[name]
        figures = [kernel[key] for key in ("registers", "goal", "budget")]
        rows.append([label, *map(str, figures), f"{kernel['in_flight'] >> 10}"])
    return table(["kernel", "registers", "goal", "budget", "KB at once"], rows)


def triton_norm_act(files: list[Any]) -> list[str]:
    """Triton's kernels of norm_act in bfloat16, channels last."""
    return _triton(files, {f"{name} bfloat16 NDHWC": label for name, label in TRITON_NORM.items()})


def triton_nearest(files: list[Any]) -> list[str]:
    """Triton's kernels of the nearest-neighbour search."""
    return _triton(files, TRITON_NEAREST)


# Label -> beginning, or with a place for the dtype all, of the names of kernels of float32 and
# bfloat16 that read 16 bytes at once.
CUDA = {
    "`norm_act`: moments": "norm_act_moments_kernel",
    "application": "norm_act_apply_kernel",
    "sums of the backward": "norm_act_bwd_sums_kernel",
    "backward": "norm_act_bwd_kernel",
    "sums of the second derivative": "norm_act_bwd_bwd_sums_kernel",
    "second derivative": "norm_act_bwd_bwd_kernel",
    "`bias_act` forward, channels last": "bias_act_fwd_kernel<{}, 2>",
    "forward, channels first": "bias_act_fwd_kernel<{}, 1>",
    "`bias_act` backward": "bias_act_bwd_kernel<{}>",
    "slope's penalty: squares": "slope_penalty_squares_kernel",
    "derivative": "slope_penalty_bwd_kernel",
    "mix": "slope_penalty_mix_kernel",
    "`conv3d`: forward": "conv_single_fprop_kernel",
    "input gradient": "conv_single_dgrad_kernel",
    "weight gradient": "conv_single_wgrad_kernel",
}
WIDEST = {"float": ("float>", "float, 4>"), "bfloat16": ("bfloat16>", "bfloat16, 8>")}
STRIDES = {"float": ("float, 1>", "float, 2>"), "bfloat16": ("bfloat16, 1>", "bfloat16, 2>")}


def cuda_kernels(files: list[Any]) -> list[str]:
    """Registers (the most of those under a label) and KB at once (the least), missed goals bold."""
    goal = files[0]["goal, bytes at once"] >> 10
    rows = []
    for label, start in CUDA.items():
        registers, reads, limits = [], [], set()
        for dtype in WIDEST:
            ends = WIDEST[dtype] + (STRIDES[dtype] if start.startswith("conv") else ())
            found = [
                kernel
                for kernel in files[0]["kernels"]
                if kernel["name"] == start.format(dtype)
                or (kernel["name"].startswith(start) and kernel["name"].partition("<")[2] in ends)
            ]
            limits |= {kernel["goal"] for kernel in found}
            most = max(kernel["registers"] for kernel in found)
            registers.append(f"**{most}**" if most > max(limits) else f"{most}")
            least = min(kernel["in_flight"] for kernel in found) >> 10
            reads.append(f"**{least}**" if least < goal else f"{least}")
        (limit,) = limits
        # Convolutions read their one channel element by element.
        at_once = ["", ""] if start.startswith("conv") else [" / ".join(reads), f"{goal}"]
        rows.append([label, " / ".join(registers), f"{limit}", *at_once])
    return table(["kernel", "registers", "goal", "KB at once", "goal"], rows)


RENDERERS: dict[str, Callable[[list[Any]], list[str]]] = {
    "ablation": ablation,
    "cuda_kernels": cuda_kernels,
    "demo": demo,
    "repeats": repeats,
    "toy_game": toy_game,
    "triton_nearest": triton_nearest,
    "triton_norm_act": triton_norm_act,
}
