"""The networks of a real run are loaded, attacked and trained anew; what is missing is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fastgan.audit import membership
from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import settle
from fastgan.config import parse
from fastgan.data import open_dataset
from fastgan.errors import AuditError, NotAsked
from fastgan.runs import insider
from fastgan.runs.cohorts import cohort_of
from fastgan.runs.evidence import evidence_of_run
from fastgan.runs.insider import insider_of_run
from fastgan.train import RunFolder, checkpoint, describe, fit
from fastgan.train.build import variant_of
from fastgan.train.checkpoint import Checkpoint

SHAPE = (8, 8, 8)
BASE = {
    "data": {"shape": list(SHAPE), "holdout": 0.4, "window": [0, 255], "conditional": True},
    "model": {
        "latent_dim": 4,
        "generator_channels": [8, 4],
        "critic_channels": [8, 16],
    },
    "gan": {"critic_steps": 1},
    "train": {"steps": 2, "batch_size": 4, "device": "cpu"},
}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 patients of two classes."""
    path = tmp_path_factory.mktemp("data") / "set.npz"
    rng = np.random.default_rng(0)
    np.savez(
        path,
        volumes=rng.integers(0, 255, (60, *SHAPE)).astype(np.uint8),
        labels=np.arange(60) % 2,
        subjects=np.array([f"p{i}" for i in range(60)]),
    )
    return path


@pytest.fixture(scope="module")
def run_of(archive, tmp_path_factory) -> Callable[..., tuple[RunFolder, Checkpoint]]:
    """A run of two steps with changes of its model section."""

    def make(**model: object) -> tuple[RunFolder, Checkpoint]:
        settings = {
            **BASE,
            "data": BASE["data"] | {"source": str(archive)},
            "model": BASE["model"] | model,
        }
        config = parse(settings, where="test")
        train = open_dataset(config.data, "train")
        game = variant_of(config, describe(train))
        folder = fit(game, train, config, out=tmp_path_factory.mktemp("runs"))
        return folder, checkpoint.newest(folder.path)

    return make


@pytest.fixture(scope="module")
def plain(run_of) -> tuple[RunFolder, Checkpoint]:
    return run_of()


@pytest.fixture(scope="module")
def evidence(plain) -> Evidence:
    folder, found = plain
    return evidence_of_run(folder, found, None, "cpu")


@pytest.mark.parametrize("group", [0, 4])
def test_the_critic_is_that_of_the_checkpoint(run_of, group, evidence) -> None:
    """Each score is a function of its own volume and label, groups of volumes or not."""
    folder, found = run_of(minibatch_stddev=group)
    held = insider_of_run(folder, found, "cpu")
    values, labels = evidence.training.values[:6], evidence.training.labels[:6]
    scores = held.critic(values, labels)
    assert scores.shape == (6,) and np.isfinite(scores).all()
    assert np.allclose(held.critic(values[3:4], labels[3:4]), scores[3:4], atol=1e-5)
    assert not np.allclose(held.critic(values, 1 - labels), scores, atol=1e-5)
    if group:
        return
    game = variant_of(folder.config(), folder.data())
    game.modules["critic"].load_state_dict(found.parts["critic"])
    with torch.no_grad():
        expected = game.modules["critic"](torch.from_numpy(values)[:, None], torch.tensor(labels))
    assert np.allclose(expected.numpy(), scores, atol=1e-4)


def test_inversion_comes_nearer_to_what_the_generator_draws(plain, evidence) -> None:
    folder, found = plain
    held = insider_of_run(folder, found, "cpu")
    drawn = np.concatenate([evidence.draw(np.arange(4), k) for k in (0, 1)])
    labels = np.repeat([0, 1], 4)
    own = held.inverse(drawn, labels)
    foreign = held.inverse(evidence.holdout.values[:8], evidence.holdout.labels[:8])
    assert own.max() < 0.5 * foreign.min()
    assert np.allclose(held.inverse(drawn[2:3], labels[2:3]), own[2:3], atol=1e-4)


def test_a_critic_trained_on_few_knows_them(plain, evidence, monkeypatch) -> None:
    """Whoever is among the few is scored higher than whoever is not, and the run is untouched."""
    monkeypatch.setattr(insider, "OVERTRAINING_STEPS", 100)
    folder, found = plain
    held = insider_of_run(folder, found, "cpu")
    values, labels = evidence.training.values, evidence.training.labels
    before = held.critic(values, labels)
    scores = held.overtrained(values[:6], labels[:6], 600.0)(values, labels)
    assert scores[:6].min() > scores[6:].max()
    assert np.array_equal(held.critic(values, labels), before)
    with pytest.raises(AuditError, match="would take about"):
        held.overtrained(values[:6], labels[:6], 0.0)


def test_labels_that_are_missing(plain, evidence) -> None:
    held = insider_of_run(*plain, "cpu")
    for ask in (held.critic, held.inverse):
        with pytest.raises(AuditError, match="conditional, and the volumes have no labels"):
            ask(evidence.training.values[:2], None)


def test_a_checkpoint_without_its_critic_or_with_another(plain, run_of) -> None:
    folder, found = plain
    rest = {name: part for name, part in found.parts.items() if name != "critic"}
    with pytest.raises(NotAsked, match="ckpt-2 holds no critic"):
        insider_of_run(folder, replace(found, parts=rest), "cpu")
    _, other = run_of(critic_channels=[4, 4])
    swapped = replace(found, parts=rest | {"critic": other.parts["critic"]})
    with pytest.raises(AuditError, match=r"the critic cannot be used: .*not the state of this"):
        insider_of_run(folder, swapped, "cpu")


def test_a_run_is_judged_from_its_folder(plain, evidence, monkeypatch) -> None:
    """Both questions, from what the command line hands over; two steps teach nobody."""
    monkeypatch.setattr(insider, "OVERTRAINING_STEPS", 40)
    made = replace(
        cohort_of(open_dataset(plain[0].config().data, "holdout"), "generated"),
        values=np.concatenate([evidence.draw(np.arange(12), k) for k in (0, 1)]),
        subjects=np.array([f"g{i}" for i in range(24)]),
        labels=np.repeat([0, 1], 12),
        columns={},
        files=(),
    )
    findings = membership.judge(replace(evidence, generated=made), Options(planted=20))
    found = {s.finding.key: s for s in settle(findings, alpha=0.05)}
    assert list(found) == ["membership.volumes", "membership.checkpoint"]
    for one in found.values():
        assert one.verdict in ("pass", "cannot tell") and one.finding.p > 0.01, one.sentence
        assert one.finding.n_subjects == 60
    copy = next(c for c in found["membership.checkpoint"].finding.controls if "alone" in c.name)
    assert copy.expected == "found" and copy.runs == 1
