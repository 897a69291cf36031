"""From every kind of source to generated volumes that `inspect`, `train` and `audit` read."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastgan.cli.main import main
from fastgan.data import save_volume
from fastgan.train import RunFolder
from tests.runs.pretended import Machine

SHAPE = (8, 8, 8)
SUBJECTS = 12
OPTIONAL: dict[str, Callable[[int], str]] = {
    "label": lambda i: "ab"[i % 2],
    "subject": lambda i: f"P{i // 2}",
    "site": lambda i: ("north", "")[i % 2],
    "scanner": lambda i: f"X{i % 2}",
    "split": lambda i: ("train", "test")[i // 2 % 2],
    "modality": lambda i: "MR",
}
SMALL = [
    *("--steps", "2", "--batch-size", "2", "--device", "cpu", "--holdout", "0.5"),
    *("--shape", "8", "8", "8", "--log-every", "1"),
]
NETWORKS = [
    *("--latent-dim", "2", "--critic-steps", "1"),
    *("--generator-channels", "4", "4", "--critic-channels", "4", "4"),
]


def volumes() -> np.ndarray:
    """[N, D, H, W] float32: bodies of different sizes in dark air."""
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*[np.linspace(-1.0, 1.0, n) for n in SHAPE], indexing="ij")
    radius = np.sqrt(sum(x**2 for x in axes))
    sizes = rng.uniform(0.6, 1.0, SUBJECTS)[:, None, None, None]
    noise = rng.uniform(0.0, 60.0, (SUBJECTS, *SHAPE))
    return np.where(radius < sizes, 100.0 + noise, 5.0).astype(np.float32)


def files(folder: Path, names: list[str]) -> list[str]:
    for name, volume in zip(names, volumes(), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_volume(folder / name, volume, np.eye(4))
    return names


def folder_of(root: Path, classes: bool) -> Path:
    files(root, [f"{'ab'[i % 2] + '/' if classes else ''}v{i}.nii.gz" for i in range(SUBJECTS)])
    return root


def manifest_of(root: Path, columns: list[str]) -> Path:
    names = files(root, [f"v{i}.nii" for i in range(SUBJECTS)])
    with open(root / "manifest.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", *columns])
        rows.writerows([n, *(OPTIONAL[c](i) for c in columns)] for i, n in enumerate(names))
    return root / "manifest.csv"


def dataset_json_of(root: Path) -> Path:
    files(root, [f"imagesTr/case{i}_0000.nii.gz" for i in range(SUBJECTS)])
    content = {"channel_names": {"0": "T1"}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(content))
    return root / "dataset.json"


def npz_of(root: Path) -> Path:
    root.mkdir()
    np.savez(root / "all.npz", volumes=volumes(), labels=np.arange(SUBJECTS) % 2)
    return root / "all.npz"


def bundled(root: Path) -> str:
    return "lidc-nodules"


SOURCES: dict[str, tuple[Callable[[Path], Path | str], list[str]]] = {
    "folder": (lambda root: folder_of(root, False), []),
    "folder-conditional": (lambda root: folder_of(root, True), ["--conditional"]),
    "manifest": (lambda root: manifest_of(root, []), []),
    "manifest-all": (lambda root: manifest_of(root, list(OPTIONAL)), []),
    "manifest-conditional": (lambda root: manifest_of(root, ["label"]), ["--conditional"]),
    "manifest-ct": (lambda root: manifest_of(root, []), ["--modality", "ct"]),
    "dataset.json": (dataset_json_of, []),
    "npz": (npz_of, []),
    "npz-conditional": (npz_of, ["--conditional"]),
    "npz-map": (npz_of, ["--modality", "map", "--window", "0", "200"]),
    "bundled": (bundled, ["--modality", "mask", "--shape", "32", "32", "32"]),
    "bundled-conditional": (
        bundled,
        ["--modality", "mask", "--conditional", "--shape", "32", "32", "32"],
    ),
} | {
    f"manifest-{column}": ((lambda root, c=column: manifest_of(root, [c])), [])
    for column in OPTIONAL
}


def done(capsys: pytest.CaptureFixture[str], *arguments: object, codes: Any = (0,)) -> str:
    code = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    assert code in codes, said.err
    return said.out.strip()


TRIED = ("folder", "bundled-conditional")
"""Sources of which `inspect` tries real steps; to the others a machine of known speed answers."""


@pytest.mark.parametrize("name", SOURCES)
def test_generated_volumes_are_read_back(
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make, flags = SOURCES[name]
    if name not in TRIED:
        monkeypatch.setattr("fastgan.runs.plan.measure", lambda config, memory: Machine()(config))
    source = make(tmp_path / "source")
    train = ["train", *NETWORKS, *SMALL, *flags]
    run = done(capsys, *train, "--source", source, "--out", tmp_path / "runs")
    out = tmp_path / "generated"
    manifest = done(capsys, "generate", "--run", run, "--count", "4", "--out", out,
                    *(["--labels", "equal"] if "--conditional" in flags else []))  # fmt: skip
    read_back(run, Path(manifest), train, tmp_path, capsys)
    only = [] if name in ("folder", "manifest-all") else ["--only", "leakage"]
    audit = ["audit", "--quick", *only, "--run", run, "--generated", out, "--device", "cpu"]
    done(capsys, *audit, "--out", tmp_path / "audit", codes=(0, 3, 4))
    report = json.loads((tmp_path / "audit" / "report.json").read_text())
    assert {c["name"]: c["volumes"] for c in report["cohorts"]}["generated"] == 4


def test_translated_volumes_are_read_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    domains = ["--source", folder_of(tmp_path / "a", False), "--variant", "cyclegan"]
    domains += ["--source-b", folder_of(tmp_path / "b", False), "--modality-b", "map"]
    domains += ["--window-b", "0", "200", "--translator-channels", "4", "4"]
    domains += ["--translator-blocks", "1", "--patch-critic-channels", "4", "4"]
    run = done(capsys, "train", *SMALL, *domains, "--out", tmp_path / "runs")
    out = tmp_path / "translated"
    manifest = done(capsys, "translate", "--run", run, "--direction", "A_to_B",
                    "--in", tmp_path / "a", "--out", out, "--device", "cpu")  # fmt: skip
    assert {row["modality"] for row in rows_of(Path(manifest))} == {"map"}
    train = ["train", *NETWORKS, *SMALL, "--window", "0", "200"]
    read_back(run, Path(manifest), train, tmp_path, capsys)
    audit = ["audit", "--quick", "--run", run, "--device", "cpu", "--out", tmp_path / "audit"]
    done(capsys, *audit, codes=(0, 3, 4))
    report = json.loads((tmp_path / "audit" / "report.json").read_text())
    assert "translated" in {cohort["name"] for cohort in report["cohorts"]}


def rows_of(manifest: Path) -> list[dict[str, str]]:
    with open(manifest, newline="") as file:
        return list(csv.DictReader(file))


def read_back(
    run: str, manifest: Path, train: list[str], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`inspect` proposes a configuration for the volumes, and `train` trains on them."""
    proposal = out / "proposal.yaml"
    found = json.loads(done(capsys, "inspect", manifest, "--json", "--write", proposal))
    assert not found["refused"] and len(found["files"]) == len(rows_of(manifest))
    again = done(capsys, *train, "--source", manifest, "--out", out / "again", "--holdout", "0")
    assert RunFolder(again).data()["volumes"] == len(rows_of(manifest))
