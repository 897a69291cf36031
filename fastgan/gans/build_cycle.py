"""From plain settings to a CycleGAN: what the training loop calls for two unpaired sets."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fastgan.gans.cycle import CycleGAN
from fastgan.gans.variant import AdamSettings
from fastgan.models import build_patch_critic, build_translator

__all__ = ["build_cycle"]


def build_cycle(
    *,
    shape: Sequence[int],
    channels: int = 1,
    translator: str = "resnet",
    translator_channels: Sequence[int] = (32, 64),
    translator_blocks: int = 4,
    translator_kernel: int = 3,
    patch_critic_channels: Sequence[int] = (32, 64),
    generator_norm: str = "instance",
    critic_norm: str = "none",
    spectral_norm: bool = False,
    fold: Sequence[int] = (1, 1, 1),
    objective: str = "least-squares",
    lambda_cycle: float = 10.0,
    lambda_identity: float = 0.5,
    pool_size: int = 50,
    critic_noise: float = 0.0,
    same_contrast: bool = False,
    lr_generator: float = 2e-4,
    lr_critic: float = 2e-4,
    betas: tuple[float, float] = (0.5, 0.999),
    seed: int = 0,
) -> CycleGAN:
    """Build two translators, two patch critics and the game between them, on the CPU.

    Args:
        shape: D, H, W of the volumes of both domains.
        channels: C of the volumes of both domains.
        translator: resnet | unet, of both translators.
        translator_channels: from the finest grid to the coarsest.
        translator_blocks: residual blocks on the coarsest grid.
        translator_kernel: 1 | 3, of stem, blocks and head.
        patch_critic_channels: from the finest stage to the coarsest, of both critics.
        generator_norm: instance | group | layer | none, of the translators.
        critic_norm: likewise, of the critics.
        spectral_norm: of the critics' weights.
        fold: block of voxels that all four networks treat as channels of one.
        objective: name in `objectives`, one that needs no bounded slope.
        lambda_cycle: weight of the cycle loss.
        lambda_identity: of the identity loss, relative to lambda_cycle.
        pool_size: earlier translations kept per domain.
        critic_noise: standard deviation of the noise the critics see volumes through.
        same_contrast: both domains show every tissue alike.
        lr_generator: Adam's learning rate of the translators.
        lr_critic: and of the critics.
        betas: Adam's decay rates of both.
        seed: the initial weights are a function of it; torch's global generator is left alone.

    Raises:
        ConfigError: anything that cannot work, naming the setting.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        G_AB, G_BA = (
            build_translator(
                architecture=translator,
                shape=shape,
                channels=channels,
                translator_channels=translator_channels,
                blocks=translator_blocks,
                kernel=translator_kernel,
                norm=generator_norm,
                fold=fold,
            )
            for _ in range(2)
        )
        D_A, D_B = (
            build_patch_critic(
                shape=shape,
                channels=channels,
                patch_critic_channels=patch_critic_channels,
                norm=critic_norm,
                spectral_norm=spectral_norm,
                fold=fold,
            )
            for _ in range(2)
        )
    return CycleGAN(
        G_AB,
        G_BA,
        D_A,
        D_B,
        shape=(channels, int(shape[0]), int(shape[1]), int(shape[2])),
        objective=objective,
        lambda_cycle=lambda_cycle,
        lambda_identity=lambda_identity,
        pool_size=pool_size,
        critic_noise=critic_noise,
        same_contrast=same_contrast,
        optimisers={
            "generator": AdamSettings(lr_generator, *betas),
            "critic": AdamSettings(lr_critic, *betas),
        },
    )
