"""`fastgan verify` and `fastgan replay`: a line a volume, and exit codes a script can use."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture(scope="module")
def generated(cli, trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("generated") / "set"
    arguments = ("--run", trained, "--count", 3, "--out", out, "--device", "cpu")
    answer = cli("generate", *arguments)
    assert answer.code == 0 and "not signed" not in answer.err
    return out


def test_intact_and_replayed(cli, trained, generated):
    answer = cli("verify", generated, "--run", trained)
    assert answer.code == 0, answer
    assert answer.out.count("intact    volume-0000") == 3
    assert "3 intact; signed by the run's key" in answer.out
    assert cli("verify", generated, "--key", trained / "key.pub").code == 0
    answer = cli("verify", generated)
    assert answer.code == 0 and "only --run RUN or --key FILE" in answer.out
    answer = cli("replay", generated, "--run", trained, "--count", 2, "--device", "cpu")
    assert answer.code == 0 and "2 of 2 volumes have the same bits" in answer.out


def test_tampered(cli, trained, generated, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(generated, copy)
    (copy / "volume-00000.nii.gz").unlink()
    shutil.copy(copy / "volume-00001.nii.gz", copy / "volume-00007.nii.gz")
    path = copy / "volume-00002.nii.gz"
    path.write_bytes(path.read_bytes()[:-1])
    answer = cli("verify", copy, "--run", trained)
    assert answer.code == 3, answer
    for line in ("missing   volume-00000", "altered   volume-00002", "foreign   volume-00007"):
        assert line in answer.out
    (copy / "passport.sig").unlink()
    assert cli("verify", copy, "--run", trained).code == 3
    for name in (copy / "passport.json", copy / "volume-00007.nii.gz", path):
        name.unlink()
    answer = cli("verify", copy)
    assert answer.code == 4 and "it says of itself" in answer.out


def test_no_name_passes_for_a_line(cli, trained, generated, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(generated, copy)
    (copy / "x\nintact    volume-00009.nii.gz  \x1b[2K").write_text("")
    answer = cli("verify", copy, "--run", trained)
    assert answer.code == 3 and "\x1b" not in answer.out
    assert answer.out.count("\nintact ") == 2  # the first of three begins the output
    assert "foreign   x\\nintact" in answer.out


def test_rejects(cli, trained, generated, tmp_path):
    assert cli("verify", tmp_path / "absent").code == 10
    assert cli("verify", tmp_path).code == 10
    assert cli("verify", generated, "--key", generated / "manifest.csv").code == 11
    assert cli("verify", generated, "--run", tmp_path).code == 10
    assert cli("verify").code == 2
    assert cli("replay", generated).code == 2
    assert cli("replay", generated, "--run", trained, "--count", 9).code == 2
    keyless = tmp_path / "keyless"
    shutil.copytree(trained, keyless)
    for name in ("key.pub", "key.pem"):
        (keyless / name).unlink()
    answer = cli("verify", generated, "--run", keyless)
    assert answer.code == 15 and "key.pub" in answer.err
    assert cli("replay", generated, "--run", keyless).code == 15
    answer = cli("generate", "--run", keyless, "--count", 1, "--out", tmp_path / "o")
    assert answer.code == 0 and "not signed" in answer.err


def test_dicom_of_masks_is_refused(cli, trained, tmp_path):
    arguments = ("--run", trained, "--count", 1, "--out", tmp_path / "o", "--format", "dicom")
    answer = cli("generate", *arguments)
    assert answer.code == 2 and "none of a mask" in answer.err
    assert not (tmp_path / "o").exists()
