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
    judged = torch.tensor(loss)
    skip = watch.judge(judged, gradients)
    watch.note(step, "critic", judged, skip, batches)
    return skip.item()


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


def test_skip_ends_where_nothing_is_learnt():
    watch = Watch("skip")
    for step in range(1, 10):
        _judge(watch, step, loss=NAN)
    watch.settle()
    _judge(watch, 10, loss=NAN)
    with pytest.raises(NumericsError, match=r"10 of the last 10 updates of phase critic"):
        watch.settle()


def test_skip_ends_where_more_than_half_is_left_out():
    watch = Watch("skip")
    for step in range(1, 40):
        _judge(watch, step, loss=NAN if step % 5 < 3 else 1.0)
    watch.settle()
    _judge(watch, 40, loss=NAN)
    with pytest.raises(NumericsError, match=r"of the last 40 updates of phase critic"):
        watch.settle()


@pytest.mark.parametrize(
    ("sound", "blamed"), [(True, "training has diverged: lower"), (False, "in volumes of critic/0")]
)
def test_what_is_to_blame(sound, blamed):
    watch = Watch("stop", lambda step, purpose: sound)
    _judge(watch, 2, gradient=NAN)
    with pytest.raises(NumericsError, match=blamed):
        watch.settle()


def test_a_rate_too_high_is_named_and_its_weights_are_not_saved(tiny, tmp_path, quiet):
    from fastgan.train import checkpoint

    variant = tiny.TinyVariant(
        optimisers={"critic": tiny.Settings(lr=1e30), "generator": tiny.Settings(lr=1e30)}
    )
    config = tiny.tiny_config(steps=24, non_finite="skip", checkpoint_every=1)
    with pytest.raises(NumericsError, match=r"diverged.*lower train.lr"):
        fit(variant, tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    (run,) = tmp_path.iterdir()
    found = checkpoint.newest(run)
    assert all(t.abs().max() < 1e12 for part in found.parts.values() for t in part.values())


def test_broken_volumes_are_named_as_such(tiny, tmp_path, quiet):
    _, volume = _poison(tiny)
    config = tiny.tiny_config(steps=9)
    with pytest.raises(NumericsError, match="NaN or infinity in volumes of critic/"):
        fit(tiny.TinyVariant(), tiny.TinyDataset(volume), config, out=tmp_path, progress=quiet)
