from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastgan.data import save_volume
from fastgan.train.run_folder import RunFolder

SHAPE = (8, 8, 8)
PRODUCTS = {"report.html", "report.json", "model_card.md", "dataset_card.md", "croissant.json"}


@pytest.fixture(scope="module")
def generated(cli, trained: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("generated") / "volumes"
    assert cli("generate", "--run", trained, "--count", 6, "--out", out).code == 0
    return out


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> tuple[Path, Path]:
    """A configuration of 30 small labelled volumes, and volumes that somebody else generated."""
    folder = tmp_path_factory.mktemp("foreign")
    rng = np.random.default_rng(0)
    np.savez(
        folder / "set.npz",
        volumes=rng.integers(0, 255, (30, *SHAPE)).astype(np.uint8),
        labels=np.arange(30) % 2,
        subjects=np.array([f"p{i}" for i in range(30)]),
    )
    config = folder / "data.yaml"
    config.write_text(
        f"data:\n  source: {folder / 'set.npz'}\n  shape: [8, 8, 8]\n  conditional: true\n"
        "  holdout: 0.4\n"
    )
    made = folder / "made"
    made.mkdir()
    rows = ["path,label"]
    for i in range(4):
        array = rng.uniform(0, 255, SHAPE).astype(np.float32)
        save_volume(made / f"v{i}.nii.gz", array, np.eye(4))
        rows.append(f"v{i}.nii.gz,{i % 2}")
    (made / "manifest.csv").write_text("\n".join(rows) + "\n")
    return config, made


def test_writes_report_and_cards_and_says_where(cli, trained, generated, tmp_path) -> None:
    out = tmp_path / "audit"
    answer = cli(
        *("audit", "--run", trained, "--generated", generated, "--out", out, "--quick"),
        *("--only", "leakage"),
    )
    report = json.loads((out / "report.json").read_bytes())
    # Nothing is planted with --quick, so that near-duplicates cannot be ruled out.
    assert answer.code == report["exit_code"] == 4, answer.out
    assert {p.name for p in out.iterdir()} == PRODUCTS
    assert str(out / "report.html") in answer.out and f"verdict: {report['verdict']}" in answer.out
    assert report["about"]["run"] == trained.name
    counts = {c["name"]: c["volumes"] for c in report["cohorts"]}
    assert counts["generated"] == 6 and counts["training"] > counts["held-out"] > 100
    for finding in report["findings"]:
        assert finding["key"] in answer.out and finding["sentence"] in answer.out
    card = (out / "model_card.md").read_text()
    assert "| objective | wgan-gp | the run's configuration |" in card
    data = (out / "dataset_card.md").read_text()
    assert "| headers that say synthetic | 6 of 6 files | this audit |" in data


def test_measurements_reach_the_judgement_by_path(cli, tmp_path) -> None:
    rng = np.random.default_rng(0)
    rows, sizes = {"data": ["path,subject,split"], "made": ["path"]}, ["path,lesion mm"]
    for folder, count in (("data", 40), ("made", 30)):
        (tmp_path / folder).mkdir()
        for i in range(count):
            array = rng.uniform(0, 255, SHAPE).astype(np.float32)
            save_volume(tmp_path / folder / f"v{i}.nii.gz", array, np.eye(4))
            split = "holdout" if i < 20 else "train"
            rows[folder].append(f"v{i}.nii.gz" + (f",p{i},{split}" if folder == "data" else ""))
            sizes.append(f"{folder}/v{i}.nii.gz,{rng.uniform(5, 20):.1f}")
        (tmp_path / folder / "manifest.csv").write_text("\n".join(rows[folder]) + "\n")
    config = tmp_path / "data.yaml"
    config.write_text(f"data:\n  source: {tmp_path / 'data'}\n  shape: [8, 8, 8]\n")
    table, asked = tmp_path / "lesions.csv", ("audit", "--config", config, "--only", "quality")
    asked = (*asked, "--generated", tmp_path / "made", "--measured", table)
    table.write_text("\n".join(sizes) + "\n")
    answer = cli(*asked, "--out", tmp_path / "audit")
    report = json.loads((tmp_path / "audit" / "report.json").read_bytes())
    (kinds,) = [f for f in report["findings"] if f["key"] == "quality.kinds"]
    assert any(c["name"].endswith("left out, by lesion mm") for c in kinds["controls"]), answer.err
    table.write_text("\n".join(sizes[:-1]) + "\n")
    answer = cli(*asked, "--out", tmp_path / "again")
    assert answer.code == 16 and "no row for" in answer.err
    assert not (tmp_path / "again").exists()


def test_volumes_of_another_program(cli, foreign, tmp_path) -> None:
    config, made = foreign
    out = tmp_path / "audit"
    answer = cli(
        *("audit", "--config", config, "--generated", made, "--out", out, "--quick"),
        *("--only", "memorization", "leakage", "--include-patient-images"),
    )
    assert answer.code in (3, 4), answer.err
    assert {p.name for p in out.iterdir()} == PRODUCTS | {"report-CONTAINS-PATIENT-DATA.html"}
    assert "CONTAINS PATIENT DATA" in (out / "report-CONTAINS-PATIENT-DATA.html").read_text()
    report = json.loads((out / "report.json").read_bytes())
    told = {f["judgement"]: f["sentence"] for f in report["findings"]}
    assert "annot tell" in told["memorization"]
    assert "left out by --only" in told["labels"]


def test_cards_of_another_program_invent_nothing(cli, foreign, tmp_path) -> None:
    config, made = foreign
    out = tmp_path / "audit"
    cli(
        "audit",
        "--config",
        config,
        "--generated",
        made,
        "--out",
        out,
        "--quick",
        "--only",
        "leakage",
    )
    model, data = ((out / f"{name}_card.md").read_text() for name in ("model", "dataset"))
    for what in ("networks", "objective", "steps", "batch size", "augmentation"):
        assert f"| {what} | not known | nobody here |" in model
    for invented in ("wgan-gp", "dcgan", "residual", "bfloat16", "Each NIfTI header says so"):
        assert invented not in model + data
    assert "| headers that say synthetic | 0 of 4 files | this audit |" in data
    assert "whether the program kept to it is not known | whoever ordered this audit |" in data
    for name in ("model_card.md", "dataset_card.md", "report.json", "report.html"):
        assert str(config.parent) not in (out / name).read_text(), name
    page = (out / "report.html").read_text()
    assert "used no augmentation" not in page and "is not known" in page
    report = json.loads((out / "report.json").read_bytes())
    assert report["options"]["augmentations"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("shape", r"(4, 4, 4) voxels, the training volumes have (8, 8, 8)"),
        ("spacing", "spacing 2 x 1 x 1 mm, the training volumes have 1 x 1 x 1 mm"),
        ("label", "label 7, the training volumes have 0, 1"),
    ],
)
def test_generated_volumes_that_do_not_fit(cli, foreign, tmp_path, change, message) -> None:
    config, _ = foreign
    made = tmp_path / "made"
    made.mkdir()
    shape = (4, 4, 4) if change == "shape" else SHAPE
    affine = np.diag([2.0 if change == "spacing" else 1.0, 1.0, 1.0, 1.0])
    array = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    save_volume(made / "v.nii.gz", array, affine)
    label = "7" if change == "label" else "1"
    (made / "manifest.csv").write_text(f"path,label\nv.nii.gz,{label}\n")
    out = tmp_path / "audit"
    answer = cli("audit", "--config", config, "--generated", made, "--out", out)
    assert answer.code == 16 and message in answer.err
    assert not out.exists()


def test_names_of_others_reach_neither_terminal_nor_cards_as_commands(cli, tmp_path) -> None:
    evil = "\x1b[31mred|cell"
    rng, rows = np.random.default_rng(0), ["path,subject,label,site"]
    for i in range(60):
        save_volume(
            tmp_path / f"v{i}.nii.gz", rng.uniform(0, 255, SHAPE).astype(np.float32), np.eye(4)
        )
        rows.append(f"v{i}.nii.gz,p{i},{i % 2},{evil if i % 2 else 'north'}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    config = tmp_path / "data.yaml"
    config.write_text(
        f"data:\n  source: {tmp_path / 'manifest.csv'}\n  shape: [8, 8, 8]\n  conditional: true\n"
        "  holdout: 0.4\n  window: [0, 255]\n"
    )
    out = tmp_path / "audit"
    answer = cli("audit", "--config", config, "--out", out, "--quick", "--only", "leakage")
    assert answer.code == 4 and "red|cell" in answer.out and "\x1b" not in answer.out
    for name in ("model_card.md", "dataset_card.md"):
        text = (out / name).read_text()
        assert "\x1b" not in text and "red|cell" not in text and "red\\|cell" in text


def test_needs_a_folder_of_its_own(cli, foreign, tmp_path) -> None:
    config, made = foreign
    (tmp_path / "notes.txt").write_text("mine")
    answer = cli("audit", "--config", config, "--generated", made, "--out", tmp_path)
    assert answer.code == 10 and "not an empty folder" in answer.err


def test_refuses_what_it_does_not_know(cli, foreign, tmp_path) -> None:
    config, made = foreign
    asked = ("audit", "--config", config, "--generated", made, "--out", tmp_path / "a")
    answer = cli(*asked, "--only", "memorisation")
    assert answer.code == 2 and "unknown judgement 'memorisation'" in answer.err
    answer = cli(*asked, "--seed", -1)
    assert answer.code == 2 and "--seed" in answer.err
    answer = cli("audit", "--out", tmp_path / "a")
    assert answer.code == 2


def test_data_that_have_changed_since_the_run(cli, trained, tmp_path, monkeypatch) -> None:
    import shutil

    run = tmp_path / trained.name
    shutil.copytree(trained, run)
    data = json.loads((run / "data.json").read_bytes())
    data["fingerprint"] = "0" * 64
    (run / "data.json").write_text(json.dumps(data))
    answer = cli("audit", "--run", run, "--out", tmp_path / "a")
    assert answer.code == 15 and "data.json: not what ckpt-2 was made with" in answer.err
    # As if the record were as it was, and the files had changed.
    monkeypatch.setattr(RunFolder, "require_same", lambda *_: None)
    answer = cli("audit", "--run", run, "--out", tmp_path / "a")
    assert answer.code == 16 and "are not those of the run" in answer.err


@pytest.fixture(scope="module")
def translating(cli, tmp_path_factory) -> Path:
    """A cyclegan's run of one step, beside `truth`, domain B of the same subjects: twice A."""
    root, rng = tmp_path_factory.mktemp("translating"), np.random.default_rng(0)
    for name in ("a", "b", "truth"):
        (root / name).mkdir()
    for i in range(16):
        volume = rng.uniform(0.0, 1.0, (16, 16, 16)).astype(np.float32)
        save_volume(root / "a" / f"sub-{i:02d}.nii.gz", volume, np.eye(4))
        save_volume(root / "truth" / f"sub-{i:02d}.nii.gz", 2 * volume, np.eye(4))
        save_volume(root / "b" / f"sub-{i + 50}.nii.gz", 2 * volume[::-1], np.eye(4))
    answer = cli(
        *("train", "--variant", "cyclegan", "--shape", 16, 16, 16, "--holdout", 0.5),
        *("--source", root / "a", "--source-b", root / "b", "--modality", "map"),
        *("--window-b", 0, 2, "--translator-channels", 4, 6, "--translator-blocks", 1),
        *("--patch-critic-channels", 4, 6, "--steps", 1, "--device", "cpu", "--out", root / "runs"),
    )
    assert answer.code == 0, answer.err
    return Path(answer.out.strip())


def test_a_translator_is_held_against_an_aligned_truth(cli, translating, tmp_path) -> None:
    truth, out = translating.parent.parent / "truth", tmp_path / "audit"
    asked = ("audit", "--run", translating, "--quick", "--device", "cpu")
    answer = cli(*asked, "--truth", truth, "--out", out)
    assert answer.code in (3, 4), answer.err
    report = json.loads((out / "report.json").read_bytes())
    (found,) = [f for f in report["findings"] if f["key"] == "translation.truth"]
    (table,) = found["tables"]
    rows = {row[0]: row[1:] for row in table["rows"]}
    # Domain B is twice domain A in twice its range: of its own subjects, the source is the truth.
    assert rows["identity"][0] == 1.0 and rows["identity"][1] < 1e-3 < rows["translation"][1]
    answer = cli(*asked, "--out", tmp_path / "without")
    report = json.loads((tmp_path / "without" / "report.json").read_bytes())
    assert "translation.truth" not in {f["key"] for f in report["findings"]}


def test_a_truth_that_lacks_a_patient_is_refused(cli, translating, tmp_path) -> None:
    asked = ("audit", "--run", translating, "--out", tmp_path / "audit", "--truth")
    answer = cli(*asked, translating.parent.parent / "b")
    assert answer.code == 16 and "0 volumes of subject sub-" in answer.err
    assert "of whom there are 1 held out" in answer.err and not (tmp_path / "audit").exists()


def test_only_a_translator_has_a_truth(cli, foreign, trained, tmp_path) -> None:
    config, made = foreign
    given = ("--generated", made, "--truth", made, "--out", tmp_path / "audit")
    for known in (("--config", config), ("--run", trained)):
        answer = cli("audit", *known, *given)
        assert answer.code == 2 and "--truth: only" in answer.err
