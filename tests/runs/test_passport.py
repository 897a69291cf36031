"""Every generated volume can be recognised: whole, altered, missing or somebody else's."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

import fastgan
from fastgan.config import DataConfig
from fastgan.data import open_dataset, read_volume, save_volume
from fastgan.data.content import content_hash, provenance_of
from fastgan.errors import BadFile, ConfigError, CorruptFile, StateError, UnsafeFile
from fastgan.runs import passport as passports
from fastgan.runs.generate import generate
from fastgan.runs.replay import replay
from fastgan.runs.verify import Verified, verify
from fastgan.train import RunFolder, checkpoint
from fastgan.train.run_key import holds, public_key, sign
from tests.runs.conftest import FIT, SMALL


@pytest.fixture(scope="module")
def run(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = DataConfig(source=str(scans), shape=(8, 8, 8), modality="ct", conditional=True)
    dataset = open_dataset(data, "train")
    out = tmp_path_factory.mktemp("runs")
    return fastgan.NonSaturatingGAN(**SMALL).fit(dataset, out=out, **FIT).path


def _generate(run: Path, out: Path, count: int = 3, **more: Any) -> Path:
    folder = RunFolder(run)
    generate(folder, checkpoint.newest(run), out, count=count, device="cpu", **more)
    return out


@pytest.fixture(scope="module")
def made(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _generate(run, tmp_path_factory.mktemp("made") / "set")


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def _standing(found: Verified) -> dict[str, str]:
    return {one.path: one.standing for one in found.checked}


def test_the_key_is_the_owners(run: Path) -> None:
    assert stat.S_IMODE((run / "key.pem").stat().st_mode) == 0o600
    assert (run / "key.pub").read_text().startswith("-----BEGIN PUBLIC KEY-----")
    other = sign(run, b"x")
    assert other is not None and holds(public_key(run) or "", other, b"x")
    assert not holds(public_key(run) or "", other, b"y")
    assert not holds(public_key(run) or "", b"", b"x")


def test_openssl_reads_the_signature(run: Path, made: Path) -> None:
    key, signed, signature = run / "key.pub", made / "passport.json", made / "passport.sig"
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-rawin"]
    command += ["-inkey", str(key), "-in", str(signed), "-sigfile", str(signature)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "Verified Successfully" in done.stdout


def test_every_volume_is_known(run: Path, made: Path) -> None:
    found = verify(made, public_key(run))
    assert found.exit_code == 0 and found.known
    assert [*_standing(found).values()] == ["intact"] * 3
    hash_ = checkpoint.newest(run).hash
    for i, one in enumerate(found.checked):
        assert f"checkpoint {hash_[:12]}, step 1, seed 0, index {i}, class " in one.about
    assert verify(made).exit_code == 0 and not verify(made).known


def test_hash_in_header_and_passport(made: Path) -> None:
    listed = json.loads((made / "passport.json").read_bytes())
    assert listed["synthetic"] is True
    assert listed["digitalSourceType"].endswith("trainedAlgorithmicMedia")
    for one in listed["volumes"]:
        volume = read_volume(made / one["path"])
        said = provenance_of(volume.source.extensions)
        assert said["content"] == one["content"] == content_hash(volume.array, volume.affine)


def _flip_voxel(path: Path) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-3] ^= 1
    path.write_bytes(gzip.compress(bytes(content), 1, mtime=0))


def _new_description(path: Path) -> None:
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[148:157] = b"real scan"
    path.write_bytes(gzip.compress(bytes(content), 1, mtime=0))


def _moved(path: Path) -> None:
    image = nibabel.load(path)
    affine = image.affine.copy()
    affine[0, 3] += 1.0
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine, image.header), path)


@pytest.mark.parametrize(
    ("harm", "about"),
    [
        (_flip_voxel, "voxels or grid are others"),
        (_moved, "voxels or grid are others"),
        (_new_description, "the rest of the file is not"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
    ],
)
def test_an_altered_volume_is_named(run: Path, copy: Path, harm: Any, about: str) -> None:
    harm(copy / "volume-00001.nii.gz")
    found = verify(copy, public_key(run))
    assert found.exit_code == 3
    assert _standing(found)["volume-00001.nii.gz"] == "altered"
    assert about in found.checked[1].about
    assert [*_standing(found).values()].count("intact") == 2


def test_missing_and_foreign_ones_are_named(run: Path, copy: Path) -> None:
    (copy / "volume-00000.nii.gz").unlink()
    shutil.copy(copy / "volume-00001.nii.gz", copy / "again.nii.gz")
    save_volume(copy / "patient.nii", np.random.rand(8, 8, 8), np.eye(4))
    (copy / "sub").mkdir()
    (copy / "sub" / "notes.txt").write_text("x")
    found = verify(copy, public_key(run))
    assert found.exit_code == 3
    standing = _standing(found)
    assert standing["volume-00000.nii.gz"] == "missing"
    assert {standing[n] for n in ("again.nii.gz", "patient.nii", "sub/notes.txt")} == {"foreign"}
    said = {one.path: one.about for one in found.checked}
    assert "shows what volume-00001.nii.gz does" in said["again.nii.gz"]


@pytest.mark.parametrize("name", ["manifest.csv", "passport.json", "passport.sig"])
def test_every_byte_of_what_stands_beside(run: Path, copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    for i in range(0, len(content), max(1, len(content) // 60)):
        (copy / name).write_bytes(content[:i] + bytes([content[i] ^ 4]) + content[i + 1 :])
        try:
            assert verify(copy, public_key(run)).exit_code == 3
        except (CorruptFile, UnsafeFile):
            assert name == "passport.json"


def test_a_set_signed_by_another_run(run: Path, copy: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    for name in ("key.pem", "key.pub"):
        (other / name).unlink()
    from fastgan.train.run_key import make_key

    make_key(other)
    forged = _generate(other, tmp_path / "forged")
    assert verify(forged).exit_code == 0
    found = verify(forged, public_key(run))
    assert found.exit_code == 3 and "WRONG KEY" in found.signature
    with pytest.raises(StateError, match="not signed by the key"):
        replay(forged, RunFolder(run), device="cpu")


def test_without_signature_nothing_is_proven(run: Path, copy: Path) -> None:
    (copy / "passport.sig").unlink()
    found = verify(copy, public_key(run))
    assert found.exit_code == 4 and "not signed" in found.signature
    (copy / "passport.json").unlink()
    found = verify(copy)
    assert found.exit_code == 4
    assert {*_standing(found).values()} == {"unsigned"}
    _flip_voxel(copy / "volume-00002.nii.gz")
    save_volume(copy / "patient.nii", np.random.rand(8, 8, 8), np.eye(4))
    found = verify(copy)
    assert found.exit_code == 3
    assert _standing(found)["volume-00002.nii.gz"] == "altered"
    assert _standing(found)["patient.nii"] == "foreign"


def test_a_run_handed_on_without_its_private_key(run: Path, tmp_path: Path) -> None:
    handed = Path(shutil.copytree(run, tmp_path / "handed"))
    (handed / "key.pem").unlink()
    out = _generate(handed, tmp_path / "out", 1)
    assert not (out / "passport.sig").exists() and verify(out).exit_code == 4


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (lambda run: os.chmod(run / "key.pem", 0o644), UnsafeFile),
        (lambda run: (run / "key.pem").write_bytes(b"-----BEGIN"), CorruptFile),
        (lambda run: (run / "key.pub").write_bytes(b"\xff" * 9), CorruptFile),
        (lambda run: (run / "key.pub").unlink(), StateError),
    ],
)
def test_keys_that_cannot_be_used(run: Path, tmp_path: Path, harm: Any, error: Any) -> None:
    spoiled = Path(shutil.copytree(run, tmp_path / "spoiled"))
    harm(spoiled)
    with pytest.raises(error, match=r"key\.p"):
        _generate(spoiled, tmp_path / "out", 1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", ["../run/x", "/etc/passwd", "a/../../x"])
def test_a_passport_that_leads_elsewhere(copy: Path, path: str) -> None:
    content = json.loads((copy / "passport.json").read_bytes())
    content["files"][path] = "0" * 64
    (copy / "passport.json").write_text(json.dumps(content))
    with pytest.raises(UnsafeFile, match="leads out"):
        verify(copy)


def test_links_and_pipes(copy: Path, tmp_path: Path) -> None:
    (copy / "link.nii").symlink_to(tmp_path / "anything")
    with pytest.raises(UnsafeFile, match=r"link\.nii"):
        verify(copy)
    (copy / "link.nii").unlink()
    os.mkfifo(copy / "pipe")
    with pytest.raises(UnsafeFile, match="pipe"):
        verify(copy)
    (copy / "pipe").unlink()
    (copy / "passport.json").unlink()
    (copy / "passport.json").symlink_to(tmp_path / "anything")
    with pytest.raises(UnsafeFile, match=r"passport\.json"):
        verify(copy)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"format": 1}'])
def test_what_is_no_passport(copy: Path, content: bytes) -> None:
    (copy / "passport.json").write_bytes(content)
    with pytest.raises(CorruptFile, match=r"passport\.json"):
        verify(copy)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no folder"):
        verify(tmp_path / "absent")
    with pytest.raises(BadFile, match="neither"):
        verify(tmp_path)


def test_replay(run: Path, made: Path) -> None:
    found = replay(made, RunFolder(run), device="cpu")
    assert found.exit_code == 0 and found.equal == 3
    assert len(replay(made, RunFolder(run), count=1, device="cpu").lines) == 1
    for count in (0, 4, -1):
        with pytest.raises(ConfigError, match="--count"):
            replay(made, RunFolder(run), count=count, device="cpu")


def test_replay_notices_a_seed_that_was_not_used(
    run: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads((copy / "passport.json").read_bytes())
    content["volumes"][1]["seed"] = 5

    def resign() -> None:
        text = json.dumps(content).encode()
        (copy / "passport.json").write_bytes(text)
        (copy / "passport.sig").write_bytes(sign(run, text) or b"")

    resign()
    found = replay(copy, RunFolder(run), device="cpu")
    assert found.exit_code == 3 and found.equal == 2 and "apart" in found.lines[1]
    content["machine"]["torch"] = "0.1"
    resign()
    found = replay(copy, RunFolder(run), device="cpu")
    assert found.exit_code == 4 and [*found.differing] == ["torch"]


def test_replay_needs_its_checkpoint(run: Path, made: Path, tmp_path: Path) -> None:
    later = Path(shutil.copytree(run, tmp_path / "later"))
    (later / "ckpt-1").rename(later / "ckpt-7.tmp")
    with pytest.raises(StateError, match="ckpt-1"):
        replay(made, RunFolder(later), device="cpu")


def test_content_is_of_the_picture_alone(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    affine = np.array([[0, -2.0, 0, 3], [1.0, 0, 0, 1], [0, 0, 3.0, 9], [0, 0, 0, 1]])
    for name in ("a.nii", "b.nii.gz"):
        save_volume(tmp_path / name, values, affine, provenance={"synthetic": True})
    hashes = {passports.content_of(tmp_path / name) for name in ("a.nii", "b.nii.gz")}
    said = provenance_of(read_volume(tmp_path / "a.nii").source.extensions)
    assert hashes == {said["content"]}
    values[2, 3, 4] = np.nextafter(values[2, 3, 4], np.float32(9))
    save_volume(tmp_path / "c.nii", values, affine)
    assert passports.content_of(tmp_path / "c.nii") not in hashes
