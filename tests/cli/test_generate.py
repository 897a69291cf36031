from __future__ import annotations

import csv
import shutil

import nibabel
import numpy as np
import pytest

from fastgan.data import read_manifest
from fastgan.data.manifest import COLUMNS
from fastgan.train import checkpoint


def _rows(out):
    with open(out / "manifest.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def generated(cli, trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("generated") / "set"
    answer = cli("generate", "--run", trained, "--count", 4, "--out", out, "--labels", "equal")
    assert answer.code == 0, answer.err
    assert answer.out.strip() == str(out / "manifest.csv")
    return out


def test_manifest(generated):
    rows = _rows(generated)
    assert tuple(rows[0]) == COLUMNS
    assert [row["label"] for row in rows] == ["benign", "malignant"] * 2
    assert len({row["subject"] for row in rows}) == 4
    items = read_manifest(generated / "manifest.csv")
    assert [item.label for item in items] == ["benign", "malignant"] * 2
    assert {item.modality for item in items} == {"mask"}


def test_geometry_units_and_provenance(generated, trained):
    image = nibabel.load(generated / "volume-00002.nii.gz")
    digest = checkpoint.newest(trained).hash
    assert image.shape == (32, 32, 32)
    assert np.allclose(image.header.get_zooms(), 1.5)
    assert int(image.header["qform_code"]) > 0 and int(image.header["sform_code"]) > 0
    centre = image.affine @ [15.5, 15.5, 15.5, 1.0]
    assert np.allclose(centre[:3], 0.0)
    description = bytes(image.header["descrip"].tobytes()).rstrip(b"\0").decode()
    assert description == f"synthetic fastgan {digest[:12]}"
    values = image.get_fdata()
    assert 0.0 <= values.min() < values.max() <= 1.0
    text = image.header.extensions[0].get_content()
    text = text if isinstance(text, str) else text.decode()
    for part in (digest, '"index": 2', '"seed": 0', '"label": "benign"', '"synthetic": true'):
        assert part in text.replace('":', '": ').replace("  ", " ")


def test_a_volume_depends_on_seed_and_index_alone(cli, trained, generated, tmp_path):
    out = tmp_path / "one"
    assert (
        cli("generate", "--run", trained, "--count", 1, "--out", out, "--label", "benign").code == 0
    )
    same = "volume-00000.nii.gz"
    assert (out / same).read_bytes() == (generated / same).read_bytes()
    other = tmp_path / "other"
    arguments = ("--count", 1, "--out", other, "--label", "benign", "--seed", 1)
    assert cli("generate", "--run", trained, *arguments).code == 0
    assert (other / same).read_bytes() != (generated / same).read_bytes()


def test_nothing_is_overwritten(cli, trained, tmp_path):
    (tmp_path / "precious").write_text("x")
    answer = cli("generate", "--run", trained, "--count", 1, "--out", tmp_path)
    assert answer.code == 10 and "not an empty folder" in answer.err
    assert [p.name for p in tmp_path.iterdir()] == ["precious"]
    answer = cli("generate", "--run", trained, "--count", 1, "--out", tmp_path / "precious")
    assert answer.code == 10


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--count", 0], 2, "count must be >= 1"),
        (["--count", 1, "--label", "malign"], 2, "did you mean 'malignant'?"),
        (["--count", 1, "--seed", -1], 2, "seed >= 0"),
        (["--count", 1, "--checkpoint", 99], 10, "ckpt-99"),
        (["--count", 1, "--device", "tpu"], 2, "train.device"),
    ],
)
def test_rejects(cli, trained, tmp_path, arguments, code, said):
    out = tmp_path / "out"
    answer = cli("generate", "--run", trained, "--out", out, *arguments)
    assert answer.code == code and said in answer.err
    assert not out.exists() or not any(out.iterdir())


def test_a_damaged_checkpoint_is_not_used(cli, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / trained.name)
    newest = checkpoint.newest(run)
    file = newest.path / "ema.generator.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\1")
    arguments = ("--run", run, "--count", 1, "--out", tmp_path / "out")
    answer = cli("generate", *arguments, "--checkpoint", newest.step)
    assert answer.code == 11 and "ema.generator.safetensors" in answer.err
    answer = cli("generate", *arguments)
    assert answer.code == 0 and "ema.generator.safetensors" in answer.err
