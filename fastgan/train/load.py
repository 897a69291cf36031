"""From a checkpoint of a run folder to networks that generate or translate."""

from __future__ import annotations

from torch import nn

from fastgan.errors import ConfigError
from fastgan.gans import AdversarialGAN, Variant
from fastgan.nn.choices import check_choice
from fastgan.train.build import variant_of
from fastgan.train.checkpoint import Checkpoint
from fastgan.train.record import require_record
from fastgan.train.run_folder import RunFolder
from fastgan.train.state import module_tensors, restore

__all__ = [
    "DIRECTIONS",
    "load_averages",
    "load_critic",
    "load_generator",
    "load_translator",
    "require_generator",
]

DIRECTIONS = {"A_to_B": "G_AB", "B_to_A": "G_BA"}


def load_averages(variant: Variant, found: Checkpoint) -> None:
    """Fill the averaged modules of a variant (its generators) from a checkpoint.

    Raises:
        StateError: the checkpoint is of another architecture; nothing is changed.
    """
    live = module_tensors({name: variant.modules[name] for name in variant.ema_of})
    saved = {name: found.parts.get(f"ema.{name}", {}) for name in live}
    restore(live, saved, str(found.path))
    for name in live:
        variant.modules[name].eval()


def load_generator(folder: RunFolder, found: Checkpoint) -> AdversarialGAN:
    """The game of a run with its averaged generator, on the CPU, to `sample` from.

    Raises:
        ConfigError: the run is a cyclegan.
        StateError: the checkpoint is of another architecture, settings or data.
    """
    require_generator(folder)
    variant = _variant(folder, found)
    assert isinstance(variant, AdversarialGAN)
    load_averages(variant, found)
    return variant


def load_critic(variant: AdversarialGAN, found: Checkpoint) -> None:
    """Fill the critic of a game from a checkpoint.

    Raises:
        StateError: the checkpoint is of another architecture; nothing is changed.
    """
    live = module_tensors({"critic": variant.modules["critic"]})
    restore(live, {"critic": found.parts.get("critic", {})}, str(found.path))
    variant.modules["critic"].eval()


def load_translator(folder: RunFolder, found: Checkpoint, direction: str) -> nn.Module:
    """The averaged translator of a cyclegan's run, in evaluation mode on the CPU.

    What it takes is in `folder.data()`: shape, spacing and normalisation of domain A, and
    under "b" those of domain B.

    Args:
        folder: the run.
        found: one of its checkpoints.
        direction: "A_to_B" | "B_to_A".

    Returns:
        A `fastgan.models.Translator`: [B, C, D, H, W] in [-1, 1] of one domain to the other, for
        any D, H, W that its `stride` divides; made for windows of the run's shape.

    Raises:
        ConfigError: an unknown direction, or the run is no cyclegan.
        StateError: the checkpoint is of another architecture, settings or data.
    """
    check_choice("direction", direction, DIRECTIONS)
    config = folder.as_of(found).config()
    if not config.translates:
        raise ConfigError(
            f"{folder.path}: its gan.variant is {config.gan.variant!r}, which translates nothing; "
            "use fastgan generate"
        )
    variant = _variant(folder, found)
    load_averages(variant, found)
    return variant.modules[DIRECTIONS[direction]]


def _variant(folder: RunFolder, found: Checkpoint) -> Variant:
    """The run's game as configured, if that is what the checkpoint was made with."""
    folder = folder.as_of(found)
    data = folder.data()
    require_record(data, folder.path / "data.json")
    return variant_of(folder.config(), data)


def require_generator(folder: RunFolder) -> None:
    """Refuse a run whose networks draw nothing from latents.

    Raises:
        ConfigError: it is a cyclegan; says what to use.
    """
    if folder.config().translates:
        raise ConfigError(
            f"{folder.path}: a cyclegan draws no volumes, it translates given ones: use "
            f"fastgan translate --run {folder.path}"
        )
