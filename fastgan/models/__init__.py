"""Networks: the stage ladder, generators and critics for any volume shape."""

from fastgan.models.critic import Critic, build_critic
from fastgan.models.describe import describe, parameter_count
from fastgan.models.generator import Generator, build_generator
from fastgan.models.ladder import Ladder, build_ladder

__all__ = [
    "Critic",
    "Generator",
    "Ladder",
    "build_critic",
    "build_generator",
    "build_ladder",
    "describe",
    "parameter_count",
]
