"""GAN variants: objectives, penalties, augmentation, and the phases of a training step."""

# Each objective registers itself on import.
from fastgan.gans import hinge, least_squares, minimax, non_saturating, wasserstein  # noqa: F401
from fastgan.gans.adversarial import AdversarialGAN
from fastgan.gans.augment import Augment
from fastgan.gans.build import build_cycle, build_variant
from fastgan.gans.collapse import collapse_metrics, similarity
from fastgan.gans.cycle import CycleGAN
from fastgan.gans.label_prior import LabelPrior
from fastgan.gans.objectives import Objective, find_objective, objectives, register
from fastgan.gans.penalties import Penalty
from fastgan.gans.pool import Pool
from fastgan.gans.settings import AdamSettings, AdversarialSettings, CycleSettings
from fastgan.gans.variant import Phase, Pictures, Recipe, Variant

__all__ = [
    "AdamSettings",
    "AdversarialGAN",
    "AdversarialSettings",
    "Augment",
    "CycleGAN",
    "CycleSettings",
    "LabelPrior",
    "Objective",
    "Penalty",
    "Phase",
    "Pictures",
    "Pool",
    "Recipe",
    "Variant",
    "build_cycle",
    "build_variant",
    "collapse_metrics",
    "find_objective",
    "objectives",
    "register",
    "similarity",
]
