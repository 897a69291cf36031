"""Every default of every variant, once, with its meaning.

The keys of `fastgan.config` take default and description from here, and `build_variant` and
`build_cycle` take one of these as their argument.
"""

# ruff: noqa: RUF009 (`_setting` makes a dataclass field)
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["AdamSettings", "AdversarialSettings", "CycleSettings", "Settings"]

Norm = Literal["instance", "group", "layer", "none"]
Widths = tuple[int, ...]
Blocks = tuple[int, int, int]


def _setting(default: Any, description: str) -> Any:
    return field(default=default, metadata={"description": description})


@dataclass(frozen=True)
class AdamSettings:
    """What one phase's Adam optimiser is set to."""

    lr: float
    beta1: float
    beta2: float


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What both variants take; `objective`, learning rates and betas differ in their defaults."""

    generator_norm: Norm = _setting(
        "instance", "Normalisation after the convolutions of generator or translators."
    )
    critic_norm: Norm = _setting(
        "none",
        "The same in the critic; batch statistics would couple the samples of a gradient penalty.",
    )
    spectral_norm: bool = _setting(False, "Spectral normalisation of the critic's weights.")
    fold: Blocks = _setting(
        (1, 1, 1),
        "Block of voxels that all networks treat as channels of one; (2, 2, 2) is several times "
        "faster on a CPU and leaves the finest detail to one linear layer.",
    )
    objective: str
    lr_generator: float
    lr_critic: float
    betas: tuple[float, float]

    def optimisers(self) -> dict[str, AdamSettings]:
        """Adam of the phases "critic" and "generator"."""
        rates = {"critic": self.lr_critic, "generator": self.lr_generator}
        return {phase: AdamSettings(lr, *self.betas) for phase, lr in rates.items()}


OBJECTIVE = "What critic and generator minimise; `fastgan.gans` lists the names."
LR_GENERATOR = "Learning rate of the Adam of generator or translators."
LR_CRITIC = "Learning rate of the critic's Adam."
BETAS = "Decay of Adam's first and second moment."


@dataclass(frozen=True, kw_only=True)
class AdversarialSettings(Settings):
    """A generator against a critic; the defaults are those of WGAN-GP (Gulrajani et al. 2017)."""

    objective: str = _setting("wgan-gp", OBJECTIVE)
    lr_generator: float = _setting(1e-4, LR_GENERATOR)
    lr_critic: float = _setting(1e-4, LR_CRITIC)
    betas: tuple[float, float] = _setting((0.0, 0.9), BETAS)
    architecture: Literal["dcgan", "residual"] = _setting(
        "dcgan", "Plain convolution stages, or residual blocks."
    )
    latent_dim: int = _setting(128, "Numbers the generator starts from.")
    generator_channels: Widths = _setting(
        (128, 64, 32, 16), "Channels from the coarsest grid to the finest; a stage follows each."
    )
    critic_channels: Widths = _setting(
        (16, 32, 64, 128), "Channels from the finest grid to the coarsest."
    )
    smooth_output: bool = _setting(
        False,
        "Filter the generator's output by (1, 2, 1) / 4 along each axis: for masks and other "
        "volumes without voxel noise, whose borders are then smooth from the first step on.",
    )
    minibatch_stddev: int = _setting(
        0,
        "Show the critic how far its features spread over groups of this many volumes, within "
        "each class: against generated volumes that differ too little. Divides the batch size; "
        "0: off.",
    )
    critic_steps: int = _setting(5, "Critic updates per generator update.")
    penalty: Literal["wgan-gp", "r1", "r2", "none"] = _setting(
        "wgan-gp",
        "On the critic's slope: between real and generated, at real (r1), at generated (r2).",
    )
    penalty_weight: float = _setting(10.0, "Factor of the penalty in the critic's loss.")
    one_sided: bool = _setting(False, "Penalise only slopes above the target.")
    penalty_interval: int = _setting(
        1, "Evaluate the penalty every this many critic steps, weighted up accordingly."
    )
    weight_clip: float = _setting(
        0.0,
        "Clip every weight of the critic to plus or minus this after each of its updates, as the "
        "first WGAN did with 0.01; 0: off. Needs penalty none.",
    )
    augment: tuple[Literal["flip", "shift", "intensity"], ...] = _setting(
        (),
        "Differentiable augmentation of real and generated volumes alike, inside the critic.",
    )


@dataclass(frozen=True, kw_only=True)
class CycleSettings(Settings):
    """Two translators between two unpaired sets; the defaults are those of Zhu et al. 2017."""

    objective: str = _setting("least-squares", OBJECTIVE)
    lr_generator: float = _setting(2e-4, LR_GENERATOR)
    lr_critic: float = _setting(2e-4, LR_CRITIC)
    betas: tuple[float, float] = _setting((0.5, 0.999), BETAS)
    translator: Literal["resnet", "unet"] = _setting(
        "resnet", "Both translators of a cyclegan; their norm is `generator_norm`."
    )
    translator_channels: Widths = _setting(
        (32, 64),
        "Channels from the finest grid to the coarsest; each after the first halves the grid.",
    )
    translator_blocks: int = _setting(4, "Residual blocks on the coarsest grid.")
    translator_kernel: Literal[1, 3] = _setting(
        3,
        "Kernel of stem, blocks and head; 1, with one entry of `translator_channels`, translates "
        "each block of `fold` voxels by itself: nothing can move or be invented beyond it.",
    )
    patch_critic_channels: Widths = _setting(
        (32, 64),
        "Channels of a cyclegan's critics, finest first; every stage but the last halves the "
        "grid. Their norm is `critic_norm`.",
    )
    lambda_cycle: float = _setting(
        10.0, "Of a cyclegan: weight of the mean absolute error after a round trip."
    )
    lambda_identity: float = _setting(
        0.5,
        "The same for volumes given to the translator into their own domain, times lambda_cycle. "
        "0 where the two domains mean different things by one intensity.",
    )
    pool_size: int = _setting(50, "Earlier translations kept per domain to show the critics.")
    critic_noise: float = _setting(
        0.0,
        "Of a cyclegan: standard deviation of Gaussian noise on everything the critics see, so "
        "that fine texture does not decide.",
    )
