"""The laws of the study of verdicts draw what they say, by tests that the audit does not use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from bench.studies.truth import laws, sources
from bench.studies.truth.faults import FAULTS
from bench.studies.truth.volumes import axis_turns, bent, blobs, fields, resampled, turns
from bench.studies.truth.worlds import SITES, Setting, World
from tests.conftest import NO_CT, NO_HEAD

HERE = [name for name in laws.FAMILIES if name != "head" or sources.HEAD.is_file()]


@pytest.fixture(autouse=True)
def lung_without_ct(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same data on every machine: coloured noise for the lung."""
    monkeypatch.setattr(sources, "CT", Path("no-ct"))
    laws._KEPT.clear()
    yield
    laws._KEPT.clear()


def slope(volumes: np.ndarray, low: float, high: float) -> float:
    """Exponent of the power spectrum, averaged over volumes, between two frequencies."""
    size = volumes.shape[1]
    window = np.hanning(size + 2)[1:-1]
    weight = window[:, None, None] * window[:, None] * window
    centred = (volumes - volumes.mean(axis=(1, 2, 3), keepdims=True)) * weight
    power = np.square(np.abs(np.fft.fftn(centred, axes=(1, 2, 3)))).mean(axis=0)
    wave = np.fft.fftfreq(size)
    wave = np.sqrt(wave[:, None, None] ** 2 + wave[:, None] ** 2 + wave**2)
    used = (wave >= low) & (wave <= high)
    return -float(np.polyfit(np.log(wave[used]), np.log(power[used]), 1)[0])


def energy_p(first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> float:
    """Permutation p of the energy distance between rows that are independent of each other."""
    both = np.concatenate([first, second])
    both = (both - both.mean(axis=0)) / both.std(axis=0)
    apart, count = cdist(both, both), len(first)

    def energy(order: np.ndarray) -> float:
        a, b = order[:count], order[count:]
        across = apart[np.ix_(a, b)].mean()
        return float(2 * across - apart[np.ix_(a, a)].mean() - apart[np.ix_(b, b)].mean())

    seen = energy(np.arange(len(both)))
    null = [energy(rng.permutation(len(both))) for _ in range(199)]
    return (1 + sum(n >= seen for n in null)) / 200


def simple(volumes: np.ndarray) -> np.ndarray:
    """[N, 9] what a first look measures: brightness, spread, quantiles, the middle, grain."""
    flat = volumes.reshape(len(volumes), -1)
    size = volumes.shape[1]
    inner = volumes[(slice(None), *(slice(size // 4, -(size // 4)),) * 3)].reshape(len(volumes), -1)
    grain = np.abs(np.diff(volumes, axis=1)).mean(axis=(1, 2, 3))
    middle = np.quantile(inner, [0.5, 0.9, 0.98, 1.0], axis=1).T
    bright = (inner > np.quantile(inner, 0.9)).mean(axis=1)
    rest = [flat.mean(axis=1), flat.std(axis=1), grain, inner.std(axis=1), bright]
    return np.column_stack([middle, *rest])


@pytest.mark.parametrize("exponent", [1.5, 2.5, 3.5])
@pytest.mark.parametrize("size", [17, 24])
def test_fields_have_the_spectrum_they_are_asked_for(exponent: float, size: int) -> None:
    drawn = fields(60, size, exponent, np.random.default_rng(1))
    # Without a window: these repeat themselves at the borders.
    power = np.square(np.abs(np.fft.fftn(drawn, axes=(1, 2, 3)))).mean(axis=0)
    wave = np.fft.fftfreq(size)
    wave = np.sqrt(wave[:, None, None] ** 2 + wave[:, None] ** 2 + wave**2)
    used = wave > 1.6 / size
    fitted = np.polyfit(np.log(wave[used]), np.log(power[used]), 1)[0]
    assert fitted == pytest.approx(-exponent, abs=0.08)
    assert drawn.var() == pytest.approx(1.0, abs=0.06)
    assert np.abs(drawn.mean(axis=(1, 2, 3))).max() < 1e-5


def test_displacement_has_its_length_and_is_smooth() -> None:
    drawn = bent(20, 16, np.linspace(0.5, 2.0, 20), np.random.default_rng(2))
    lengths = np.sqrt(np.square(drawn).mean(axis=(1, 2, 3, 4)))
    assert lengths == pytest.approx(np.linspace(0.5, 2.0, 20), rel=1e-4)
    steps = np.sqrt(np.square(np.diff(drawn, axis=2)).mean(axis=(1, 2, 3, 4)))
    assert (steps < 0.5 * lengths).all()


def test_resampling_moves_as_it_says() -> None:
    rng = np.random.default_rng(3)
    volumes = rng.standard_normal((3, 9, 9, 9)).astype(np.float32)
    assert resampled(volumes) == pytest.approx(volumes, abs=1e-5)
    one = resampled(volumes, shift=np.tile([1.0, 0.0, -2.0], (3, 1)), fill=-7.0)
    assert one[:, :-1, :, 2:] == pytest.approx(volumes[:, 1:, :, :-2], abs=1e-4)
    assert one[:, -1] == pytest.approx(-7.0) and one[:, :, :, 0] == pytest.approx(-7.0)
    mirror = resampled(volumes, np.diag([1.0, 1.0, -1.0]))
    assert mirror == pytest.approx(volumes[..., ::-1], abs=1e-4)
    swapped = resampled(volumes, np.eye(3)[[1, 0, 2]])
    assert swapped == pytest.approx(volumes.transpose(0, 2, 1, 3), abs=1e-4)


def test_turns_are_rotations_of_the_asked_size() -> None:
    drawn = turns(400, 10.0, np.random.default_rng(4))
    assert drawn @ drawn.transpose(0, 2, 1) == pytest.approx(np.tile(np.eye(3), (400, 1, 1)))
    assert np.linalg.det(drawn) == pytest.approx(1.0)
    angle = np.degrees(np.arccos((np.trace(drawn, axis1=1, axis2=2) - 1) / 2))
    assert np.sqrt(np.square(angle).mean()) == pytest.approx(10.0, rel=0.12)
    cube = axis_turns(500, np.random.default_rng(5))
    assert len({tuple(one.ravel()) for one in cube}) == 48


def test_a_smooth_lesion_is_a_ball_of_its_radius() -> None:
    surface = np.zeros((1, 24, 24, 24), np.float32)
    ball = blobs(24, np.zeros((1, 3)), np.array([6.0]), np.array([0.0]), surface)
    # The logistic edge of 0.6 voxels adds (pi 0.6 / r)^2.
    expected = 4 / 3 * np.pi * 6.0**3 * (1 + (np.pi * 0.6 / 6.0) ** 2)
    assert float(ball.sum()) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("family", HERE)
def test_classes_can_be_told_apart_but_not_surely(family: str) -> None:
    """A linear classifier of nine simple features: well above chance, below certainty."""

    def area(clarity: float) -> float:
        world = World(Setting(family, 16, generated=500), 5)
        drawn = world.fresh(500, f"classes {clarity}", clarity=clarity)
        seen, labels = simple(world.values(drawn.raw)), drawn.labels
        seen = (seen - seen.mean(axis=0)) / np.maximum(seen.std(axis=0), 1e-6)
        fit = LogisticRegression(max_iter=500).fit(seen[:330], labels[:330])
        return float(roc_auc_score(labels[330:], fit.predict_proba(seen[330:])[:, 1]))

    plain, clear = area(1.0), area(1.4)
    assert 0.75 < plain < 0.985
    assert clear > plain + 0.01


@pytest.mark.parametrize("family", HERE)
def test_a_perfect_generator_is_indistinguishable_and_a_spoilt_one_is_not(family: str) -> None:
    rng = np.random.default_rng(6)
    p = []
    for seed in range(4):
        world = World(Setting(family, 16, 150, generated=100), seed)
        held, made = world.values(world.holdout.raw), world.values(world.generated.raw)
        p.append(energy_p(simple(held), simple(made), rng))
    assert min(p) > 0.05 / 4 and np.mean(p) > 0.15
    assert energy_p(simple(held), simple(0.8 * (made + 1) - 1), rng) <= 0.01


@pytest.mark.parametrize("family", HERE)
def test_scans_of_a_patient_resemble_each_other_more_than_others(family: str) -> None:
    world = World(Setting(family, 16, 60, "4", generated=40), 7)
    cohort = world.cohort(world.training, "training")
    flat = cohort.values.reshape(len(cohort), -1)
    apart = cdist(flat, flat)
    same = cohort.subjects[:, None] == cohort.subjects
    own = apart[same & ~np.eye(len(flat), dtype=bool)]
    assert own.min() > 0
    assert np.median(own) < 0.8 * np.median(apart[~same])


@pytest.mark.parametrize(("volumes", "sites"), [("1-3", 2), ("1-3", 3), ("4", 2), ("4", 3)])
def test_counts_go_with_the_site_where_they_are_tied(volumes: str, sites: int) -> None:
    world = World(Setting("fields", 16, 60, volumes, sites, tied=True), 8)
    subjects = np.concatenate([world.training.subjects, world.holdout.subjects])
    where = np.concatenate([world.training.sites, world.holdout.sites])
    known, counts = np.unique(subjects, return_counts=True)
    assert len(known) == 60
    by_site = [set(counts[np.isin(known, subjects[where == site])]) for site in SITES[:sites]]
    assert all(len(found) == 1 for found in by_site)
    assert by_site[0] == {1} and by_site[-1] == {3 if volumes == "1-3" else 4}
    loose = World(Setting("fields", 16, 60, "1-3", 2), 8).training
    several = {
        site: np.unique(loose.subjects[loose.sites == site], return_counts=True)[1]
        for site in SITES[:2]
    }
    assert all(set(found) == {1, 2, 3} for found in several.values())


def test_patients_are_of_one_side_and_a_third_is_held_out() -> None:
    evidence = World(Setting("fields", 16, 90, "1-3", 2), 9).evidence()
    assert evidence.training.n_subjects == 60 and evidence.holdout.n_subjects == 30
    assert not np.intersect1d(evidence.training.subjects, evidence.holdout.subjects).size
    assert evidence.generated is not None and evidence.generated.n_subjects == 300
    assert not evidence.generated.columns and set(evidence.training.columns) == {"site"}
    assert evidence.spacing == (3.0, 3.0, 3.0)


def test_a_data_set_is_its_setting_and_seed() -> None:
    setting = Setting("fields", 16, 30, generated=20)
    first, again, other = World(setting, 1), World(setting, 1), World(setting, 2)
    again.fresh(5, "something else first")
    assert np.array_equal(first.generated.raw, again.generated.raw)
    assert np.array_equal(first.training.raw, again.training.raw)
    assert not np.array_equal(first.training.raw, other.training.raw)
    assert not np.array_equal(
        first.training.raw, World(replace(setting, window="percentiles"), 1).training.raw
    )


def test_percentiles_are_each_volumes_own() -> None:
    world = World(Setting("fields", 16, 30, window="percentiles", generated=20), 3)
    values = world.cohort(world.generated, "generated").values
    raw = world.generated.raw
    gained = world.values(raw * np.linspace(0.5, 2, 20, dtype=np.float32)[:, None, None, None])
    assert gained == pytest.approx(values, abs=1e-4)
    assert ((values == 1).mean(axis=(1, 2, 3)) > 0.001).all()


def test_lung_texture_is_as_measured() -> None:
    """The constants of the coloured noise, against the chest CT."""
    path = Path(sources.FOLDER) / "cxr.nii.gz"
    if not path.is_file():
        pytest.skip(NO_CT)
    sources.CT = path  # the fixture puts it back
    chest, rng = sources.chest(), np.random.default_rng(10)
    still = np.zeros((120, 3, 2, 2, 2), np.float32)
    read = chest.cubes(chest.centres(120, rng), axis_turns(120, rng), still)
    lung = np.minimum(read.reshape(120, 24, 2, 24, 2, 24, 2).mean(axis=(2, 4, 6)), -600.0)
    assert lung.mean() == pytest.approx(sources.LUNG_MEAN, abs=25)
    assert lung.std() == pytest.approx(sources.LUNG_DEVIATION, abs=15)
    assert slope(lung, 2.5 / 24, 0.35) == pytest.approx(sources.LUNG_EXPONENT, abs=0.3)


def test_places_of_the_head_hold_tissue() -> None:
    if not sources.HEAD.is_file():
        pytest.skip(NO_HEAD)
    template = sources.head()
    cubes = sources.cubes(
        template, np.array(sources.PLACES, float), np.tile(np.eye(3), (8, 1, 1)), None
    )
    assert cubes.shape == (8, 48, 48, 48)
    assert ((cubes > 0.3).mean(axis=(1, 2, 3)) > 0.4).all()
    x, y, z = sources.PLACES[0]
    assert cubes[0, 24, 24, 24] == pytest.approx(
        template[x : x + 2, y : y + 2, z : z + 2].mean(), abs=1e-4
    )


@pytest.mark.parametrize("name", list(FAULTS), ids=" ".join)
def test_every_fault_can_be_planted(name: tuple[str, str]) -> None:
    """In a small data set: well formed, and something differs from the clean one."""
    world = World(Setting("fields", 16, 60, "1-3", 2, tied=name[0].startswith("gain")), 11)
    clean, planted = world.evidence(), FAULTS[name].make(world)
    pairs = [(clean.training, planted.training), (clean.holdout, planted.holdout)]
    pairs.append((clean.generated, planted.generated))
    same = all(
        len(a) == len(b)
        and np.array_equal(a.values, b.values)
        and np.array_equal(a.subjects, b.subjects)
        and (a.labels is None) == (b.labels is None)
        and (b.labels is None or np.array_equal(a.labels, b.labels))
        and {k: list(v) for k, v in a.columns.items()} == {k: list(v) for k, v in b.columns.items()}
        for a, b in pairs
    )
    assert same == (FAULTS[name].kind == "clean")
    assert len(planted.generated) == 300 and planted.generated.n_subjects == 300
