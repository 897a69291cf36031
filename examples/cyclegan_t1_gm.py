"""From T1 to grey matter without pairs, on the MNI152 template, scored where the truth is known.

    python examples/cyclegan_t1_gm.py --out cyclegan-t1-gm                    # nilearn installed
    python examples/cyclegan_t1_gm.py --t1 T1.nii.gz --gm GM.nii.gz --out cyclegan-t1-gm

The maps are those in the wheel of nilearn 0.14.1, `nilearn/datasets/data/mni_icbm152_{t1,gm}_*`;
`pip download --no-deps nilearn==0.14.1` and `unzip` get them without installing it. Their terms
are the template's own: they are read where they lie and not passed on.

Domain A is T1 of the front of the left hemisphere, domain B the grey-matter map of its back: other
places, and not each other's mirror image (the template is symmetric, so the right hemisphere is
left out altogether). Nothing is paired. Training is repeated from several seeds, and the restart
whose translations of A have patches most like B's is taken: that needs no truth, and looks at A and
B alone. The slab between them is for judging: its upper half
(validation) chose the recipe and is shown beside every restart, its lower half is held out and
scored for the restart that was taken.

One template is one anatomy: the figures say that the game works, not that a translator trained so
can be used on patients.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from fastgan.config import Config, parse
from fastgan.data import read_volume, save_volume
from fastgan.errors import BadFile, ConfigError
from fastgan.measures import patch_distance
from fastgan.pictures.sheets import write_sheet
from fastgan.train import RunFolder, checkpoint, describe, fit, load_translator
from fastgan.train.build import data_of, variant_of

__all__ = ["main", "scores"]

# Voxels of the template (197 x 233 x 189 at 1 mm): left to right, back to front, foot to head.
LEFT = slice(28, 98)
REGIONS = {
    "A": (LEFT, slice(122, 206), slice(12, 148)),
    "B": (LEFT, slice(28, 82), slice(12, 148)),
    "validation": (LEFT, slice(82, 118), slice(80, 148)),
    "held-out": (LEFT, slice(82, 118), slice(12, 80)),
}
TEMPLATE = (197, 233, 189)
T1_WINDOW, GM_WINDOW = (0.0, 235.0), (0.0, 255.0)
LEVELS = 64  # of the lookup table


def configuration(a: Path, b: Path, seed: int = 0) -> Config:
    """The recipe, chosen on the validation region.

    T1 to grey matter is not monotone (fluid dark, grey matter bright, white matter dark), so a
    strong cycle loss would forbid the right answer, which forgets fluid against white matter, and
    the identity loss means nothing where one intensity is two tissues. Spectral normalisation and
    noise keep the critics from winning by texture: no trial without spectral normalisation came
    to anything. A kernel of 1 lets intensities change and nothing move.
    """
    return parse(
        {
            "name": "cyclegan-t1-gm",
            "seed": seed,
            "data": {
                "source": str(a),
                "source_b": str(b),
                "window": list(T1_WINDOW),
                "window_b": list(GM_WINDOW),
                "shape": [24, 24, 24],
                "sampling": "patch",
                "holdout": 0.0,
                "classic": ["flip"],
            },
            "model": {
                "translator_channels": [16],
                "translator_blocks": 1,
                "translator_kernel": 1,
                "generator_norm": "none",
                "patch_critic_channels": [24, 48],
                "spectral_norm": True,
                "fold": [2, 2, 2],
            },
            "gan": {
                "variant": "cyclegan",
                "lambda_cycle": 0.1,
                "lambda_identity": 0.0,
                "critic_noise": 0.3,
            },
            "train": {
                "steps": 1300,
                "batch_size": 2,
                "lr_generator": 4e-4,
                "lr_critic": 1e-3,
                "betas": [0.5, 0.9],
                "lr_decay": "linear",
                "ema_decay": 0.995,
                "checkpoint_every": 500,
                "sample_every": 500,
                "log_every": 50,
            },
        }
    )


def scores(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Pearson correlation (NaN for a constant) and mean absolute error, of values in [0, 1]."""
    error = float(np.abs(found - truth).mean())
    if found.min() == found.max():
        return float("nan"), error
    return float(np.corrcoef(found.ravel(), truth.ravel())[0, 1]), error


def lookup(source: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The best function of intensity alone, fitted to the truth itself: a ceiling, no method."""
    level = np.minimum((source * LEVELS).astype(int), LEVELS - 1)
    total = np.bincount(level.ravel(), truth.ravel(), LEVELS)
    table = total / np.maximum(np.bincount(level.ravel(), minlength=LEVELS), 1)
    return np.asarray(table[level])


def translate(translator: torch.nn.Module, t1: np.ndarray) -> np.ndarray:
    """Values in [0, 1] to values in [0, 1], [D, H, W], multiples of the translator's stride.

    In one piece: without norms and with a kernel of 1 a window gives what the whole gives.
    """
    with torch.no_grad():
        found = translator(torch.from_numpy(2.0 * t1 - 1.0)[None, None])[0, 0]
    values: np.ndarray = (found.clamp(-1.0, 1.0).numpy() + 1.0) / 2.0
    return values


def table(t1: np.ndarray, truth: np.ndarray, found: np.ndarray) -> str:
    """Every candidate's scores in the region and inside the brain, where T1 is not 0."""
    candidates = {
        "identity": t1,
        "constant (median of the truth)": np.full_like(truth, np.median(truth)),
        "cyclegan, unpaired": found,
        "paired intensity lookup (ceiling)": lookup(t1, truth),
    }
    brain = t1 > 0.0
    lines = [f"{'':34}  correlation    MAE    in the brain: correlation    MAE"]
    for name, candidate in candidates.items():
        whole = scores(candidate, truth)
        inside = scores(candidate[brain], truth[brain])
        lines.append(
            f"{name:34}  {whole[0]:11.3f}  {whole[1]:5.3f}  {inside[0]:25.3f}  {inside[1]:5.3f}"
        )
    return "\n".join(lines)


def find_maps(t1: Path | None, gm: Path | None) -> tuple[Path, Path]:
    """The two files given, or those of an installed nilearn.

    Raises:
        ConfigError: only one is given, or none and nilearn is not there.
    """
    if t1 is not None and gm is not None:
        return t1, gm
    if t1 is not None or gm is not None:
        raise ConfigError("--t1 and --gm: give both, or neither")
    spec = find_spec("nilearn")
    places = spec.submodule_search_locations if spec is not None else None
    for place in places or ():
        folder = Path(place) / "datasets" / "data"
        found = [sorted(folder.glob(f"mni_icbm152_{kind}_*.nii.gz")) for kind in ("t1", "gm")]
        if all(found):
            return found[0][0], found[1][0]
    raise ConfigError(
        "the MNI152 maps are missing: pip install nilearn==0.14.1, or give --t1 and --gm"
    )


def cut(t1: Path, gm: Path, out: Path) -> dict[str, dict[str, np.ndarray]]:
    """Write the training regions as NIfTI under `out`; return the maps of every region, in [0, 1].

    Raises:
        BadFile: not the template's grid, or unreadable.
    """
    maps = {}
    for kind, path, (low, high) in (("T1", t1, T1_WINDOW), ("GM", gm, GM_WINDOW)):
        volume = read_volume(path)
        if volume.array.shape != TEMPLATE:
            raise BadFile(f"{path}: {volume.array.shape} voxels, the template has {TEMPLATE}")
        maps[kind] = volume.array
        region = REGIONS["A" if kind == "T1" else "B"]
        folder = out / kind
        folder.mkdir(parents=True)
        save_volume(folder / f"{kind}.nii.gz", volume.array[region], np.eye(4))
        maps[kind] = np.clip((volume.array - low) / (high - low), 0.0, 1.0).astype(np.float32)
    return {name: {kind: maps[kind][REGIONS[name]] for kind in maps} for name in REGIONS}


@dataclass
class Restart:
    """One training run: its seed, its folder, and the seconds of processor time it took."""

    seed: int
    folder: Path
    worked: float

    def translator(self, direction: str) -> torch.nn.Module:
        """The averaged translator of the newest checkpoint."""
        run = RunFolder(self.folder)
        return load_translator(run, checkpoint.newest(run.path), direction)

    def distances(self, t1: np.ndarray, gm: np.ndarray) -> tuple[float, float]:
        """Patch distances of translated T1 to real grey matter, and the other way; no pairs."""
        found = []
        for direction, source, target in (("A_to_B", t1, gm), ("B_to_A", gm, t1)):
            made = translate(self.translator(direction), source)
            both = (torch.from_numpy(v.copy())[None, None] for v in (made, target))
            found.append(patch_distance(*both).item())
        return found[0], found[1]


def train(config: Config, out: Path, threads: int) -> Restart:
    """One run in a folder of its own under `out`."""
    torch.set_num_threads(threads)
    worked = time.process_time()
    data = data_of(config, "train")
    run = fit(variant_of(config, describe(data)), data, config, out=out)
    return Restart(config.seed, run.path, time.process_time() - worked)


def train_all(configs: list[Config], out: Path, threads: int, processes: int) -> list[Restart]:
    """The runs in the order of `configs`, `processes` of them at a time."""
    if processes == 1:
        return [train(config, out, threads) for config in configs]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(train, config, out, threads) for config in configs]
        return [job.result() for job in jobs]


def choose(
    restarts: list[Restart], regions: dict[str, dict[str, np.ndarray]]
) -> tuple[Restart, str]:
    """The restart with the least patch distance, and a line for each restart.

    Of the direction that is wanted alone: the other may fail by itself, since a weak cycle loss
    does not tie them together. The criterion reads T1 of A and grey matter of B. The validation
    scores stand beside it so that a reader sees how well it ranks.
    """
    t1, gm, seen = regions["A"]["T1"], regions["B"]["GM"], regions["validation"]
    distances = []
    lines = ["seed  patch distance AB     BA    validation: correlation    MAE"]
    for restart in restarts:
        there, back = restart.distances(t1, gm)
        distances.append(there)
        correlation, error = scores(translate(restart.translator("A_to_B"), seen["T1"]), seen["GM"])
        lines.append(
            f"{restart.seed:4}  {there:17.3f}  {back:5.3f}  {correlation:24.3f}  {error:5.3f}"
        )
    best = int(np.argmin(distances))
    lines[1 + best] += "  taken"
    return restarts[best], "\n".join(lines)


def draw(path: Path, t1: np.ndarray, truth: np.ndarray, found: np.ndarray) -> None:
    """Middle slices of source, translation, truth, and translation minus truth (grey is 0)."""
    shown = [2.0 * t1 - 1.0, 2.0 * found - 1.0, 2.0 * truth - 1.0, found - truth]
    caption = "From the top: T1, translation, truth, translation minus truth (grey is no change)."
    write_sheet(path, np.stack(shown)[:, None], columns=1, caption=caption)


def main(arguments: list[str] | None = None) -> int:
    """Cut, train, choose, score; 0 unless a file or setting is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--t1", type=Path, help="mni_icbm152_t1_*.nii.gz")
    parser.add_argument("--gm", type=Path, help="mni_icbm152_gm_*.nii.gz")
    parser.add_argument("--out", type=Path, default=Path("cyclegan-t1-gm"), help="new folder")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3], help="restarts")
    parser.add_argument("--processes", type=int, default=2, help="restarts at a time")
    parser.add_argument(
        "--threads", type=int, default=1, help="of each; so small networks gain nothing from more"
    )
    options = parser.parse_args(arguments)
    if options.out.exists():
        raise ConfigError(f"{options.out}: exists already; give another --out")
    began = time.monotonic()
    regions = cut(*find_maps(options.t1, options.gm), options.out)
    configs = [configuration(options.out / "T1", options.out / "GM", s) for s in options.seeds]
    for config in configs:
        config.train.steps = options.steps or config.train.steps
    restarts = train_all(configs, options.out / "runs", options.threads, options.processes)
    torch.set_num_threads(options.threads)
    worked = time.process_time()
    taken, comparison = choose(restarts, regions)
    worked = time.process_time() - worked + sum(restart.worked for restart in restarts)
    t1, truth = regions["held-out"]["T1"], regions["held-out"]["GM"]
    found = translate(taken.translator("A_to_B"), t1)
    draw(options.out / "held-out.png", t1, truth, found)
    minutes = (time.monotonic() - began) / 60.0
    text = f"""Restarts, ranked without truth

{comparison}

T1 to grey matter, held-out region of MNI152 (one anatomy), seed {taken.seed}

{table(t1, truth, found)}

{len(restarts)} restarts of {configs[0].train.steps} steps, {minutes:.1f} minutes \
({worked / 60.0:.1f} of processor time), processes: {options.processes}, \
threads of each: {options.threads}. MAE: fraction of the map's range.
"""
    (options.out / "scores.txt").write_text(text, encoding="utf-8")
    print(text, end="")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BadFile, ConfigError) as error:
        sys.exit(f"cyclegan_t1_gm: {error}")
