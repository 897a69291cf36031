from __future__ import annotations

from dataclasses import fields

import pytest

from fastgan import config
from fastgan.config import Config, TrainConfig
from fastgan.errors import BadFile, ConfigError
from fastgan.gans import AdversarialSettings, CycleSettings


def _load(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return config.load(path)


def test_round_trip(tmp_path):
    chosen = config.parse(
        {
            "name": "a.b-1",
            "seed": 2**63 - 1,
            "data": {"shape": [8, 16, 24], "spacing": [0.5, 1.0, 2.5], "classic": ["flip"]},
            "train": {"lr_critic": 3e-5, "betas": [0.5, 0.99]},
        }
    )
    assert _load(tmp_path, config.dump(chosen)) == chosen
    assert chosen.data.shape == (8, 16, 24)
    assert _load(tmp_path, config.dump(Config())) == Config()


def test_leaf_names_are_unique():
    leaves = [key.rpartition(".")[2] for key in config.known_keys()]
    assert len(leaves) == len(set(leaves))
    assert {"seed", "steps", "penalty_weight", "shape", "latent_dim"} <= set(leaves)


def test_every_key_is_documented():
    import ast
    import inspect

    source = ast.parse(inspect.getsource(config))
    for section in (node for node in source.body if isinstance(node, ast.ClassDef)):
        if section.name.endswith("Config"):
            described = getattr(config, section.name).model_fields
            for node, after in zip(section.body, [*section.body[1:], None], strict=True):
                if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) not in (
                    "data", "model", "gan", "train",
                ):  # fmt: skip
                    own = described[ast.unparse(node.target)].description
                    assert own or isinstance(after, ast.Expr), ast.unparse(node.target)


@pytest.mark.parametrize("kind", [AdversarialSettings, CycleSettings])
def test_defaults_have_one_home(kind):
    """Every setting of a variant is a key, with the setting's default and description."""
    chosen = config.parse({"gan": {"variant": config_name(kind)}}).settled()
    sections = {key.rpartition(".")[2]: key.partition(".")[0] for key in config.known_keys()}
    for setting in fields(kind):
        section = getattr(chosen, sections[setting.name])
        assert getattr(section, setting.name) == setting.default, setting.name
        described = type(section).model_fields[setting.name].description
        assert described.startswith(setting.metadata["description"])


def config_name(kind):
    return next(name for name, known in config.VARIANTS.items() if known is kind)


def test_what_differs_by_variant_is_left_open_until_it_is_settled():
    for variant, lr, betas, objective in (
        ("adversarial", 1e-4, (0.0, 0.9), "wgan-gp"),
        ("cyclegan", 2e-4, (0.5, 0.999), "least-squares"),
    ):
        chosen = config.parse({"gan": {"variant": variant}})
        train, settled = chosen.train, chosen.settled()
        assert (train.lr_generator, train.lr_critic, train.betas) == (None, None, None)
        train = settled.train
        assert (train.lr_generator, train.lr_critic, train.betas) == (lr, lr, betas)
        assert chosen.gan.objective is None and settled.gan.objective == objective
        given = {"gan": {"variant": variant}, "train": {"lr_critic": 3e-3}}
        assert config.parse(given).settled().train.lr_critic == 3e-3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: {step: 4}", r"unknown key 'train.step'; did you mean 'train.steps'\?"),
        ("steps: 4", r"unknown key 'steps'; did you mean 'train.steps'\?"),
        ("gan: {batch_size: 4}", "did you mean 'train.batch_size'"),
        ("zzzzqq: 4", "unknown key 'zzzzqq'$"),
        ("seed: 0\nseed: 1", "key 'seed' twice, again in line 2"),
        ("data: &a {}\nmodel: *a", "aliases are not allowed"),
        ("? [a, b]\n: 1", "line 1: a key must be a word"),
        ("seed: true", "seed: .* got True"),
        ("train: {steps: '5'}", "train.steps: .* got '5'"),
        ("train: {steps: 5.0}", "train.steps"),
        ("train: {steps: 0}", "train.steps: .* got 0"),
        ("train: {lr_critic: .nan}", "train.lr_critic"),
        ("train: {lr_critic: .inf}", "train.lr_critic"),
        ("train: {betas: [0.0, 1.0]}", "train.betas"),
        ("train: {device: 0}", "train.device"),
        ("data: {window: [5, 1]}", "first value must be below"),
        ("data: {spacing: [0, 1, 1]}", "data.spacing"),
        ("data: {shape: [8, 8]}", "data.shape"),
        ("data: {modality: xray}", "data.modality"),
        ("model: {critic_channels: []}", "model.critic_channels"),
        ("name: ../escape", "name"),
        ("name: 2020-01-01", "no number, text or list"),
        ("train: 3", "train: .* got 3"),
        ("[1, 2]", "mapping of keys, got list"),
    ],
)
def test_rejects(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said) as caught:
        _load(tmp_path, text)
    assert str(tmp_path / "c.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rejects_what_is_no_yaml_file(tmp_path):
    with pytest.raises(BadFile, match="not valid YAML"):
        _load(tmp_path, "{a: {b: }")
    with pytest.raises(BadFile, match="not valid YAML"):
        _load(tmp_path, "[" * 2000)
    with pytest.raises(BadFile, match="cannot read"):
        config.load(tmp_path / "absent.yaml")
    with pytest.raises(BadFile, match="a folder where a file is meant"):
        config.load(tmp_path)
    with pytest.raises(BadFile, match="longer than"):
        _load(tmp_path, "#" * (2**20 + 1))
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadFile, match="cannot read"):
        config.load(tmp_path / "c.yaml")


def test_numbers_as_people_write_them(tmp_path):
    chosen = _load(tmp_path, "train: {lr_critic: 1e-3, lr_generator: 2.5E-4, ema_decay: 0}")
    assert (chosen.train.lr_critic, chosen.train.lr_generator) == (1e-3, 2.5e-4)
    assert chosen.train.ema_decay == 0.0


def test_whole_numbers_with_an_exponent_and_names_in_capitals(tmp_path):
    chosen = _load(tmp_path, "train: {steps: 1e4, batch_size: 2E+1, lr_critic: 1e0}\n"
                             "data: {modality: CT, modality_b: Mask}")  # fmt: skip
    assert (chosen.train.steps, chosen.train.batch_size) == (10_000, 20)
    assert type(chosen.train.steps) is int and chosen.train.lr_critic == 1.0
    assert (chosen.data.modality, chosen.data.modality_b) == ("ct", "mask")
    with pytest.raises(ConfigError, match=r"train.steps: .* got 0.01"):
        _load(tmp_path, "train: {steps: 1e-2}")


def test_sections_stand_alone():
    assert Config(train=TrainConfig(steps=3)).train.steps == 3
