"""Networks: the stage ladder, generators, translators, critics, classifiers, for any shape."""

from fastgan.models.classifier import Classifier, build_classifier
from fastgan.models.critic import Critic, build_critic
from fastgan.models.describe import describe, parameter_count
from fastgan.models.generator import Generator, build_generator
from fastgan.models.ladder import Ladder, build_ladder
from fastgan.models.patch_critic import PatchCritic, build_patch_critic
from fastgan.models.translator import Translator, build_translator

__all__ = [
    "Classifier",
    "Critic",
    "Generator",
    "Ladder",
    "PatchCritic",
    "Translator",
    "build_classifier",
    "build_critic",
    "build_generator",
    "build_ladder",
    "build_patch_critic",
    "build_translator",
    "describe",
    "parameter_count",
]
