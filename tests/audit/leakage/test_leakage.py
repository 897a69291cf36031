"""Files, duplicates and sites that tell the label, planted one by one."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fastgan.audit import leakage
from fastgan.audit.evidence import Cohort, Evidence, Options
from fastgan.audit.judgement import settle
from fastgan.audit.leakage.file_fields import feature_columns, file_fields
from fastgan.audit.phantoms.volumes import CLASSES
from fastgan.errors import AuditError

FEW = Options(permutations=499, planted=40)


def cohort(n=80, per_subject=1, seed=0, name="training", prefix="p"):
    rng = np.random.default_rng(seed)
    people = np.repeat(np.arange(n // per_subject), per_subject)
    values = rng.uniform(-1, 1, (n, 4, 4, 4)).astype(np.float32)
    return Cohort(name, values, np.array([f"{prefix}{p}" for p in people]), people % 2)


def evidence(training, holdout=None):
    held = holdout or cohort(20, seed=9, name="held-out", prefix="h")
    return Evidence(training, held, None, (1.0,) * 3, CLASSES, "ct")


def written(folder: Path, made: Cohort, suffix=".nii.gz", spacing=None, name="{i}"):
    files = []
    for i, volume in enumerate(made.values):
        step = 1.0 if spacing is None else spacing[i]
        image = nib.Nifti1Image(volume, np.diag([step, step, step, 1.0]))
        path = folder / (name.format(i=i, label=made.labels[i]) + suffix)
        nib.save(image, path)
        files.append(path)
    return replace(made, files=tuple(files))


def verdicts(case, options=FEW):
    findings = leakage.judge(case, options)
    return {s.finding.key: s for s in settle(findings, alpha=options.alpha)}


def test_clean_files_pass_with_power(tmp_path):
    found = verdicts(evidence(written(tmp_path, cohort())))
    assert {k: s.verdict for k, s in found.items()} == {
        "leakage.subjects": "pass",
        "leakage.duplicates": "pass",
        "leakage.near_duplicates": "pass",
        "leakage.files": "pass",
        "leakage.sites": "not asked",
    }
    finding = found["leakage.files"].finding
    assert [c.held for c in finding.controls] == [True, True]
    assert "80%" in finding.power and finding.n_subjects == 80
    assert "two values" in found["leakage.sites"].sentence


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_spacing_that_goes_with_the_label_is_found(tmp_path, suffix):
    made = cohort()
    rng = np.random.default_rng(0)
    spacing = np.where(rng.random(80) < 0.9, made.labels, 1 - made.labels) * 0.2 + 0.8
    found = verdicts(evidence(written(tmp_path, made, suffix, spacing)))["leakage.files"]
    assert found.verdict == "fail" and "spacing 1" in found.sentence
    assert found.finding.value > 0.8


def test_a_name_that_holds_the_label_is_found(tmp_path):
    made = written(tmp_path, cohort(), name="case_{label}x_{i}")
    made = replace(made, files=tuple(made.files))
    found = verdicts(evidence(made))["leakage.files"]
    # The digit of the label is no text; the name's pattern is one for all.
    assert found.verdict == "pass"
    for path, label in zip(made.files, made.labels, strict=True):
        path.rename(path.with_name(f"{'mal' if label else 'ben'}_{path.name}"))
    renamed = tuple(
        p.with_name(f"{'mal' if y else 'ben'}_{p.name}")
        for p, y in zip(made.files, made.labels, strict=True)
    )
    found = verdicts(evidence(replace(made, files=renamed)))["leakage.files"]
    assert found.verdict == "fail" and "name without digits, value 1" in found.sentence


def test_names_of_files_and_folders_may_name_a_patient_and_are_not_shown(tmp_path):
    made = written(tmp_path, cohort(), name="miller_{label}x_{i}")
    moved = []
    for path, label in zip(made.files, made.labels, strict=True):
        (path.parent / f"smith{label}").mkdir(exist_ok=True)
        moved.append(path.rename(path.parent / f"smith{label}" / path.name))
    found = verdicts(evidence(replace(made, files=tuple(moved))))["leakage.files"]
    assert found.verdict == "fail" and "folder, value" in found.sentence
    assert "smith" not in str(found)
    assert "miller" not in str(found)


def test_compressed_size_that_follows_the_content_is_a_warning(tmp_path):
    made = cohort()
    made.values[made.labels == 1] = np.round(made.values[made.labels == 1], 1)
    found = verdicts(evidence(written(tmp_path, made)))["leakage.files"]
    assert found.verdict == "warn" and "follows from what is in the volume" in found.sentence


def test_subjects_are_the_unit():
    # Twenty subjects of four volumes each: a field of their own tells each, and no class.
    made = cohort(80, per_subject=4)
    columns = {"scanner": np.repeat(np.random.default_rng(3).integers(0, 2, 20), 4).astype(str)}
    found = verdicts(evidence(replace(made, columns=columns)), Options(permutations=199))
    assert found["leakage.sites"].finding.p > 0.05


def test_site_that_goes_with_the_label_is_a_warning():
    made = cohort()
    site = np.where(made.labels == 1, "north", "south")
    site[:8] = "north"
    found = verdicts(evidence(replace(made, columns={"site": site})))["leakage.sites"]
    assert found.verdict == "warn" and "site = " in found.sentence


def test_duplicates_and_shared_subjects_fail():
    made, held = cohort(), cohort(20, seed=9, name="held-out", prefix="h")
    held.values[3] = made.values[5]
    found = verdicts(evidence(made, held))
    assert found["leakage.duplicates"].verdict == "fail"
    assert found["leakage.duplicates"].finding.controls[0].rate == 1.0
    held.subjects[4] = "p7"
    found = verdicts(evidence(made, held))["leakage.subjects"]
    assert found.verdict == "fail" and found.sentence.startswith("1 subjects")


def test_subjects_without_names_cannot_be_told_apart():
    nameless = evidence(cohort(), replace(cohort(20, seed=9, prefix="h"), subjects_named=False))
    found = verdicts(nameless)["leakage.subjects"]
    assert found.verdict == "cannot tell" and "column `subject`" in found.sentence


def test_empty_volumes_are_no_duplicates():
    made = cohort()
    made.values[:5] = -1.0
    assert verdicts(evidence(made))["leakage.duplicates"].verdict == "pass"


def test_cannot_tell_without_labels_or_with_few_subjects():
    made = cohort()
    unlabelled = verdicts(evidence(replace(made, labels=None)))
    assert "no labels" in unlabelled["leakage.files"].sentence
    few = verdicts(evidence(made.subset(np.arange(6))))
    assert (
        "at least 10 training subjects of each class, got benign: " in few["leakage.sites"].sentence
    )
    archive = verdicts(evidence(made))["leakage.files"]
    assert archive.verdict == "not asked" and "archive" in archive.sentence


def test_fields_of_a_header(tmp_path):
    made = written(tmp_path, cohort(2), spacing=[0.7, 1.2])
    fields = file_fields(made.files)
    assert fields["spacing 1"] == [0.7, 1.2] and fields["stored shape"] == ["4 x 4 x 4"] * 2
    assert fields["datatype"] == ["16", "16"] and fields["header"] == ["NIfTI-1"] * 2
    assert fields["packed bytes"] == [float(p.stat().st_size) for p in made.files]
    assert fields["last number in the name"] == [0.0, 1.0]
    columns, names = feature_columns({"a": ["x", "x", "y", "y"], "b": [1.0, 2.0, 2.0, 5.0]})
    assert names == ["a = x", "a = y", "b"]
    assert (columns[:, 2] * 4).tolist() == [1.0, 2.5, 2.5, 4.0]


def test_rejects_a_file_that_is_gone_or_no_gzip(tmp_path):
    with pytest.raises(AuditError, match="files"):
        file_fields([tmp_path / "none.nii"])
    broken = tmp_path / "a.nii.gz"
    broken.write_bytes(b"no gzip at all")
    with pytest.raises(AuditError, match="gzip"):
        file_fields([broken])
