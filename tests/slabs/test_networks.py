"""Networks on slabs: which are refused, and that they are whole again afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fastgan.errors import ConfigError
from fastgan.models import build_critic, build_generator
from fastgan.slabs import Slabs, spread_network


def generator(shape: tuple[int, int, int] = (16, 8, 8), **settings: Any) -> nn.Module:
    facts = {"architecture": "dcgan", "norm": "instance", "latent_dim": 4}
    return build_generator(shape=shape, **{"generator_channels": (8, 4)} | facts | settings)


def critic(shape: tuple[int, int, int] = (16, 8, 8), **settings: Any) -> nn.Module:
    facts = {"architecture": "dcgan", "norm": "none", "critic_channels": (4, 8)}
    return build_critic(shape=shape, **facts | settings)


def replaced(network: Any, **parts: nn.Module) -> nn.Module:
    """The network with other modules in place of some of its own."""
    for name, module in parts.items():
        setattr(network, name, module)
    return network


REFUSED = {
    "a grid that 4 do not divide": (
        lambda: critic((8, 8, 8)),
        4,
        r"the critic has grids of 2, 4, 8 planes .* 2 cannot be divided by 4; split by 2, or",
    ),
    "a grid that 3 do not divide": (
        generator,
        3,
        r"grids of 4, 8, 16 .* 4 cannot be .* by 3; split by 2, or",
    ),
    "a slab without a plane": (generator, 8, r"4 cannot be divided by 8; split by 2 or 4, or"),
    "an odd number of planes": (
        lambda: critic((34, 34, 34), critic_channels=(4, 8, 8)),
        2,
        r"the critic halves an odd number of planes along the first axis, of 4, 8, 17, 34, and",
    ),
    "an odd number made": (
        lambda: generator((34, 34, 34), generator_channels=(8, 4, 4)),
        2,
        r"halves an odd number of planes",
    ),
    "a network of one's own": (
        lambda: nn.Sequential(nn.Linear(4, 8)),
        2,
        r"is a Sequential; of networks, those of build_generator and build_critic",
    ),
    "a layer of one's own": (
        lambda: replaced(generator(), smooth=nn.AvgPool3d(3, 1, 1)),
        2,
        r"smooth is a AvgPool3d, of which it is not known",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_rejects(case: str) -> None:
    make, count, message = REFUSED[case]
    network: Any = make()
    name = "critic" if "critic" in message else "generator"
    with (
        pytest.raises(ConfigError, match=r"^train\.split: .*" + message),
        spread_network(network, Slabs(0, count), name),
    ):
        raise AssertionError("spread")
    assert not any("forward" in module.__dict__ for module in network.modules())


def test_one_slab_changes_nothing() -> None:
    network = generator()
    with spread_network(network, Slabs(), "generator"):
        assert not any("forward" in module.__dict__ for module in network.modules())


def test_networks_are_whole_again() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 1, 16, 8, 8)
    network = critic()
    wanted = network(x)
    with spread_network(network, Slabs(1, 2), "critic"):
        with pytest.raises(ConfigError, match=r"x must be a slab \[B, 1, 8, 8, 8\], got"):
            network(x)
        with pytest.raises(RuntimeError, match="inside"):
            raise RuntimeError("inside")
    assert torch.equal(network(x), wanted)


def test_a_part_of_what_is_whole() -> None:
    whole = torch.arange(24.0).view(2, 12)
    assert torch.equal(Slabs(1, 3).own(whole, 1), whole[:, 4:8])
    # Two sets of planes in a row, such as features and their spread.
    own = Slabs(1, 3).own(whole, 1, times=2)
    assert torch.equal(own, whole[:, [2, 3, 8, 9]])
    assert Slabs().own(whole, 1) is whole
