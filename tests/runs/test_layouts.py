"""Sets as DICOM series and as a BIDS derivative: what other programs read there, and who is not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastgan
from fastgan.config import DataConfig
from fastgan.data import open_dataset, read_manifest, read_volume, save_volume
from fastgan.data.dicom_writer import save_series
from fastgan.errors import BadFile, ConfigError, NumericsError
from fastgan.runs.generate import generate
from fastgan.runs.replay import replay
from fastgan.runs.verify import verify
from fastgan.train import RunFolder, checkpoint
from fastgan.train.run_key import public_key

pydicom = pytest.importorskip("pydicom")

SMALL: dict[str, Any] = {
    "latent_dim": 2,
    "generator_channels": (4, 4),
    "critic_channels": (4, 4),
    "critic_steps": 1,
}
FIT: dict[str, Any] = {"steps": 1, "batch_size": 2, "device": "cpu"}
AFFINE = np.array([[2.0, 0, 0, -7], [0, 2.0, 0, -9], [0, 0, 3.0, 4], [0, 0, 0, 1]])


def _run(modality: str, factory: pytest.TempPathFactory) -> Path:
    scans, rng = factory.mktemp("scans"), np.random.default_rng(0)
    for i in range(8):
        values = rng.uniform(0.0 if modality == "mask" else -1000.0, 1.0, (8, 8, 8))
        values = (values > 0.5) if modality == "mask" else values
        (scans / "ab"[i % 2]).mkdir(exist_ok=True)
        save_volume(
            scans / "ab"[i % 2] / f"v{i}.nii.gz", values.astype(np.float32), np.diag([2.0, 2, 2, 1])
        )
    data = DataConfig(source=str(scans), shape=(8, 8, 8), modality=modality, conditional=True)
    dataset = open_dataset(data, "train")
    return fastgan.NonSaturatingGAN(**SMALL).fit(dataset, out=factory.mktemp("r"), **FIT).path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {modality: _run(modality, tmp_path_factory) for modality in ("ct", "mr", "mask")}


def _generate(run: Path, out: Path, layout: str) -> Path:
    folder = RunFolder(run)
    generate(folder, checkpoint.newest(run), out, count=3, device="cpu", layout=layout)
    return out


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_dicom_series(runs: dict[str, Path], tmp_path: Path, modality: str) -> None:
    out = _generate(runs[modality], tmp_path / "out", "dicom")
    plain = _generate(runs[modality], tmp_path / "plain", "nifti")
    uids: list[str] = []
    for i in range(3):
        files = sorted((out / f"volume-{i:05d}").iterdir())
        assert [file.name for file in files] == [f"{k:05d}.dcm" for k in range(1, 9)]
        slices = [pydicom.dcmread(file) for file in files]
        uids += [one.SOPInstanceUID for one in slices]
        uids += [slices[0].SeriesInstanceUID, slices[0].StudyInstanceUID]
        for one in slices:
            assert one[0x0008, 0x001C].value == "YES" and one.Modality == modality.upper()
            assert one.PatientName == "synthetic" and one.PatientID.startswith("synthetic-")
            assert not one.PatientBirthDate and not one.ReferringPhysicianName
        ours = read_volume(out / f"volume-{i:05d}")
        wanted = read_volume(plain / f"volume-{i:05d}.nii.gz")
        step = 0.5 if modality == "ct" else float(slices[0].RescaleSlope) * 0.5
        assert np.abs(ours.array - wanted.array).max() <= step * 1.001
        assert np.allclose(ours.affine, wanted.affine, atol=1e-4)
    assert len({*uids}) == len(uids)
    assert all(re.fullmatch(r"2\.25\.[1-9]\d{1,38}", uid) for uid in uids)
    assert [item.label for item in read_manifest(out / "manifest.csv")]
    found = verify(out, public_key(runs[modality]))
    assert found.exit_code == 0 and len(found.checked) == 3
    assert replay(out, RunFolder(runs[modality]), device="cpu").exit_code == 0


def test_a_slice_taken_out_or_changed(runs: dict[str, Path], tmp_path: Path) -> None:
    out = _generate(runs["ct"], tmp_path / "out", "dicom")
    slice_ = out / "volume-00001" / "00004.dcm"
    content = slice_.read_bytes()
    slice_.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (out / "volume-00002" / "00003.dcm").unlink()
    found = verify(out, public_key(runs["ct"]))
    assert [one.standing for one in found.checked] == ["intact", "altered", "missing"]
    assert "1 of 8 files" in found.checked[2].about


def test_masks_have_no_dicom(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none of a mask"):
        _generate(runs["mask"], tmp_path / "out", "dicom")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="did you mean 'bids'"):
        _generate(runs["mask"], tmp_path / "out", "bid")


@pytest.mark.parametrize(
    ("values", "modality", "error"),
    [
        (np.full((4, 4, 4), np.nan), "ct", NumericsError),
        (np.zeros((4, 4, 1)), "ct", ConfigError),
        (np.zeros((4, 4)), "ct", ConfigError),
        (np.zeros((4, 4, 4)), "mask", ConfigError),
    ],
)
def test_series_that_cannot_be(tmp_path: Path, values: Any, modality: str, error: Any) -> None:
    with pytest.raises(error):
        save_series(tmp_path / "s", values, AFFINE, modality=modality, subject="s", description="d")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("scale", [0.0, 1e-30, 3.7, 1e30])
def test_series_of_any_range(tmp_path: Path, scale: float) -> None:
    values = np.random.default_rng(0).normal(size=(5, 6, 7)) * scale
    about: dict[str, Any] = {"modality": "mr", "subject": "s", "description": "d"}
    save_series(tmp_path / "s", values, AFFINE, **about)
    found = read_volume(tmp_path / "s")
    assert np.abs(found.array - values).max() <= np.abs(values).max() / 32767 * 0.5001 + 1e-37
    assert np.allclose(found.affine, AFFINE)
    with pytest.raises(BadFile, match="make the folder"):
        save_series(tmp_path / "s", values, AFFINE, **about)


def test_bids(runs: dict[str, Path], tmp_path: Path) -> None:
    out = _generate(runs["mr"], tmp_path / "out", "bids")
    described = json.loads((out / "dataset_description.json").read_bytes())
    assert described["DatasetType"] == "derivative" and described["GeneratedBy"][0]["Name"]
    people = (out / "participants.tsv").read_text().splitlines()
    assert people[0] == "participant_id\tlabel" and len(people) == 4
    for line in people[1:]:
        subject, label = line.split("\t")
        assert label in ("a", "b") and re.fullmatch("sub-[A-Za-z0-9]+", subject)
        volume = out / subject / "anat" / f"{subject}_desc-synthetic_MRI.nii.gz"
        assert read_volume(volume).array.shape == (8, 8, 8)
        beside = json.loads(volume.with_name(volume.name[:-7] + ".json").read_bytes())
        assert beside["SyntheticData"] is True
    assert len(open_dataset(DataConfig(source=str(out), shape=(8, 8, 8)), "train")) == 3
    assert verify(out, public_key(runs["mr"])).exit_code == 0
    assert replay(out, RunFolder(runs["mr"]), count=2, device="cpu").exit_code == 0
