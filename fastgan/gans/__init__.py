"""GAN variants: objectives, penalties, augmentation, and the phases of a training step."""

# Each objective registers itself on import.
from fastgan.gans import hinge, least_squares, minimax, non_saturating, wasserstein  # noqa: F401
from fastgan.gans.adversarial import AdversarialGAN
from fastgan.gans.augment import Augment
from fastgan.gans.build import build_variant
from fastgan.gans.build_cycle import build_cycle
from fastgan.gans.collapse import collapse_metrics, similarity
from fastgan.gans.cycle import CycleGAN
from fastgan.gans.fittable import (
    GAN,
    FittableGAN,
    HingeGAN,
    LeastSquaresGAN,
    NonSaturatingGAN,
    WassersteinClip,
    WassersteinGP,
)
from fastgan.gans.label_prior import LabelPrior
from fastgan.gans.objectives import Objective, find_objective, objectives, register
from fastgan.gans.patch_distance import patch_distance
from fastgan.gans.penalties import Penalty
from fastgan.gans.pool import Pool
from fastgan.gans.variant import AdamSettings, Phase, Pictures, Variant
from fastgan.models.structure import Structure, structure_metrics

__all__ = [
    "GAN",
    "AdamSettings",
    "AdversarialGAN",
    "Augment",
    "CycleGAN",
    "FittableGAN",
    "HingeGAN",
    "LabelPrior",
    "LeastSquaresGAN",
    "NonSaturatingGAN",
    "Objective",
    "Penalty",
    "Phase",
    "Pictures",
    "Pool",
    "Structure",
    "Variant",
    "WassersteinClip",
    "WassersteinGP",
    "build_cycle",
    "build_variant",
    "collapse_metrics",
    "find_objective",
    "objectives",
    "patch_distance",
    "register",
    "similarity",
    "structure_metrics",
]
