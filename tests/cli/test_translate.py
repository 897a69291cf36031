"""Translations lie on their source's grid, in its units, and say where they came from."""

from __future__ import annotations

import csv
import hashlib
import json

import nibabel
import numpy as np
import pytest
import torch

import fastgan
from fastgan.data import read_manifest, read_volume
from fastgan.runs.passport import content_of
from fastgan.train import checkpoint
from tests.cli.translator_run import SPACING, affine_of, body, same_geometry, save

GRIDS = {
    "RAS": (affine_of("RAS"), {}),
    "LPS": (affine_of("LPS"), {}),
    "SRP": (affine_of("SRP"), {"qform": 0, "sform": 2}),
    "AIL-qform": (affine_of("AIL"), {"qform": 1, "sform": 0}),
    "oblique": (affine_of("PSR", tilt=0.3), {"qform": 2, "sform": 1}),
    "NIfTI-2": (affine_of("IRA"), {"kind": nibabel.Nifti2Image}),
    "neither": (np.diag([-1.0, 1.5, 2.0, 1.0]), {"qform": 0, "sform": 0}),
    "4-D": (affine_of("LAS", tilt=0.1), {"four": True}),
}


@pytest.mark.parametrize("grid", GRIDS)
def test_identity_is_exact_where_only_axes_were_moved(cli, runs, translator, tmp_path, grid):
    affine, form = GRIDS[grid]
    spacing = nibabel.affines.voxel_sizes(affine)
    shape = tuple(int(40 / s) for s in spacing)
    array = (body(shape) + 7.0 * np.indices(shape)[0]).round().astype(np.int16)
    if form.get("four"):
        array, form = array[..., None], {}
    source = save(tmp_path / "scan.nii.gz", array, affine, **form)
    answer = cli(
        *("translate", "--run", runs["ct-ct"], "--direction", "A_to_B", "--in", source),
        *("--out", tmp_path / "out", "--device", "cpu"),
    )
    assert answer.code == 0, answer.err
    out = tmp_path / "out" / "scan.nii.gz"
    same_geometry(source, out)
    found = np.asarray(nibabel.load(out).dataobj)
    assert found.dtype == np.float32
    # Half a unit in the last place of float32 at 2000, a few times over.
    assert np.abs(found - array).max() < 2e-3
    assert "warning" not in answer.err
    volumes = json.loads((tmp_path / "out" / "translate.json").read_text())["volumes"]
    assert volumes[0]["resampled"] is False and volumes[0]["padded"] is False


@pytest.mark.parametrize(
    ("codes", "spacing", "tilt"),
    [
        ("RAS", (0.8, 1.1, 3.0), 0.0),
        ("LPS", (1.3, 0.9, 1.7), 0.0),
        ("SAR", (1.0, 1.5, 1.1), 0.0),
        ("PSR", (0.7, 2.2, 2.6), 0.25),
    ],
)
def test_identity_on_another_spacing(cli, runs, translator, tmp_path, codes, spacing, tilt):
    affine = affine_of(codes, spacing, tilt)
    sizes = nibabel.affines.voxel_sizes(affine)
    shape = tuple(int(45 / s) for s in sizes)
    millimetres = [np.arange(n) * s for n, s in zip(shape, sizes, strict=True)]
    x, y, z = np.meshgrid(*millimetres, indexing="ij")
    wave = 200.0 * np.cos(x / 9.0) * np.cos(y / 9.0) + 150.0 * np.sin(z / 9.0)
    source = save(tmp_path / "scan.nii", wave.astype(np.float32), affine)
    out = tmp_path / "out"
    arguments = ("--run", runs["ct-ct"], "--direction", "B_to_A", "--in", source, "--out", out)
    answer = cli("translate", *arguments, "--device", "cpu")
    assert answer.code == 0, answer.err
    same_geometry(source, out / "scan.nii.gz")
    found = np.asarray(nibabel.load(out / "scan.nii.gz").dataobj)
    # Linear interpolation of a wave of period 57 mm, there and back; edges are repeated.
    assert np.abs(found - wave).max() < 60.0
    inner = tuple(slice(3, -3) for _ in range(3))
    assert np.abs(found - wave)[inner].max() < 15.0
    # No shift: half a voxel would be seen.
    correlation = [
        np.corrcoef(np.roll(found, k, 0)[inner].ravel(), wave[inner].ravel())[0, 1]
        for k in (-1, 0, 1)
    ]
    assert max(correlation) == correlation[1] > 0.999
    assert abs(correlation[0] - correlation[2]) < 0.01
    facts = json.loads((out / "translate.json").read_text())["volumes"][0]
    assert facts["resampled"] is True and facts["direction"] == "B_to_A"


def test_units_manifest_provenance_and_report(cli, runs, translator, scans, tmp_path):
    asked = translator(lambda x: torch.where(x > -0.99, 0.3 - 0.5 * x, x))
    out = tmp_path / "out"
    arguments = ("--run", runs["ct-mr"], "--direction", "A_to_B", "--in", scans, "--out", out)
    answer = cli("translate", *arguments, "--checkpoint", 3, "--overlap", 0.25)
    assert answer.code == 0, answer.err
    assert answer.out.strip() == str(out / "manifest.csv")
    assert asked == [(runs["ct-mr"].name, 3, "A_to_B")]
    names = ["ct-1", "ct-2"]
    expected = {"manifest.csv", "translate.json", "passport.json", "passport.sig"}
    expected |= {f"{name}{end}" for name in names for end in (".nii.gz", ".png")}
    assert {p.name for p in out.iterdir()} == expected
    rows = list(csv.DictReader((out / "manifest.csv").open(newline="")))
    assert rows[0] == {
        "path": "ct-1.nii.gz",
        "label": "ill",
        "subject": "P1",
        "site": "north",
        "scanner": "X",
        "split": "train",
        "modality": "mr",
    }
    assert [(i.subject, i.split, i.modality) for i in read_manifest(out / "manifest.csv")] == [
        ("P1", "train", "mr"),
        ("P2", "holdout", "mr"),
    ]
    found = checkpoint.read(runs["ct-mr"] / "ckpt-3")
    report = json.loads((out / "translate.json").read_text())
    assert report["checkpoint"] == found.hash and report["alarmed"] == 0
    for folder, name, facts in zip(("one", "two"), names, report["volumes"], strict=True):
        source = scans / folder / "ct.nii.gz"
        made = nibabel.load(out / f"{name}.nii.gz")
        values = np.asarray(nibabel.load(source).dataobj) / 1000.0
        wanted = np.where(values > -0.99, 0.3 - 0.5 * values, values)
        assert np.abs(np.asarray(made.dataobj) - (20.0 + 150.0 * (wanted + 1.0))).max() < 1e-3
        assert made.header["descrip"].item() == f"synthetic fastgan {found.hash[:12]}".encode()
        assert b"Doe" not in (out / f"{name}.nii.gz").read_bytes()
        payload = read_volume(out / f"{name}.nii.gz").source.extensions[0][1]
        provenance = json.loads(payload.rstrip(b"\0"))
        assert provenance == {
            "synthetic": True,
            "software": f"fastgan {fastgan.__version__}",
            "checkpoint": found.hash,
            "step": 3,
            "direction": "A_to_B",
            "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
            "overlap": 0.25,
            "resampled": False,
            "padded": False,
            "content": content_of(out / f"{name}.nii.gz"),
        }
        assert facts["source"] == str(source) and facts["alarms"] == []
        assert facts["source_sha256"] == provenance["source_sha256"]
        assert facts["structure"]["dice"] > 0.95 and facts["structure"]["correlation"] < -0.9
        assert facts["normalisation"]["modality"] == "ct"
        assert (out / f"{name}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_mr_takes_its_own_range_and_the_newest_checkpoint(cli, runs, translator, tmp_path):
    asked = translator(lambda x: x)
    array = np.where(body((16, 16, 12)) > -900, body((16, 16, 12)) * 3.0 + 900.0, 0.0)
    np.savez(tmp_path / "brain.npz", image=array.astype(np.float32), spacing=np.array(SPACING))
    arguments = ("--run", runs["ct-mr"], "--direction", "B_to_A", "--in", tmp_path / "brain.npz")
    answer = cli("translate", *arguments, "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
    assert asked == [(runs["ct-mr"].name, 7, "B_to_A")]
    made = read_volume(tmp_path / "out" / "brain.nii.gz")
    assert np.allclose(made.spacing, SPACING) and made.array.shape == (16, 16, 12)
    facts = json.loads((tmp_path / "out" / "translate.json").read_text())["volumes"][0]
    low, high = facts["normalisation"]["low"], facts["normalisation"]["high"]
    assert 300.0 < low < 900.0 and high > 1100.0
    wanted = np.clip((array - low) / (high - low), 0.0, 1.0) * 2000.0 - 1000.0
    assert np.abs(made.array - wanted).max() < 0.01


def test_a_small_volume_needs_pad(cli, runs, translator, tmp_path):
    source = save(tmp_path / "thin.nii", body((20, 20, 7)).astype(np.int16), affine_of("LPS"))
    arguments = ("--run", runs["ct-ct"], "--direction", "A_to_B", "--in", source)
    answer = cli("translate", *arguments, "--out", tmp_path / "out")
    assert answer.code == 2 and not (tmp_path / "out").exists()
    for part in ("thin.nii", "axis W", "7", "12", "smaller shape", "--pad"):
        assert part in answer.err
    answer = cli("translate", *arguments, "--out", tmp_path / "out", "--pad")
    assert answer.code == 0, answer.err
    same_geometry(source, tmp_path / "out" / "thin.nii.gz")
    found = np.asarray(nibabel.load(tmp_path / "out" / "thin.nii.gz").dataobj)
    assert np.abs(found - body((20, 20, 7)).astype(np.int16)).max() < 2e-3
    assert json.loads((tmp_path / "out" / "translate.json").read_text())["volumes"][0]["padded"]


ALARMS = {
    "negative": ("ct-mr", lambda x: -x, "contrast inverted: the air", ["order"]),
    "tissue": (
        "ct-ct",
        lambda x: torch.where(x > -0.9, 0.1 - x, x),
        "contrast inverted: within the body",
        [],
    ),
    "nothing": ("ct-mr", lambda x: 0.0 * x, "body changed: Dice of the body masks is 0.00", []),
}


@pytest.mark.parametrize("case", ALARMS)
def test_alarms_are_said_and_written(cli, runs, translator, scans, tmp_path, case):
    run, function, said, _ = ALARMS[case]
    translator(function)
    out = tmp_path / "out"
    arguments = ("--run", runs[run], "--direction", "A_to_B", "--in", scans / "one", "--out", out)
    answer = cli("translate", *arguments)
    assert answer.code == 0, answer.err
    assert f"warning: ct.nii.gz: {said}" in answer.err
    assert "warning: 1 of 1 translations raise an alarm" in answer.err
    report = json.loads((out / "translate.json").read_text())
    assert report["alarmed"] == 1 and report["volumes"][0]["alarms"][0].startswith(said)


def test_without_air_nothing_is_said(cli, runs, translator, tmp_path):
    translator(lambda x: -x)
    array = np.random.default_rng(0).uniform(-100.0, 900.0, (16, 16, 12)).astype(np.float32)
    source = save(tmp_path / "inside.nii", array, affine_of("RAS"))
    out = tmp_path / "out"
    arguments = ("--run", runs["ct-mr"], "--direction", "A_to_B", "--in", source, "--out", out)
    answer = cli("translate", *arguments)
    assert answer.code == 0 and "no air visible" in answer.err
    structure = json.loads((out / "translate.json").read_text())["volumes"][0]["structure"]
    assert structure["dice"] is None and structure["correlation"] == -1.0
