from __future__ import annotations

import pytest
import torch
from torch import nn

from fastgan.train.ema import Ema


def test_values():
    module = nn.BatchNorm1d(2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([1.0, 2.0]))
    ema = Ema({"g": module}, decay=0.5)
    expected = module.weight.detach().clone()
    for step in range(9):
        with torch.no_grad():
            module.weight.add_(1.0)
            module.running_mean.add_(0.25)
        ema.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * module.weight.detach()
    tensors = ema.tensors()["ema.g"]
    torch.testing.assert_close(tensors["weight"], expected)
    assert torch.equal(tensors["running_mean"], module.running_mean)
    assert tensors["num_batches_tracked"].dtype == torch.int64
    assert tensors.keys() == module.state_dict().keys()


@pytest.mark.parametrize("tied", [False, True])
def test_applied_and_put_back(tied):
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    if tied:
        module[1].weight = module[0].weight
    ema = Ema({"g": module}, decay=0.9)
    start = module[0].weight.detach().clone()
    with torch.no_grad():
        module[0].weight.mul_(3.0)
    with pytest.raises(ValueError, match="inside"), ema.applied():
        assert torch.equal(module[0].weight, start)
        raise ValueError("inside")
    assert torch.equal(module[0].weight, start * 3.0)
    assert torch.equal(ema.tensors()["ema.g"]["0.weight"], start)


def test_zero_decay_follows_the_weights():
    module = nn.Linear(3, 1)
    ema = Ema({"g": module}, decay=0.0)
    with torch.no_grad():
        module.weight.mul_(-2.0)
    ema.update(100)
    assert torch.equal(ema.tensors()["ema.g"]["weight"], module.weight)
