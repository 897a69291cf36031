from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch

from fastgan.errors import ConfigError, ResourceLimit
from fastgan.random import Draws
from fastgan.spans import span
from fastgan.train import checkpoint, fit, load_averages
from fastgan.train.batches import Batches
from fastgan.train.device import peak_memory, repeatable, resolve
from fastgan.train.precision import forward_precision
from fastgan.train.progress import Progress


def test_one_step_by_hand(tiny, tmp_path, quiet):
    """The loop's first step against Adam, phases and average written out."""
    config = tiny.tiny_config(steps=1)
    variant, by_hand = tiny.TinyVariant(), tiny.TinyVariant()
    start = {n: t.clone() for n, t in by_hand.modules["generator"].state_dict().items()}
    run = fit(variant, tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    adams = {
        name: torch.optim.Adam(by_hand.modules[name].parameters(), 1e-2, (0.0, 0.9), foreach=False)
        for name in ("critic", "generator")
    }
    data, draws = tiny.TinyDataset(), Draws(0)
    for phase in by_hand.phases(0, lambda p: data.sample(4, draws.numpy(0, f"batch/{p}")), draws):
        for module in by_hand.modules.values():
            module.zero_grad()
        phase.loss()[0].backward()
        adams[phase.name].step()
    for name, module in by_hand.modules.items():
        for key, tensor in module.state_dict().items():
            torch.testing.assert_close(variant.modules[name].state_dict()[key], tensor)
    averaged = checkpoint.newest(run.path).parts["ema.generator"]
    for key, tensor in by_hand.modules["generator"].state_dict().items():
        torch.testing.assert_close(averaged[key], 0.1 * start[key] + 0.9 * tensor)


def test_what_a_run_leaves(tiny, tmp_path, quiet):
    config = tiny.tiny_config(steps=5, log_every=2, checkpoint_every=2, sample_every=4)
    run = fit(tiny.TinyVariant(), tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    assert checkpoint.steps(run.path) == [5, 4]
    assert [row["step"] for row in tiny.rows(run.path)] == [1, 2, 4, 5]
    assert sorted(p.name for p in (run.path / "samples").iterdir()) == [
        "step-0000004.png",
        "step-0000005.png",
    ]
    found = checkpoint.newest(run.path)
    assert found.parts.keys() == {
        "generator", "critic", "ema.generator", "optimiser.critic", "optimiser.generator"
    }  # fmt: skip
    assert found.counters["volumes"] == 5 * 2 * 4
    assert json.loads(found.identity["data"]["fingerprint"]) == "f" * 64
    assert json.loads((run.path / "data.json").read_text())["spacing"] == [1.0, 1.0, 2.0]


def test_metrics_are_means_over_a_steps_phases(tiny, tmp_path, quiet):
    losses = []

    class Noting(tiny.TinyVariant):
        def phases(self, step, next_batch, draws):
            for phase in super().phases(step, next_batch, draws):

                def loss(phase=phase):
                    value, metrics = phase.loss()
                    losses.append((phase.name, value.item()))
                    return value, metrics

                yield tiny.Phase(phase.name, phase.updates, loss)

    config = tiny.tiny_config(steps=1)
    run = fit(Noting(), tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    (row,) = tiny.rows(run.path)
    critic = [value for name, value in losses if name == "critic"]
    assert row["critic/loss"] == pytest.approx(np.mean(critic))
    assert row["generator/loss"] == pytest.approx(losses[-1][1])


def test_only_the_phases_modules_need_gradients(tiny, tmp_path, quiet):
    seen = {}

    class Looking(tiny.TinyVariant):
        def phases(self, step, next_batch, draws):
            for phase in super().phases(step, next_batch, draws):
                yield phase
                seen[phase.name] = {
                    name for name, module in self.modules.items()
                    if any(p.requires_grad for p in module.parameters())
                }  # fmt: skip

    variant = Looking()
    frozen = variant.modules["critic"][0].bias.requires_grad_(False)
    start = frozen.detach().clone()
    fit(variant, tiny.TinyDataset(), tiny.tiny_config(steps=2), out=tmp_path, progress=quiet)
    assert seen == {"critic": {"critic"}, "generator": {"generator"}}
    assert torch.equal(frozen, start) and not frozen.requires_grad


def test_a_failed_save_ends_the_run(tiny, tmp_path, quiet, monkeypatch):
    real = checkpoint.save

    def full(folder, step, *rest):
        if step == 4:
            raise ResourceLimit("disk full")
        return real(folder, step, *rest)

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(ResourceLimit, match="disk full"):
        config = tiny.tiny_config(steps=9)
        fit(tiny.TinyVariant(), tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    (run,) = tmp_path.iterdir()
    assert checkpoint.newest(run).step == 2


def test_out_of_memory_is_named(tiny, tmp_path, quiet):
    class Hungry(tiny.TinyVariant):
        def phases(self, step, next_batch, draws):
            if step == 1:
                raise torch.OutOfMemoryError("tried to allocate 3 GiB\nmore")
            yield from super().phases(step, next_batch, draws)

    with pytest.raises(ResourceLimit, match=r"step 2: .*batch_size 4: tried to allocate 3 GiB$"):
        config = tiny.tiny_config(steps=3)
        fit(Hungry(), tiny.TinyDataset(), config, out=tmp_path, progress=quiet)


def test_bfloat16_trains_float32_weights(tiny, tmp_path, quiet):
    config = tiny.tiny_config(steps=2, precision="bfloat16")
    variant = tiny.TinyVariant()
    run = fit(variant, tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    assert {p.dtype for m in variant.modules.values() for p in m.parameters()} == {torch.float32}
    exact = fit(
        tiny.TinyVariant(),
        tiny.TinyDataset(),
        tiny.tiny_config(steps=2),
        out=tmp_path,
        progress=quiet,
    )
    loss, true = (tiny.rows(r.path)[0]["critic/loss"] for r in (run, exact))
    assert loss != true and loss == pytest.approx(true, rel=0.05, abs=0.01)


def test_load_averages_takes_the_average(tiny, tmp_path, quiet):
    config = tiny.tiny_config(steps=3)
    trained = tiny.TinyVariant()
    run = fit(trained, tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    found, fresh = checkpoint.newest(run.path), tiny.TinyVariant()
    load_averages(fresh, found)
    for key, tensor in fresh.modules["generator"].state_dict().items():
        assert torch.equal(tensor, found.parts["ema.generator"][key])
        assert not torch.equal(tensor, trained.modules["generator"].state_dict()[key])
    assert not fresh.modules["generator"].training


def test_batches_depend_on_step_and_purpose_alone(tiny):
    def batches():
        return Batches(tiny.TinyDataset(), 5, Draws(3), torch.device("cpu"))

    first, second = batches(), batches()
    first.next(0, "warm")
    assert torch.equal(first.next(7, "a").index, second.next(7, "a").index)
    assert not torch.equal(first.next(7, "b").index, second.next(7, "a").index)
    assert first.drawn.keys() == {"warm", "a", "b"} and first.count == 15


def test_reading_ahead_changes_nothing(tiny):
    device = torch.device("cpu")
    plain = Batches(tiny.TinyDataset(), 5, Draws(3), device, ahead=False)
    ahead = Batches(tiny.TinyDataset(), 5, Draws(3), device, ahead=True)
    try:
        # Step 2 is never asked for, and "b" not at every step: guesses that do not come true.
        for step, purposes in [(0, "ab"), (1, "a"), (3, "ab"), (4, "ba"), (5, "c")]:
            for purpose in purposes:
                first, second = plain.next(step, purpose), ahead.next(step, purpose)
                assert torch.equal(first.volumes, second.volumes)
        assert ahead.count == plain.count
    finally:
        ahead.close()


def test_reading_ahead_reports_errors(tiny):
    class Failing(tiny.TinyDataset):
        def sample(self, batch_size, rng):
            raise OSError("gone")

    ahead = Batches(Failing(), 5, Draws(3), torch.device("cpu"), ahead=True)
    with pytest.raises(OSError, match="gone"):
        ahead.next(0, "a")
    ahead.close()


def test_devices():
    assert resolve("cpu") == torch.device("cpu")
    if not torch.cuda.is_available():
        assert resolve("auto") == torch.device("cpu")
    for name in ("cuda:99", "gpu", "meta", "cpu:x"):
        with pytest.raises(ConfigError, match=r"train.device"):
            resolve(name)
    assert peak_memory(torch.device("cpu")) > 2**20


def test_repeatable_puts_everything_back():
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    with pytest.raises(KeyError), repeatable(True, threads=1):
        assert torch.are_deterministic_algorithms_enabled() and torch.get_num_threads() == 1
        assert not torch.backends.cudnn.benchmark
        raise KeyError
    assert (torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()) == before


def test_precision():
    with forward_precision("bfloat16", torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with forward_precision("float32", torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with pytest.raises(ConfigError, match=r"train.precision"):
        forward_precision("float16", torch.device("cpu"))


def test_spans_nest_and_are_reused():
    assert span("data") is span("data")
    with span("critic"), span("data"), span("data"):
        pass


def test_plain_progress():
    stream = io.StringIO()
    with Progress(100, start=50, stream=stream) as progress:
        progress.advance(51)
        progress.report(60, {"critic/loss": -0.123456}, volumes_per_second=12.5, memory=2**30)
    (line,) = stream.getvalue().splitlines()
    assert line.startswith(
        "step 60/100  critic/loss -0.1235  12.5 real volumes/s  1.00 GiB  left 0:0"
    )


def test_the_first_step_is_told_at_once(tiny, tmp_path):
    config = tiny.tiny_config(steps=4, log_every=100, checkpoint_every=2, sample_every=100)
    lines = io.StringIO()
    progress = Progress(4, stream=lines)
    run = fit(tiny.TinyVariant(), tiny.TinyDataset(), config, out=tmp_path, progress=progress)
    told = [line for line in lines.getvalue().splitlines() if line.startswith("step")]
    assert [line.split()[1] for line in told] == ["1/4", "4/4"]
    assert "left 0:00:0" in told[0] and "real volumes/s" in told[0]
    assert [row["step"] for row in tiny.rows(run.path)] == [1, 4]


def test_a_resumed_run_tells_its_first_step_but_keeps_the_rows(tiny, tmp_path, quiet):
    settings = {"log_every": 4, "checkpoint_every": 2, "sample_every": 100}
    short = tiny.tiny_config(steps=2, **settings)
    run = fit(tiny.TinyVariant(), tiny.TinyDataset(), short, out=tmp_path, progress=quiet)
    lines = io.StringIO()
    fit(
        tiny.TinyVariant(),
        tiny.TinyDataset(),
        tiny.tiny_config(steps=8, **settings),
        resume=run.path,
        progress=Progress(8, start=2, stream=lines),
    )
    told = [line.split()[1] for line in lines.getvalue().splitlines() if line.startswith("step")]
    assert told == ["3/8", "4/8", "8/8"]
    assert [row["step"] for row in tiny.rows(run.path)] == [1, 2, 4, 8]


def test_time_left_leaves_the_slow_first_step_out(monkeypatch):
    now = iter([0.0, 100.0, 100.0, 110.0, 110.0])
    monkeypatch.setattr("fastgan.train.progress.time.monotonic", lambda: next(now))
    stream = io.StringIO()
    progress = Progress(101, stream=stream)
    progress.advance(1)
    progress.report(1, {}, volumes_per_second=1.0, memory=0)
    progress.advance(11)
    progress.report(11, {}, volumes_per_second=1.0, memory=0)
    first, later = stream.getvalue().splitlines()
    assert first.endswith("left 2:46:40") and later.endswith("left 0:01:30")


def test_progress_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("COLUMNS", "200")
    stream = Terminal()
    with Progress(4, stream=stream) as progress:
        progress.advance(1)
        progress.report(2, {"critic/loss": 0.5}, volumes_per_second=3.0, memory=0)
        progress.advance(3)
        progress.say("[bold] is printed as it is")
    shown = stream.getvalue()
    assert "[bold] is printed as it is" in shown and "critic/loss 0.5" in shown and "3/4" in shown
    assert "3 real volumes/s" in shown and "left 0:00:0" in shown


@pytest.mark.parametrize(("name", "index"), [("cuda:1", 1), ("cuda", 2)])
def test_a_device_that_is_asked_for_becomes_the_current_one(name, index, monkeypatch):
    current = [2]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[-1])
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: current.append(device.index))
    assert resolve(name) == torch.device("cuda", index) and current[-1] == index


def test_metrics_are_asked_for_in_the_steps_that_are_logged(tiny, tmp_path, quiet):
    asked = []

    class Watching(tiny.TinyVariant):
        def phases(self, *args):
            asked.append(self.measured)
            yield from super().phases(*args)

    variant = Watching()
    config = tiny.tiny_config(steps=8, log_every=3, sample_every=100)
    run = fit(variant, tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    assert asked == [True, False, True, False, False, True, False, True]
    assert [row["step"] for row in tiny.rows(run.path)] == [1, 3, 6, 8]
    assert variant.measured
