"""From a run folder, or a configuration alone, to what an audit looks at."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fastgan.audit.evidence import Draw, Evidence, Translate
from fastgan.config import Config
from fastgan.data import Dataset, open_dataset, open_unpaired
from fastgan.data.ledger import KEY, refuse_trained
from fastgan.errors import AuditError, ConfigError
from fastgan.guarded import typed
from fastgan.ops.tensor_float import tensor_float32
from fastgan.random import Draws
from fastgan.runs.cohorts import aligned_cohort, as_files, cohort_of, generated_cohort
from fastgan.runs.facts import named_source
from fastgan.runs.insider import insider_of_run
from fastgan.runs.measured import Measurements
from fastgan.train import load_generator, load_translator
from fastgan.train.checkpoint import Checkpoint
from fastgan.train.device import resolve
from fastgan.train.run_folder import RunFolder

__all__ = ["evidence_of_config", "evidence_of_run"]

DIFFERENTIABLE = {"flip": "mirror", "shift": "shift", "intensity": "contrast"}
"""What the differentiable augmentation of a critic is called beside the classic one."""
BATCH = 16
"""Volumes drawn or translated at once; the result does not depend on it beyond rounding."""


@typed("the run")
def evidence_of_run(
    folder: RunFolder,
    found: Checkpoint,
    generated: Path | None,
    device: str = "auto",
    truth: Path | None = None,
    measured: Path | None = None,
) -> Evidence:
    """What a run was trained on, what it held out, and what it generated.

    Args:
        folder: the run; its data must still be what it was trained on.
        found: the checkpoint whose averaged generator (or translator A to B) is asked.
        generated: folder or manifest of generated volumes; of a cyclegan, None: the held-out
            volumes of domain A are translated here.
        device: as in `train.device`.
        truth: of a cyclegan, folder or manifest of domain B of the held-out subjects of A, aligned.
        measured: table of what was measured on every volume, patients' and generated.

    Raises:
        AuditError: the data have changed, or generated volumes that do not fit.
        ConfigError: `generated` or `measured` for a cyclegan, `truth` for anything else.
    """
    folder = folder.as_of(found)
    config = folder.config()
    folder.require_sources(config)
    if config.translates:
        if generated is not None:
            raise ConfigError("--generated: a cyclegan's held-out volumes are translated here")
        if measured is not None:
            raise ConfigError("--measured: a cyclegan's volumes are not judged by it")
        return _of_cyclegan(config, folder, found, device, truth)
    if truth is not None:
        raise ConfigError(f"--truth: only a cyclegan translates, this is {config.gan.variant}")
    training = open_dataset(config.data, "train")
    if training.fingerprint != folder.data()["fingerprint"]:
        raise AuditError(
            f"{folder.path}: the data at {config.data.source!r} are not those of the run (files, "
            "labels or splits have changed): nothing can be said of its training volumes"
        )
    evidence = _of_training(config, training, generated, measured)
    refuse_trained(folder.data(), evidence.holdout.subjects.tolist(), "held-out")
    return replace(
        evidence,
        draw=_generator(folder, found, training, device),
        insider=lambda: insider_of_run(folder, found, device),
        about=_about(folder, found) | dict(evidence.about),
    )


@typed("the config")
def evidence_of_config(
    config: Config, generated: Path | None, measured: Path | None = None
) -> Evidence:
    """The data of a configuration, and generated volumes from anywhere; there is no generator.

    How whoever made them trained is not known, so the configuration's other sections say nothing.

    Raises:
        AuditError: generated volumes that do not fit.
        ConfigError, BadFile and its kinds: data that cannot be read as configured.
    """
    evidence = _of_training(config, open_dataset(config.data, "train"), generated, measured)
    return replace(evidence, augmentations=None)


def _of_training(
    config: Config, training: Dataset, generated: Path | None, table: Path | None
) -> Evidence:
    # The smaller file first: a fault of it is to be told before volumes are read.
    measured = None if table is None else Measurements.read(table)
    holdout = open_dataset(config.data, "holdout")
    made = None if generated is None else generated_cohort(generated, training, measured=measured)
    return Evidence(
        training=cohort_of(training, "training", measured),
        holdout=cohort_of(holdout, "held-out", measured),
        generated=made,
        spacing=training.spacing,
        classes=training.classes,
        modality=training.normalisation["modality"],
        augmentations=(*config.data.classic, *(DIFFERENTIABLE[k] for k in config.gan.augment)),
        about={"data": named_source(config)} | ({"generated": generated.name} if generated else {}),
    )


def _about(folder: RunFolder, found: Checkpoint) -> dict[str, str]:
    about = {"run": folder.path.name, "checkpoint": found.hash[:12], "step": str(found.step)}
    if ledger := folder.data().get(KEY):
        text = json.dumps(ledger, sort_keys=True).encode()
        about["subjects"] = hashlib.sha256(text).hexdigest()[:12]
    return about


def _generator(folder: RunFolder, found: Checkpoint, like: Dataset, device: str) -> Draw:
    variant = load_generator(folder, found)
    variant.to(resolve(device))
    draws = Draws(0)

    def draw(numbers: np.ndarray, label: int | None) -> np.ndarray:
        volumes = []
        for i in numbers:
            one = variant.sample(1, label, draws.numpy(int(i), "audit"))
            volumes.append(one[0, 0].float().cpu().numpy())
        return as_files(np.stack(volumes), like)

    return draw


def _of_cyclegan(
    config: Config, folder: RunFolder, found: Checkpoint, device: str, truth: Path | None
) -> Evidence:
    training = open_unpaired(config.data, "train")
    holdout = open_unpaired(config.data, "holdout")
    sources = cohort_of(holdout.a, "held-out")
    target = cohort_of(holdout.b, "held-out of domain B")
    refuse_trained(folder.data(), sources.subjects.tolist(), "held-out")
    refuse_trained(folder.data()["b"], target.subjects.tolist(), "held-out of domain B")
    translate = _translator(folder, found, device)
    return Evidence(
        training=cohort_of(training.a, "training"),
        holdout=sources,
        generated=replace(sources, name="translated", values=translate(sources.values)),
        spacing=training.a.spacing,
        modality=training.a.normalisation["modality"],
        translate=translate,
        target=target,
        truth=None if truth is None else aligned_cohort(truth, holdout.b, sources),
        about=_about(folder, found)
        | {"data": named_source(config), "modality_b": training.b.normalisation["modality"]},
    )


def _translator(folder: RunFolder, found: Checkpoint, device: str) -> Translate:
    place = resolve(device)
    network = load_translator(folder, found, "A_to_B").to(place)

    def translate(volumes: np.ndarray) -> np.ndarray:
        out = np.empty_like(volumes)
        with torch.no_grad(), tensor_float32(False):
            for start in range(0, len(volumes), BATCH):
                part = torch.from_numpy(volumes[start : start + BATCH, None]).to(place)
                part = part.contiguous(memory_format=torch.channels_last_3d)
                out[start : start + BATCH] = network(part)[:, 0].float().cpu().numpy()
        return out

    return translate
