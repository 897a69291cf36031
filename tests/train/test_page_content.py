"""run.html: what it shows, in words a reader knows, and the alarms it raises."""

from __future__ import annotations

import base64
import html
import json
import re

import numpy as np
import pytest

from fastgan.config import Config, parse
from fastgan.pictures.curves import Curve
from fastgan.pictures.sheets import write_sheet
from fastgan.pictures.slices import read_png
from fastgan.train import history
from fastgan.train.page import write_page
from fastgan.train.page.alarms import alarms_of
from fastgan.train.page.charts import charts_of
from fastgan.train.page.pictures import gallery
from tests.train.page_run import page_of, rewrite_config, rows_to

EVIL = "<script>alert('x')</script>\"&"


def test_it_is_one_file_without_scripts(finished):
    page = page_of(finished)
    assert "<script" not in page and "@import" not in page and "url(" not in page
    sources = re.findall(r'(?:src|href|action|data)="([^"]*)"', page)
    assert sources and all(s.startswith(("data:", "#")) for s in sources)
    assert set(re.findall(r"https?://[^\s\"]*", page)) == {"http://www.w3.org/2000/svg"}


def test_every_figure_is_in_a_chart_with_a_caption(finished):
    lines = (finished / "metrics.jsonl").read_text().splitlines()
    names = {key for line in lines for key in json.loads(line)}
    charts = charts_of(sorted(names - {"step"}), Config())
    assert sorted(n for c in charts for n in c.metrics) == sorted(names - {"step"})
    page = page_of(finished)
    for chart in charts:
        assert f'id="{chart.key}"' in page and html.escape(chart.title) in page
        # Which way is good, in every chart of figures that the project itself gives.
        assert chart.key.startswith("more-") or "Good:" in chart.caption


@pytest.mark.parametrize(
    ("gan", "names", "charts"),
    [
        (
            {},
            ["critic/loss", "critic/similarity_fake", "critic/score_gap/a/b", "critic/wasserstein"],
            {"losses", "likeness", "classes", "wasserstein"},
        ),
        (
            {"variant": "cyclegan", "objective": "least-squares"},
            ["generator/cycle_A", "pictures/alarm/drifted_AB", "critic/le_cam_B", "odd"],
            {"cycle", "structure-alarms", "share-apart", "more-figures"},
        ),
    ],
)
def test_charts_by_the_kind_of_network(gan, names, charts):
    found = charts_of(names, parse({"gan": gan}))
    assert {c.key for c in found} == charts
    assert sorted(n for c in found for n in c.metrics) == sorted(names)


def test_text_of_the_data_is_escaped(copy):
    data = json.loads((copy / "data.json").read_text())
    data |= {"classes": [EVIL, "b"], "prior": [0.5, 0.5], "modalities": [EVIL]}
    data["normalisation"]["method"] = EVIL
    (copy / "data.json").write_text(json.dumps(data))
    rewrite_config(copy, data={"source": EVIL}, train={"steps": 7, "device": EVIL})
    rows_to(
        copy, [{"step": s, f"critic/score_gap/{EVIL}": 1.0, f"{EVIL}/loss": None} for s in (1, 2)]
    )
    for picture in (copy / "samples").iterdir():
        write_sheet(picture, np.zeros((2, 1, 4, 4, 4)), 1, caption=EVIL, lines=(EVIL, EVIL))
    history.note(copy, history.FAILED, 2, EVIL)
    write_page(copy)
    page = page_of(copy)
    assert "<script" not in page and page.count("&lt;script&gt;alert(") >= 8


def test_what_was_read_is_told_in_words(copy):
    data = json.loads((copy / "data.json").read_text())
    data |= {"modalities": ["ct"], "volumes": 1234}
    data["normalisation"] = {
        "modality": "ct", "low": -1000.0, "high": 1000.0, "method": "window",
        "clipped": 0.012, "padding": 0.0002, "per_volume": True,
    }  # fmt: skip
    other = dict(data, normalisation={"modality": "mr", "low": 3.0, "high": 700.5, "method": "m"})
    (copy / "data.json").write_text(json.dumps(data | {"b": other}))
    rewrite_config(
        copy, gan={"variant": "cyclegan", "objective": "hinge"}, data={"source_b": "B-folder"}
    )
    write_page(copy)
    page = page_of(copy)
    for words in (
        "Domain A", "Domain B", "B-folder", "1,234 volumes for training",
        "4 x 4 x 4 voxels of 1 x 1 x 2 mm", "Intensities from -1,000 to 1,000 HU became -1 to 1, ",
        "by a fixed window, of each volume by itself",
        "1.2% of the voxels lay outside and were clipped; less than 0.1 % are a scanner's padding",
        "Intensities from 3 to 700 became -1 to 1, by m.", "CONTAINS PATIENT DATA",
    ):  # fmt: skip
        assert words in html.unescape(page), words


def test_generated_volumes_alone_are_no_patient_data(finished):
    assert "CONTAINS PATIENT DATA" not in page_of(finished)


def tile_of(picture, tmp_path) -> np.ndarray:
    path = tmp_path / "tile.png"
    path.write_bytes(base64.b64decode(picture.source.partition(",")[2]))
    return read_png(path)[0]


def test_the_same_latents_at_several_steps(tmp_path):
    paths = {}
    for step in range(0, 1000, 50):
        paths[step] = tmp_path / f"step-{step:07d}.png"
        volumes = np.full((8, 1, 4, 4, 4), -1.0) + 2.0 * step / 1000
        write_sheet(paths[step], volumes, 4, caption="Step 1: c.", lines=("benign", "malignant"))
    shown = gallery(paths)
    assert shown.step == 950 and [len(row.pictures) for row in shown.newest] == [4, 4]
    assert [row.title for row in shown.newest + shown.earlier] == ["benign", "malignant"] * 2
    for row in shown.earlier:
        steps = [int(p.caption.removeprefix("step ")) for p in row.pictures]
        assert len(steps) == 6 and steps[0] == 0 and steps[-1] == 950 and steps == sorted(steps)
        greys = [tile_of(p, tmp_path)[0, 0] for p in row.pictures]
        assert greys == [round(255 * step / 1000) for step in steps]


def test_a_translation_is_shown_with_the_change_it_made(tmp_path):
    source, made = np.full((1, 4, 4, 4), -0.5), np.full((1, 4, 4, 4), 0.5)
    volumes = np.stack([source, made, source, made, made, made])
    path = tmp_path / "step-0000005.png"
    titles = ("source", "translation", "translated back")
    write_sheet(path, volumes, 3, caption="Step 5: c.", titles=titles, lines=("A to B", "B to A"))
    shown = gallery({5: path})
    first, second = shown.newest
    assert [p.caption.partition(" ")[0] for p in first.pictures] == [
        "source", "translation", "translation", "translated",
    ]  # fmt: skip
    levels = [int(tile_of(p, tmp_path)[0, 0]) for p in first.pictures]
    assert levels == [64, 191, 128 + 127 // 2, 64]
    assert tile_of(second.pictures[2], tmp_path)[0, 0] == 128


def test_a_damaged_picture_is_named_and_the_page_written(copy):
    (copy / "samples/step-0000007.png").write_bytes(b"\x89PNG\r\n\x1a\ncut")
    write_page(copy)
    assert "Left out:" in page_of(copy) and "Newest: step 6." in page_of(copy)


def test_long_runs_of_large_volumes_give_a_small_page(copy):
    rng = np.random.default_rng(0)
    names = [f"{phase}/{i}" for phase in ("critic", "generator") for i in range(10)]
    block = [
        json.dumps({"step": 0} | dict(zip(names, rng.normal(size=20), strict=True)))[10:]
        for _ in range(500)
    ]
    with open(copy / "metrics.jsonl", "w") as file:
        for step in range(100_000):
            file.write(f'{{"step": {step + 1}{block[step % 500]}\n')
    (copy / "history.jsonl").unlink()
    # Noise, which does not compress, of 160^3: what 256^3 comes to is bounded by the same rule.
    noise = rng.uniform(-1, 1, (16, 1, 160, 160, 160)).astype(np.float32)
    for step in range(1, 8):
        path = copy / "samples" / f"step-{step:07d}.png"
        write_sheet(path, noise, 4, caption="Step 1: c.", lines=tuple("abcd"))
    write_page(copy)
    assert 1e6 < (copy / "run.html").stat().st_size < 3e6


def series(**values) -> dict[str, Curve]:
    found = {}
    for name, given in values.items():
        key = name.replace("__", "/")
        found[key] = Curve(key, np.arange(1.0, len(given) + 1), np.asarray(given, float))
    return found


N = 80
LEVEL = np.ones(N)
HEALTHY = {
    "critic__loss": -LEVEL,
    "critic__collapse": 0.2 * LEVEL,
    "critic__gradient_norm": 1.2 * LEVEL,
    "critic__wasserstein": np.linspace(9, 2, N),
    "critic__jensen_shannon": 0.4 * LEVEL,
    "critic__score_gap/a": LEVEL,
    "critic__score_gap/b": 1.5 * LEVEL,
    "volumes_per_second": LEVEL,
    "memory": 2.0**30 * LEVEL,
}


def test_a_healthy_run_raises_no_alarm():
    assert alarms_of(series(**HEALTHY), Config()) == []


@pytest.mark.parametrize(
    ("name", "values", "title", "chart"),
    [
        (
            "critic__loss",
            np.where(np.arange(N) == 40, np.nan, -1),
            "A number that is not",
            "losses",
        ),
        ("skipped__critic", 3 * LEVEL, "Updates of the critic were left out", "skipped"),
        ("critic__collapse", np.linspace(0, 1, N), "The generator repeats itself", "collapse"),
        ("critic__jensen_shannon", 0.69 * LEVEL, "The critic has won", "divergence"),
        ("critic__total_variation", 0.99 * LEVEL, "The critic has won", "share-apart"),
        ("critic__gradient_norm", 5 * LEVEL, "The critic is too steep", "slope"),
        ("critic__gradient_norm", 0.1 * LEVEL, "The critic is too flat", "slope"),
        ("critic__wasserstein", np.linspace(1, 9, N), "The distance to the real", "wasserstein"),
        ("critic__score_gap/b", 9 * LEVEL, "Class b lags behind", "classes"),
        ("volumes_per_second", np.where(np.arange(N) < 55, 9, 2), "Slower than before", "speed"),
        ("memory", np.linspace(1e9, 9e9, N), "Memory keeps growing", "memory"),
        ("pictures__alarm/drifted_AB", [0, 0.5], "Translations that move", "structure-alarms"),
        ("pictures__alarm/inverted_BA", [1.0], "Translations with inverted", "structure-alarms"),
    ],
)
def test_alarms(name, values, title, chart):
    (alarm,) = alarms_of(series(**(HEALTHY | {name: values})), Config())
    assert alarm.title.startswith(title) and alarm.chart == chart
    key = name.replace("__", "/")
    assert alarm.metrics == (key,) and len(alarm.advice) > 20 and re.search(r"\d", alarm.seen)
    charts = {c.key: c for c in charts_of([key], Config())}
    assert key in charts[chart].metrics


def test_the_first_rows_raise_no_alarm_of_tendency():
    early = {name: values[:10] * 100 for name, values in HEALTHY.items()}
    assert alarms_of(series(**early), Config()) == []


def test_an_alarm_is_marked_in_its_chart(copy):
    rows_to(copy, [{"step": s, "critic/loss": None if s == 3 else 1.0} for s in range(1, 8)])
    write_page(copy)
    page = page_of(copy)
    assert page.count('class="mark"') == 1 and "A number that is not finite, step 3" in page
    assert "first at step 3" in page
