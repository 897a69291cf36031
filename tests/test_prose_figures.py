"""Figures in sentences of README and docs are those of the committed result that they tell of."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastgan.audit.statistics import area_under_curve
from fastgan.config import load
from fastgan.data import open_dataset
from tools.tables import ROOT

AVX2 = "bench/results/cpu-avx2"


def worst(study: dict[str, Any]) -> str:
    return f"{max(of['error'] for kind in study.values() for of in kind.values()):.0e}"


def certain(study: dict[str, Any]) -> int:
    return int(min(of["recall"] for kind in study.values() for of in kind.values()))


def noise(pyramid: dict[str, Any]) -> int:
    """Percent by which `auto` differs at most from brute force, where it is brute force."""
    cases = ("1", "8", "64", "512 in batches of 64")
    ratios = [
        pyramid[size][kind][case]["auto"] / pyramid[size][kind][case]["brute"]
        for size in ("64^3", "32^3")
        for kind in ("fresh", "copies")
        for case in cases
    ]
    return round(100 * max(abs(ratio - 1) for ratio in ratios))


def noticed(mutants: list[dict[str, Any]]) -> tuple[int, int]:
    return sum(mutant["verdict"] != "survived" for mutant in mutants), len(mutants)


def rounding(operators: dict[str, Any]) -> str:
    above, shapes = (sum(row[key] for row in operators.values()) for key in ("above", "shapes"))
    return f"broken in {above} of {shapes:,}"


# Page, result, and the words that the page must have, of the parsed result.
SENTENCES: list[tuple[str, str, Callable[[Any], str]]] = [
    (
        "docs/nearest.md",
        f"{AVX2}/nearest.json",
        lambda r: (
            f"for the features: {r['float32 features']['peak MB over the inputs']['ours']:.0f} MB"
        ),
    ),
    (
        "docs/nearest.md",
        f"{AVX2}/nearest.json",
        lambda r: (
            f"recall was {certain(r['study'])} on every path and dtype, with an error of at most "
            f"{worst(r['study']).replace('e-0', 'e-')}"
        ),
    ),
    ("docs/nearest.md", f"{AVX2}/nearest.json", lambda r: f"up to {noise(r['pyramid'])} % either"),
    (
        "docs/nearest.md",
        f"{AVX2}/nearest.json",
        lambda r: " x ".join(map(str, r["pyramid"]["volume at 1 mm"])) + " at 1 mm",
    ),
    ("docs/testing.md", f"{AVX2}/error-study.json", lambda r: rounding(r["operators"])),
    (
        "docs/testing.md",
        f"{AVX2}/error-study.json",
        lambda r: f"({r['operators']['conv3d, float32']['worst']:.2f} times)",
    ),
    (
        "docs/testing.md",
        f"{AVX2}/error-study.json",
        lambda r: f"(up to {r['operators']['norm_act_conv, float32']['worst']:.2f})",
    ),
    (
        "docs/testing.md",
        "bench/results/mutation.json",
        lambda r: "{} of {}, 98 %".format(*noticed(r["mutants"])),
    ),
    (
        "docs/testing.md",
        "bench/results/mutation-audit.json",
        lambda r: (
            f"Of the first {len(r['mutants'])} of the sample of seed {r['seed']} "
            f"(`bench/results/mutation-audit.json`) {noticed(r['mutants'])[0]} were noticed"
        ),
    ),
    (
        "docs/gpu.md",
        "bench/results/machine_code/sm_90a.json",
        lambda r: f"nvcc {r['nvcc']}, {r['architecture']}",
    ),
    (
        "docs/kernels.md",
        "bench/results/machine_code/sm_90a.json",
        lambda r: f"Triton {r['triton'].rpartition('.')[0]}, 2 x 32 x 64^3",
    ),
    (
        "docs/variants/least_squares.md",
        "bench/results/toy_game.json",
        lambda r: f"(t* = {r['least-squares']['on paper']:.3f} in the",
    ),
    (
        "docs/variants/non_saturating.md",
        "bench/results/toy_game.json",
        lambda r: (
            f"(t* = {r['non-saturating']['on paper']:.3f} instead of "
            f"{r['minimax']['on paper']:.3f} in the"
        ),
    ),
]


@pytest.mark.parametrize(("page", "file", "words"), SENTENCES)
def test_says_what_was_measured(page: str, file: str, words: Callable[[Any], str]) -> None:
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    said = words(json.loads((ROOT / file).read_text(encoding="utf-8")))
    assert said in text, f"{page} has to say {said!r}"


def test_size_alone_tells_the_bundled_nodules_apart_as_the_pages_say() -> None:
    data = load(ROOT / "examples" / "nodules_32.yaml").data.model_copy(update={"holdout": 0.0})
    nodules = open_dataset(data, "train")
    size = np.array(
        [np.clip(nodules.denormalise(nodules.volume(i)), 0, 1).sum() for i in range(len(nodules))]
    )
    found = area_under_curve(*(size[nodules.labels == label] for label in (0, 1)))
    for page, words in (
        ("docs/audit/labels.md", f"size alone has an AUC of {found:.2f}"),
        ("docs/demo.md", f"mean rating is not 3: {len(nodules):,} nodules"),
    ):
        text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
        assert words in text, f"{page} has to say {words!r}"
