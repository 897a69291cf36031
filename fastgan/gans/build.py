"""From settings to a variant: what the training loop calls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fastgan.gans.adversarial import AdversarialGAN
from fastgan.gans.cycle import CycleGAN
from fastgan.gans.label_prior import LabelPrior
from fastgan.gans.settings import AdversarialSettings, CycleSettings
from fastgan.models import build_critic, build_generator, build_patch_critic, build_translator

__all__ = ["build_cycle", "build_variant"]


def build_variant(
    settings: AdversarialSettings,
    *,
    shape: Sequence[int],
    channels: int = 1,
    classes: Sequence[str] = (),
    prior: Sequence[float] | np.ndarray | None = None,
    balanced: bool = False,
    seed: int = 0,
) -> AdversarialGAN:
    """Build generator, critic and the game between them, on the CPU.

    Args:
        settings: of networks, game and optimisers.
        shape: D, H, W of the volumes.
        channels: C of the volumes.
        classes: names of the classes of a conditional GAN; none: unconditional.
        prior: share of each class in the training split.
        balanced: real batches are drawn with every class equally often.
        seed: the initial weights are a function of it; torch's global generator is left alone.

    Raises:
        ConfigError: anything that cannot work, naming the setting.
    """
    labels = LabelPrior(classes, prior, balanced)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = build_generator(
            architecture=settings.architecture,
            shape=shape,
            channels=channels,
            latent_dim=settings.latent_dim,
            generator_channels=settings.generator_channels,
            norm=settings.generator_norm,
            num_classes=labels.num_classes,
            fold=settings.fold,
            smooth_output=settings.smooth_output,
        )
        critic = build_critic(
            architecture=settings.architecture,
            shape=shape,
            channels=channels,
            critic_channels=settings.critic_channels,
            norm=settings.critic_norm,
            num_classes=labels.num_classes,
            spectral_norm=settings.spectral_norm,
            fold=settings.fold,
            minibatch_stddev=settings.minibatch_stddev,
        )
    return AdversarialGAN(generator, critic, settings, labels=labels)


def build_cycle(
    settings: CycleSettings,
    *,
    shape: Sequence[int],
    channels: int = 1,
    same_contrast: bool = False,
    seed: int = 0,
) -> CycleGAN:
    """Build two translators, two patch critics and the game between them, on the CPU.

    Args:
        settings: of networks, game and optimisers.
        shape: D, H, W of the volumes of both domains.
        channels: C of the volumes of both domains.
        same_contrast: both domains show every tissue alike.
        seed: the initial weights are a function of it; torch's global generator is left alone.

    Raises:
        ConfigError: anything that cannot work, naming the setting.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        G_AB, G_BA = (
            build_translator(
                architecture=settings.translator,
                shape=shape,
                channels=channels,
                translator_channels=settings.translator_channels,
                blocks=settings.translator_blocks,
                kernel=settings.translator_kernel,
                norm=settings.generator_norm,
                fold=settings.fold,
            )
            for _ in range(2)
        )
        D_A, D_B = (
            build_patch_critic(
                shape=shape,
                channels=channels,
                patch_critic_channels=settings.patch_critic_channels,
                norm=settings.critic_norm,
                spectral_norm=settings.spectral_norm,
                fold=settings.fold,
            )
            for _ in range(2)
        )
    return CycleGAN(
        G_AB,
        G_BA,
        D_A,
        D_B,
        shape=(channels, int(shape[0]), int(shape[1]), int(shape[2])),
        settings=settings,
        same_contrast=same_contrast,
    )
