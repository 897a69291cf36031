"""Made-up patients whose truth is known, and small studies on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fastgan.utility.cohort import Cohort
from fastgan.utility.generators import Generated
from fastgan.utility.settings import Study, require_sound
from fastgan.utility.store import open_store
from fastgan.utility.work import Task, run_fold

SIDE = 4
TINY: dict[str, Any] = {
    "positive": "ill",
    "folds": 3,
    "seeds": 2,
    "run": {"data": {"conditional": True, "shape": [SIDE] * 3}},
    "arms": ["real", "oversampled", "gan"],
    "trials": {"real": [0.05], "oversampled": [1.0], "gan": [0.5]},
    "learner": {"kind": "block-means", "steps": 20, "batch_size": 8},
    "curve": [0.5],
}


def study(**changes: Any) -> Study:
    made = Study.model_validate({**TINY, **changes})
    require_sound(made, "test")
    return made


def cohort(
    patients: int, rng: np.random.Generator, effect: float = 0.5, volumes: int = 1
) -> Cohort:
    """Noise of one channel, the ill with a brighter half; a third of the patients are ill."""
    ill = np.arange(patients) % 3 == 0
    positive = np.repeat(ill, volumes)
    subjects = np.repeat([f"p{i:03d}" for i in range(patients)], volumes)
    values = rng.standard_normal((len(positive), 1, SIDE, SIDE, SIDE)) * 0.25
    values[positive, :, : SIDE // 2] += 0.25 * effect / SIDE
    site = [["A", "B"][i % 2] for i in range(patients) for _ in range(volumes)]
    age = [20.0 + i % 60 for i in range(patients) for _ in range(volumes)]
    return Cohort(
        np.clip(values, -1.0, 1.0).astype(np.float32),
        positive.astype(np.int64),
        positive,
        subjects,
        {"site": list(site), "age": list(age)},
        fingerprint="0" * 64,
    )


def copies(study: Study, cohort: Cohort, at: Any, unseen: Any, folder: Path, number: int) -> Any:
    """A generator that gives back what it was trained on: no effect by construction."""
    return Generated(cohort.values[at], cohort.positive[at])


def finished(study: Study, patients: Cohort, folder: Path, make: Any = copies) -> Task:
    """All folds of a study, done."""
    task = Task.of(study, patients, None, open_store(folder, study, patients, None), make)
    for fold in task.folds:
        run_fold(task, fold)
    return task


def archive(path: Path, patients: int = 36) -> Path:
    """The same kind of patients as a .npz of 8^3 volumes, two of every third patient."""
    rng = np.random.default_rng(1)
    who = [i for i in range(patients) for _ in range(1 + (i % 3 == 1))]
    ill = np.array([i % 3 == 0 for i in who])
    volumes = rng.integers(0, 128, (len(who), 8, 8, 8)).astype(np.uint8)
    volumes[ill, :4] += 60
    np.savez(
        path,
        volumes=volumes,
        labels=np.where(ill, "ill", "well"),
        subjects=np.array([f"p{i:03d}" for i in who]),
        sites=np.where(np.array(who) % 2 == 0, "A", "B"),
    )
    return path


def written(folder: Path, source: Path, **changes: Any) -> Path:
    """The YAML file of a study with a small GAN on an archive."""
    settings = {
        "name": "tiny",
        "positive": "ill",
        "folds": 2,
        "seeds": 2,
        "arms": ["real", "oversampled", "classic", "gan", "gan+classic"],
        "trials": {
            "real": [0.05, 0.5],
            "oversampled": [0.5, 1.0],
            "classic": [0.5, 1.0],
            "gan": [0.25, 0.5],
            "gan_classic": [0.25, 0.5],
        },
        "learner": {"kind": "block-means", "steps": 4, "batch_size": 8},
        "curve": [0.5],
        "groups": [{"column": "site"}],
        "run": {
            "data": {"source": str(source), "shape": [8, 8, 8], "conditional": True},
            "model": {
                "latent_dim": 2,
                "generator_channels": [4, 4],
                "critic_channels": [4, 4],
                "generator_norm": "none",
                "critic_norm": "none",
            },
            "gan": {"objective": "non-saturating", "penalty": "r1", "critic_steps": 1},
            "train": {"steps": 2, "batch_size": 4, "device": "cpu"},
        },
        **changes,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path
