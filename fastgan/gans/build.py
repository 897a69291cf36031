"""From plain settings to a variant: what the training loop calls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fastgan.gans.adversarial import AdversarialGAN
from fastgan.gans.label_prior import LabelPrior
from fastgan.gans.penalties import Penalty
from fastgan.gans.variant import AdamSettings
from fastgan.models import build_critic, build_generator

__all__ = ["build_variant"]


def build_variant(
    *,
    shape: Sequence[int],
    channels: int = 1,
    classes: Sequence[str] = (),
    prior: Sequence[float] | np.ndarray | None = None,
    balanced: bool = False,
    architecture: str = "dcgan",
    latent_dim: int = 128,
    generator_channels: Sequence[int] = (128, 64, 32, 16),
    critic_channels: Sequence[int] = (16, 32, 64, 128),
    generator_norm: str = "instance",
    critic_norm: str = "none",
    spectral_norm: bool = False,
    fold: Sequence[int] = (1, 1, 1),
    smooth_output: bool = False,
    minibatch_stddev: int = 0,
    objective: str = "wgan-gp",
    critic_steps: int = 5,
    penalty: str = "wgan-gp",
    penalty_weight: float = 10.0,
    one_sided: bool = False,
    penalty_interval: int = 1,
    weight_clip: float = 0.0,
    augment: Sequence[str] = (),
    lr_generator: float = 1e-4,
    lr_critic: float = 1e-4,
    betas: tuple[float, float] = (0.0, 0.9),
    seed: int = 0,
) -> AdversarialGAN:
    """Build generator, critic and the game between them, on the CPU.

    Args:
        shape: D, H, W of the volumes.
        channels: C of the volumes.
        classes: names of the classes of a conditional GAN; none: unconditional.
        prior: share of each class in the training split.
        balanced: real batches are drawn with every class equally often.
        architecture: dcgan | residual, of both networks.
        latent_dim: L, length of a latent vector.
        generator_channels: from the coarsest grid to the finest.
        critic_channels: from the finest stage to the coarsest.
        generator_norm: instance | group | layer | none.
        critic_norm: likewise.
        spectral_norm: of the critic's weights.
        fold: block of voxels that both networks treat as channels of one.
        smooth_output: of the generator; see `build_generator`.
        minibatch_stddev: of the critic; see `build_critic`.
        objective: name in `objectives`.
        critic_steps: critic updates per generator update.
        penalty: wgan-gp | r1 | r2 | none.
        penalty_weight: its weight.
        one_sided: penalise only slopes above 1 (wgan-gp).
        penalty_interval: critic steps between two evaluations.
        weight_clip: c > 0 clips the critic's parameters to [-c, c]; needs penalty none.
        augment: any of flip, shift, intensity.
        lr_generator: Adam's learning rate of the generator.
        lr_critic: and of the critic.
        betas: Adam's decay rates of both.
        seed: the initial weights are a function of it; torch's global generator is left alone.

    Raises:
        ConfigError: anything that cannot work, naming the setting.
    """
    labels = LabelPrior(classes, prior, balanced)
    rule = Penalty(penalty, penalty_weight, one_sided, penalty_interval)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = build_generator(
            architecture=architecture,
            shape=shape,
            channels=channels,
            latent_dim=latent_dim,
            generator_channels=generator_channels,
            norm=generator_norm,
            num_classes=labels.num_classes,
            fold=fold,
            smooth_output=smooth_output,
        )
        critic = build_critic(
            architecture=architecture,
            shape=shape,
            channels=channels,
            critic_channels=critic_channels,
            norm=critic_norm,
            num_classes=labels.num_classes,
            spectral_norm=spectral_norm,
            fold=fold,
            minibatch_stddev=minibatch_stddev,
        )
    return AdversarialGAN(
        generator,
        critic,
        objective=objective,
        penalty=rule,
        critic_steps=critic_steps,
        augment=augment,
        labels=labels,
        optimisers={
            "critic": AdamSettings(lr_critic, *betas),
            "generator": AdamSettings(lr_generator, *betas),
        },
        bounded=spectral_norm,
        weight_clip=weight_clip,
    )
