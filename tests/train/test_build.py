"""From configuration to data and variant: which settings go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastgan.config import Config, parse
from fastgan.data import Dataset, Unpaired, save_volume
from fastgan.errors import ConfigError
from fastgan.gans import AdamSettings, AdversarialGAN, CycleGAN
from fastgan.train import describe
from fastgan.train.build import data_of, variant_of

CYCLE: dict[str, Any] = {"variant": "cyclegan"}


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    rng = np.random.default_rng(0)
    for domain in "ab":
        (tmp_path / domain).mkdir()
        for i in range(3):
            volume = rng.random((8, 8, 8)).astype(np.float32)
            save_volume(tmp_path / domain / f"{i}.nii.gz", volume, np.eye(4))
    return {"source": str(tmp_path / "a"), "source_b": str(tmp_path / "b")}


def config(data: dict[str, Any], gan: dict[str, Any] | None = None, **sections: Any) -> Config:
    return parse({"data": {"shape": [8, 8, 8], **data}, "gan": gan or {}, **sections})


def test_a_cyclegan_of_two_folders(folders: dict[str, str]) -> None:
    model = {"translator": "unet", "translator_channels": [4, 8], "translator_kernel": 1}
    gan = CYCLE | {"lambda_cycle": 3.0, "lambda_identity": 0.25, "pool_size": 7}
    chosen = config(folders, gan, model=model, train={"lr_generator": 3e-4, "betas": [0.5, 0.9]})
    data = data_of(chosen, "train")
    assert isinstance(data, Unpaired)
    record = describe(data)
    assert record["b"]["normalisation"] == data.b.normalisation
    assert record["fingerprint"] == data.fingerprint != record["b"]["fingerprint"]
    variant = variant_of(chosen, record)
    assert isinstance(variant, CycleGAN)
    assert variant.objective.name == "least-squares"
    assert (variant.lambda_cycle, variant.lambda_identity) == (3.0, 0.25)
    assert variant.modules["pool_A"].size == 7 and variant.modules["G_AB"].skips
    assert variant.optimisers["generator"].lr == 3e-4
    assert variant.optimisers["critic"].beta2 == 0.9


def test_a_cyclegan_trains_at_its_paper_s_settings(folders: dict[str, str]) -> None:
    plain = config(folders, CYCLE)
    variant = variant_of(plain, describe(data_of(plain, "train")))
    for phase in ("generator", "critic"):
        assert variant.optimisers[phase] == AdamSettings(2e-4, 0.5, 0.999)
    chosen = config(folders, CYCLE, train={"lr_critic": 1e-4})
    variant = variant_of(chosen, describe(data_of(chosen, "train")))
    assert variant.optimisers["critic"] == AdamSettings(1e-4, 0.5, 0.999)


def test_objective_none_is_the_variant_s_own(folders: dict[str, str]) -> None:
    plain = config({"source": folders["source"]}, model={"generator_channels": [4, 4]})
    data = data_of(plain, "train")
    assert isinstance(data, Dataset) and "b" not in describe(data)
    variant = variant_of(plain, describe(data))
    assert isinstance(variant, AdversarialGAN) and variant.objective.name == "wasserstein"
    hinge = config(folders, CYCLE | {"objective": "hinge"})
    assert variant_of(hinge, describe(data_of(hinge, "train"))).objective.name == "hinge"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gan": {}}, "data.source_b: only a cyclegan has a domain B; set gan.variant"),
        ({"data": {"source_b": None}}, "data.source_b: missing; a cyclegan needs"),
        ({"data": {"conditional": True}}, "data.conditional: a cyclegan has no classes"),
        ({"data": {"sampler": "balanced"}}, "a cyclegan has no classes"),
        ({"gan": {"objective": "wgan-gp"}}, "choose least-squares, hinge"),
        ({"gan": {"critic_steps": 2}}, "gan.critic_steps: has no effect on gan.variant 'cyclegan'"),
        ({"gan": {"penalty": "none"}}, "gan.penalty: has no effect"),
        ({"model": {"latent_dim": 4}}, "model.latent_dim: has no effect"),
    ],
)
def test_refuses_what_a_cyclegan_does_not_take(
    folders: dict[str, str], changes: dict[str, Any], message: str
) -> None:
    gan = CYCLE | changes["gan"] if changes.get("gan") else changes.get("gan", CYCLE)
    chosen = config(folders | changes.get("data", {}), gan, model=changes.get("model", {}))
    with pytest.raises(ConfigError, match=message):
        data = data_of(chosen, "train")
        variant_of(chosen, describe(data))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("gan", "lambda_cycle", 5.0),
        ("gan", "pool_size", 5),
        ("model", "translator", "unet"),
        ("data", "window_b", [0.0, 1.0]),
        ("data", "modality_b", "ct"),
    ],
)
def test_refuses_what_only_a_cyclegan_takes(
    folders: dict[str, str], section: str, key: str, value: Any
) -> None:
    sections: dict[str, Any] = {"data": {"source": folders["source"]}, "gan": {}, "model": {}}
    sections[section][key] = value
    chosen = config(sections["data"], sections["gan"], model=sections["model"])
    with pytest.raises(ConfigError, match=f"{section}.{key}: "):
        variant_of(chosen, describe(data_of(chosen, "train")))


def test_a_cyclegan_needs_a_record_of_two(folders: dict[str, str]) -> None:
    one = config({"source": folders["source"]})
    with pytest.raises(ConfigError, match="cyclegan trains on two data sets, one was given"):
        variant_of(config(folders, CYCLE), describe(data_of(one, "train")))
