"""The examples are what the documentation says they are, on a stand-in for their data."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fastgan import config as configuration
from fastgan.data import read_manifest, read_volume, save_volume
from fastgan.errors import BadFile, ConfigError
from fastgan.gans import CycleGAN
from fastgan.pictures.sheets import read_sheet
from fastgan.train.build import variant_of
from fastgan.utility.settings import load as load_study

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TEMPLATE = (40, 64, 48)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda p: p.stem)
def test_networks_of_every_configuration(path: Path) -> None:
    # A utility study holds the configuration of its generator.
    study = path.stem.startswith("utility")
    chosen = load_study(path).run if study else configuration.load(path)
    domain = {"normalisation": {"modality": "mr"}}
    facts: dict[str, Any] = domain | {"shape": chosen.data.shape, "channels": 1, "b": domain}
    facts |= {"classes": ["benign", "malignant"], "prior": [0.5, 0.5]}
    variant = variant_of(chosen, facts)
    assert isinstance(variant, CycleGAN) == ("cyclegan" in path.stem)


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("t1_gm", EXAMPLES / "cyclegan_t1_gm.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["t1_gm"] = module  # where its data classes look for their annotations
    spec.loader.exec_module(module)
    yield module
    del sys.modules["t1_gm"]


def test_regions_are_apart_and_no_mirror_images(example: ModuleType) -> None:
    places = list(example.REGIONS.values())
    for i, first in enumerate(places):
        # The mid-plane is voxel 98: nothing reaches the other half, where a mirror image lies.
        assert first[0].stop <= 98
        assert all(extent.stop <= n for extent, n in zip(first, example.TEMPLATE, strict=True))
        for second in places[:i]:
            apart = [a.stop <= b.start or b.stop <= a.start for a, b in zip(first, second)]  # noqa: B905
            assert any(apart)


def test_scores_and_lookup_in_closed_form(example: ModuleType) -> None:
    t1 = np.array([0.0, 0.5, 1.0, 0.5], np.float32)
    truth = np.array([0.0, 1.0, 0.0, 0.6], np.float32)
    assert example.scores(truth, truth) == (pytest.approx(1.0), 0.0)
    assert example.scores(1.0 - truth, truth)[0] == pytest.approx(-1.0)
    correlation, error = example.scores(np.full_like(truth, 0.5), truth)
    assert np.isnan(correlation) and error == pytest.approx((0.5 + 0.5 + 0.5 + 0.1) / 4)
    np.testing.assert_allclose(example.lookup(t1, truth), [0.0, 0.8, 0.0, 0.8], rtol=1e-6)
    lines = example.table(t1, truth, truth).splitlines()
    assert lines[3].split()[-4:] == ["1.000", "0.000", "1.000", "0.000"]


def test_the_whole_example_on_a_phantom(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    rng = np.random.default_rng(0)
    t1 = rng.uniform(0.0, 235.0, TEMPLATE).astype(np.float32)
    gm = 255.0 * (np.abs(t1 - 160.0) < 40.0).astype(np.float32)
    paths = {}
    for kind, array in (("t1", t1), ("gm", gm)):
        paths[kind] = save_volume(tmp_path / f"{kind}.nii.gz", array, np.eye(4))
    wide = (slice(0, 40), slice(32, 64), slice(0, 48))
    low = (slice(0, 40), slice(0, 24), slice(0, 24))
    regions = {"A": wide, "B": wide, "validation": low, "held-out": low}
    monkeypatch.setattr(example, "TEMPLATE", TEMPLATE)
    monkeypatch.setattr(example, "REGIONS", regions)
    out = tmp_path / "out"
    arguments = ["--t1", str(paths["t1"]), "--gm", str(paths["gm"]), "--out", str(out)]
    assert example.main([*arguments, "--steps", "2", "--seeds", "5", "6", "--processes", "1"]) == 0
    text = capsys.readouterr().out
    assert text == (out / "scores.txt").read_text() and "2 restarts of 2 steps" in text
    lines = text.splitlines()
    restarts = [line.split() for line in lines[3:5]]
    assert [row[0] for row in restarts] == ["5", "6"]
    best = min(restarts, key=lambda row: float(row[1]))
    assert [row[-1] == "taken" for row in restarts] == [row is best for row in restarts]
    assert f"held-out region of MNI152 (one anatomy), seed {best[0]}" in text
    rows = {line[:34].strip(): line[34:].split() for line in lines[9:13]}
    assert float(rows["paired intensity lookup (ceiling)"][0]) > 0.9
    assert float(rows["cyclegan, unpaired"][1]) > 0.1
    # Four lines of three slices, of 40 x 24 x 24 voxels.
    assert read_sheet(out / "held-out.png").tiles.shape == (4, 40, 24 + 24 + 24 + 3)
    with pytest.raises(ConfigError, match="exists already"):
        example.main(arguments)
    monkeypatch.setattr(example, "TEMPLATE", (40, 64, 47))
    with pytest.raises(BadFile, match="the template has"):
        example.main([*arguments[:4], "--out", str(tmp_path / "other")])


def test_the_choice_needs_no_truth(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a right and an inverting translator the right one is taken, whatever the scores say."""
    rng = np.random.default_rng(1)
    t1 = rng.random((24, 24, 24), dtype=np.float32)
    right = {"A": {"T1": t1}, "B": {"GM": t1[::-1] ** 3}}
    answers = {0: lambda x: 1.0 - x, 1: lambda x: x}

    class Known(example.Restart):  # type: ignore[name-defined, misc]
        def translator(self, direction: str) -> Any:
            return answers[self.seed], 3.0 if direction == "A_to_B" else 1.0 / 3.0

    monkeypatch.setattr(example, "translate", lambda known, x: known[0](x) ** known[1])
    restarts = [Known(seed, tmp_path, 0.0) for seed in answers]
    for truth in (t1**3, 1.0 - t1**3):
        regions = right | {"validation": {"T1": t1, "GM": truth}}
        taken, text = example.choose(restarts, regions)
        assert taken.seed == 1 and text.splitlines()[2].endswith("taken")


def test_says_where_the_maps_are_to_be_had(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="give both, or neither"):
        example.find_maps(Path("t1.nii.gz"), None)
    monkeypatch.setattr(example, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install nilearn==0.14.1, or give --t1 and --gm"):
        example.find_maps(None, None)


def chest_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chest_ct", EXAMPLES / "chest_ct_cubes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cubes_of_lung_keep_voxels_and_place(tmp_path: Path, capsys: Any) -> None:
    chest = chest_example()
    rng = np.random.default_rng(0)
    values = rng.integers(-1000, 400, (34, 28, 12)).astype(np.int16)
    labels = np.zeros(values.shape, np.int16)
    labels[:20, :10] = 12  # two columns of cubes; of a third, a fifth, which is too little
    labels[20:22, :10] = 13
    affine = np.diag([1.0, 1.0, 2.5, 1.0])
    affine[:3, 3] = [-5.0, 7.0, 9.0]
    ct = save_volume(tmp_path / "ct.nii.gz", values, affine)
    organs = save_volume(tmp_path / "organs.nii.gz", labels, affine)
    out = tmp_path / "cubes"
    arguments = ["--ct", str(ct), "--organs", str(organs), "--side", "10", "--out", str(out)]
    assert chest.main(arguments) == 0
    assert "6 cubes in 2 columns of one patient" in capsys.readouterr().out
    items = read_manifest(out / "manifest.csv")
    assert {item.subject for item in items} == {"column-000-000", "column-010-000"}
    place = np.array([10, 0, 8])
    cube = read_volume(out / "column-010-000-008.nii.gz")
    np.testing.assert_array_equal(cube.array, values[10:20, :10, 8:12])
    np.testing.assert_allclose(cube.affine[:3, 3], affine[:3, :3] @ place + affine[:3, 3])
    with pytest.raises(ConfigError, match="exists already"):
        chest.main(arguments)
    assert len(list(out.iterdir())) == 7


def test_cubes_refuse_labels_of_another_scan(tmp_path: Path) -> None:
    chest = chest_example()
    ct = save_volume(tmp_path / "ct.nii.gz", np.arange(1000.0).reshape(10, 10, 10), np.eye(4))
    lung = np.full((10, 10, 10), 10, np.int16)
    lung[0] = 0
    given = {
        "moved": (lung, np.diag([1.0, 1.0, 2.0, 1.0]), "differ from"),
        "none": ((lung == 0).astype(np.int16), np.eye(4), "no voxel has a label of a lung"),
    }
    out = tmp_path / "out"
    for name, (labels, affine, message) in given.items():
        organs = save_volume(tmp_path / f"{name}.nii.gz", labels, affine)
        with pytest.raises(BadFile, match=message):
            chest.main(["--ct", str(ct), "--organs", str(organs), "--out", str(out)])
    organs = save_volume(tmp_path / "lung.nii.gz", lung, np.eye(4))
    for side, message in (("3", "give a longer side"), ("11", "give a shorter side")):
        with pytest.raises(ConfigError, match=message):
            chest.main(
                ["--ct", str(ct), "--organs", str(organs), "--side", side, "--out", str(out)]
            )
    assert not out.exists()
