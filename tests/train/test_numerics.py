from __future__ import annotations

import pytest
import torch

from fastgan.errors import NumericsError
from fastgan.train import fit
from fastgan.train.numerics import Watch

NAN = float("nan")


def _judge(watch, step, loss=1.0, gradient=1.0):
    batches = {"critic/0": torch.tensor([4, 7])}
    gradients = [torch.tensor([0.0, gradient]), torch.ones(2, 2)]
    return watch.judge(step, "critic", torch.tensor(loss), gradients, batches).item()


@pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf")])
def test_skip_counts_and_goes_on(bad):
    watch = Watch("skip")
    assert [_judge(watch, 1), _judge(watch, 2, loss=bad), _judge(watch, 3)] == [0.0, 1.0, 0.0]
    assert _judge(watch, 4, gradient=bad) == 1.0
    watch.settle()
    watch.settle()
    assert watch.skipped == {"critic": 2}


def test_stop_holds_everything_after_the_first():
    watch = Watch("stop")
    assert [_judge(watch, 1), _judge(watch, 2, gradient=NAN), _judge(watch, 3)] == [0.0, 1.0, 1.0]
    with pytest.raises(
        NumericsError, match=r"step 2, phase critic: a gradient .*critic/0 \[4, 7\]"
    ):
        watch.settle()


def test_large_is_not_infinite():
    assert _judge(Watch("stop"), 1, gradient=1e18) == 0.0


def test_what_adam_cannot_square_is_left_out():
    assert _judge(Watch("stop"), 1, gradient=3e38) == 1.0


def _poison(tiny):
    """The data set's volume that step 3 sees first, and nothing before it."""
    from fastgan.random import Draws

    def seen(step):
        draws = (Draws(0).numpy(step, f"batch/critic/{i}").integers(0, 12, 4) for i in range(2))
        return [set(draw.tolist()) for draw in draws]

    earlier = set().union(*seen(0), *seen(1))
    fresh = [(step, v) for step in (2, 3, 4) for v in sorted(set().union(*seen(step)) - earlier)]
    return fresh[0]


def _weights(variant):
    return {
        n: p.detach().clone() for m in variant.modules.values() for n, p in m.named_parameters()
    }


def test_stop_in_the_loop(tiny, tmp_path, quiet):
    step, volume = _poison(tiny)
    clean = tiny.TinyVariant()
    fit(clean, tiny.TinyDataset(), tiny.tiny_config(steps=step), out=tmp_path, progress=quiet)
    variant = tiny.TinyVariant()
    variant.critic_steps = 2
    config = tiny.tiny_config(steps=9)
    with pytest.raises(NumericsError, match=rf"step {step + 1}, phase critic.*{volume}"):
        fit(variant, tiny.TinyDataset(volume), config, out=tmp_path, progress=quiet)
    generator = variant.modules["generator"].state_dict()
    for name, tensor in clean.modules["generator"].state_dict().items():
        assert torch.equal(generator[name], tensor)
    assert all(torch.isfinite(w).all() for w in _weights(variant).values())


def test_skip_in_the_loop(tiny, tmp_path, quiet):
    import json

    _, volume = _poison(tiny)
    variant = tiny.TinyVariant()
    config = tiny.tiny_config(steps=9, non_finite="skip")
    run = fit(variant, tiny.TinyDataset(volume), config, out=tmp_path, progress=quiet)
    assert all(torch.isfinite(w).all() for w in _weights(variant).values())
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 9 and rows[-1]["skipped/critic"] >= 1
    assert any(row["critic/loss"] is None for row in rows)
    assert "skipped/generator" not in rows[-1]
