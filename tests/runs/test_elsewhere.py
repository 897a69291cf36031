"""What is predicted for a GPU that is not here: the line, what fits, and that it says so."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastgan.cli.main import main
from fastgan.config import Config, load, parse
from fastgan.errors import ConfigError, ResourceLimit
from fastgan.runs.elsewhere import line_of, predict_elsewhere, small_shapes
from fastgan.runs.prediction import CONTEXT_BYTES
from fastgan.runs.probe import Measurement
from tests.runs.pretended import GB, at_once, made_up

PROCESS, GRID, EACH = int(3e8), 40.0, 60.0
asked: list[Config] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    asked.clear()


def exact(config: Config) -> Measurement:
    """A machine whose peaks lie on a line; recomputing halves what each volume holds."""
    asked.append(config)
    voxels = math.prod(config.data.shape)
    each = EACH / (2 if config.train.recompute else 1)
    return made_up(host_bytes=int(PROCESS + voxels * (GRID + each * at_once(config))))


def wish(**train: Any) -> Config:
    data = {"source": "folder", "shape": [256, 256, 256]}
    return parse({"data": data, "train": {"device": "cuda", "batch_size": 16} | train})


def test_three_small_trials_give_the_line() -> None:
    shapes = small_shapes(wish())
    assert shapes == ((64, 64, 64), (96, 96, 96))
    line = line_of(wish(), shapes, recompute=False, measure=exact)
    assert line.process == pytest.approx(PROCESS, rel=1e-4)
    assert (line.per_voxel, line.per_voxel_each) == pytest.approx((GRID, EACH), rel=1e-4)
    assert line.peak(10**6, 3) == pytest.approx(PROCESS + 1e6 * (GRID + 3 * EACH), rel=1e-4)
    tried = [(c.data.shape[0], c.train.batch_size, c.train.device) for c in asked]
    assert tried == [(64, 2, "cpu"), (96, 2, "cpu"), (96, 4, "cpu")]


@pytest.mark.parametrize(
    ("memory", "part", "recompute"),
    [(80, None, False), (16, 8, False), (10, 4, False), (3.5, 1, True)],
)
def test_the_first_way_that_fits_costs_least_time(
    memory: float, part: int | None, recompute: bool
) -> None:
    found = predict_elsewhere(wish(), int(memory * GB), measured_by=exact)
    assert (found.config.train.micro_batch, found.config.train.recompute) == (part, recompute)
    assert found.config.data == wish().data and wish().train.micro_batch is None
    # 16, 8, 4, 2 and 1 volumes at once, first with everything kept.
    assert [o.micro_batch for o in found.options] == 2 * [16, 8, 4, 2, 1]
    voxels = 256**3
    for option in found.options:
        each = EACH / (2 if option.recompute else 1)
        held = CONTEXT_BYTES + voxels * (GRID + option.micro_batch * each)
        # Those that wait for their part are on the device, too.
        held += 4 * voxels * (16 - option.micro_batch)
        assert option.device_bytes == pytest.approx(held, rel=1e-3)
        assert option.fits == (option.device_bytes <= 0.9 * memory * GB)


def test_groups_stay_whole() -> None:
    config = wish()
    config.model.minibatch_stddev = 4
    found = predict_elsewhere(config, 80 * GB, measured_by=exact)
    assert {o.micro_batch for o in found.options} == {16, 8, 4}
    assert [c.train.batch_size for c in asked[:3]] == [8, 8, 16]


def test_where_nothing_fits_the_least_is_named() -> None:
    with pytest.raises(ResourceLimit, match=r"1 GB; train.micro_batch 1 with train.recompute .*GB"):
        predict_elsewhere(wish(), GB, measured_by=exact)


def test_small_volumes_are_measured_instead() -> None:
    config = wish()
    config.data.shape = (16, 16, 16)
    with pytest.raises(ConfigError, match=r"16 x 16 x 16 is too small to be predicted"):
        predict_elsewhere(config, GB, measured_by=exact)


def test_the_command_says_that_it_predicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fastgan.runs.elsewhere._measured_once", exact)
    file, out = tmp_path / "config.yaml", tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump({"data": {"source": "folder", "shape": [256] * 3}}))
    assert main(["plan", str(file), "--gpu", "16", "--out", str(out)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == (
        "256 x 256 x 256 on a GPU of 16 GB: a prediction, from peaks of 64 x 64 x 64 and "
        "96 x 96 x 96 on this CPU; nothing was measured on a GPU"
    )
    assert told[2].split() == ["16", "17.4", "GB", "(no)", "9.32", "GB"]
    assert told[-1] == "predicted to fit: train.micro_batch 8, without train.recompute"
    assert load(out).train.micro_batch == 8
    assert main(["plan", str(file), "--gpu", "-1", "--out", str(tmp_path / "other.yaml")]) == 2
    assert "--gpu: must be a number of gigabytes above 0" in capsys.readouterr().err
