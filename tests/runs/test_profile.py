"""Times, counts and traces of a few real steps."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from fastgan import ops, spans
from fastgan.config import Config
from fastgan.errors import ConfigError
from fastgan.runs.profile import annotate, profile, times, trace
from fastgan.runs.profile.path import REST
from fastgan.runs.profile.report import commands, lines_of
from fastgan.runs.profile.times import Times, copy_rate
from fastgan.runs.profile.traffic import Traffic
from fastgan.spans import heard_by, span
from tests.runs.volumes import tiny, write_volumes

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small_copies(monkeypatch):
    monkeypatch.setattr(times, "LARGEST", {"cpu": 2**20})
    monkeypatch.setattr("fastgan.train.precision._cpu_flags", set)


@pytest.fixture
def config(tmp_path) -> Config:
    return tiny(write_volumes(tmp_path / "volumes", labels=False), conditional=False)


def test_time_belongs_to_the_innermost_span_and_adds_up(monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 100.0, 132.0])
    monkeypatch.setattr(times.time, "perf_counter", lambda: next(clock))
    found = Times(CPU)
    with heard_by(found):
        with span("step"), span("critic"), span("data"):
            pass
        with span("step"):
            pass
    # Between the two steps 69 seconds went by, which are nobody's.
    expected = {REST: 1.0 + 16.0 + 32.0, "critic": 2.0 + 8.0, "critic/data": 4.0}
    assert found.seconds() == expected


def counts_of(work) -> tuple[Traffic, dict]:
    traffic = Traffic()
    with traffic, heard_by(traffic), span("step"), span("here"):
        work()
    return traffic, traffic.spans


def test_bytes_are_those_read_and_written():
    x, y = torch.randn(8, 100), torch.randn(8, 100)
    cases = {
        (lambda: x * y): (1, 3 * x.nbytes),
        (lambda: x.add_(y)): (1, 3 * x.nbytes),
        (lambda: x.copy_(y)): (1, 2 * x.nbytes),
        (lambda: x.fill_(0.0)): (1, x.nbytes),
        (lambda: x.view(-1)[:7].t()): (0, 0),
        (lambda: torch.empty_like(x)): (0, 0),
        # What was expanded is read once.
        (lambda: x + y[:, :1].expand(8, 100)): (1, 3 * x.nbytes),
    }
    for work, expected in cases.items():
        _, found = counts_of(work)
        counts = found["here"] if found else SimpleNamespace(calls=0, bytes=0)
        assert (counts.calls, counts.bytes) == expected


def test_operators_of_a_backward_are_counted_where_it_runs():
    x = torch.randn(1, 4, 3, 3, 3, requires_grad=True)

    def work() -> None:
        y = ops.bias_act(x, None).sum()
        with span("backward"):
            y.backward()

    _, found = counts_of(work)
    assert found["here"].calls == 2  # bias_act and sum
    assert found["here/backward"].calls >= 2 and found["here/backward"].bytes > x.nbytes


def test_waits_casts_and_copies_are_told_apart():
    def work() -> None:
        x = torch.ones(3)
        x.sum().item()
        x.nonzero()
        x.to(torch.bfloat16)
        x.to("meta")
        torch.empty(3, device="meta").copy_(x, non_blocking=True)

    _, found = counts_of(work)
    counts = found["here"]
    assert counts.waits == {"_local_scalar_dense": 1, "nonzero": 1}
    assert counts.casts == 1 and (counts.pinned, counts.pageable) == (0, 2)


@dataclass
class Event:
    text: str
    start: int
    stop: int

    def name(self) -> str:
        return self.text

    def start_ns(self) -> int:
        return self.start

    def end_ns(self) -> int:
        return self.stop


def test_launches_belong_to_the_innermost_span_of_any_thread():
    """As torch.profiler tells them of a GPU, which is not here."""
    events = [
        Event(f"fastgan:{REST}", 0, 100),
        Event("fastgan:critic", 10, 60),
        Event("fastgan:critic/backward", 30, 50),
        Event("cudaLaunchKernel", 12, 13),
        Event("cudaLaunchKernelExC", 31, 32),
        Event("cuLaunchKernelEx", 49, 50),
        Event("cudaMemcpyAsync", 33, 34),
        Event("cudaStreamSynchronize", 55, 56),
        Event("cudaLaunchKernel", 99, 101),
        Event("cudaDeviceSynchronize", 200, 201),
    ]
    found = trace.given(events)
    assert found.launches == {"critic": 1, "critic/backward": 2, REST: 1}
    assert found.waits == {"critic": 1, REST: 1}


def test_a_copy_has_a_rate():
    assert 1e7 < copy_rate(CPU) < 1e13


def test_a_profile_of_real_steps(config, tmp_path):
    found = profile(config, tmp_path, steps=2, warm_up=1)
    rows = {row.name: row for row in found.rows}
    parts = {"critic", "critic/data", "critic/penalty", "critic/backward", "critic/optimiser"}
    parts |= {"generator", "generator/backward", "generator/optimiser", "ema", REST}
    assert rows.keys() == parts
    assert 0.0 < found.seconds <= sum(found.steps) / 2
    for name in parts - {"critic/data", REST}:
        assert rows[name].calls > 0 and rows[name].bytes > 0 and rows[name].seconds > 0, name
    assert 0.0 < found.data_wait < 1.0 and found.volumes == 2 and found.shape == (1, 8, 8, 8)
    assert found.without_penalty is not None and found.without_penalty > 0.0
    # A step reads no value back.
    assert all(not row.waits and row.launches is None for row in found.rows)
    timeline = json.loads((tmp_path / "trace.json").read_text())
    names = {event.get("name") for event in timeline["traceEvents"]}
    assert {f"fastgan:{name}" for name in parts} <= names
    assert any(str(name).endswith("::conv_fprop") for name in names)
    text = "\n".join(lines_of(found))
    assert "critic/penalty" in text and "second derivative included" in text
    assert "would wait for the device, in a step: never" in text
    content = json.loads(json.dumps(found.as_json()))
    assert content["schema"] == "fastgan-profile/1" and len(content["rows"]) == len(parts)


def test_a_lazy_penalty_is_measured_over_whole_periods(config, tmp_path):
    config.gan.penalty_interval = 3
    found = profile(config, tmp_path, steps=2, warm_up=1)
    rows = {row.name: row for row in found.rows}
    assert len(found.steps) == 3
    every = profile_calls(config, tmp_path, interval=1)
    assert rows["critic/penalty"].calls == pytest.approx(every / 3)


def profile_calls(config, tmp_path, interval: int) -> float:
    config.gan.penalty_interval = interval
    found = profile(config, tmp_path, steps=1, warm_up=1)
    return next(row.calls for row in found.rows if row.name == "critic/penalty")


def test_a_wait_in_a_step_is_told_with_its_place(config, tmp_path, monkeypatch):
    from fastgan.gans import AdversarialGAN

    generator_loss = AdversarialGAN.generator_loss

    def reading(self, *args, **kwargs):
        loss, metrics = generator_loss(self, *args, **kwargs)
        float(loss.detach())
        return loss, metrics

    monkeypatch.setattr(AdversarialGAN, "generator_loss", reading)
    found = profile(config, tmp_path, steps=1, warm_up=1)
    assert "1 _local_scalar_dense in generator" in "\n".join(lines_of(found))


def test_a_cyclegan_has_no_penalty(tmp_path):
    a, b = (write_volumes(tmp_path / name, labels=False) for name in "ab")
    content = tiny(a, conditional=False).model_dump(mode="json")
    content["data"]["source_b"] = str(b)
    content["gan"] = {"variant": "cyclegan"}
    content["model"] = {"translator_channels": [4, 4], "translator_blocks": 1}
    content["model"] |= {"patch_critic_channels": [4, 4]}
    found = profile(Config.model_validate(content), tmp_path, steps=1, warm_up=1)
    assert found.without_penalty is None
    assert {"generator/backward", "critic/backward"} <= {row.name for row in found.rows}
    assert "penalty" not in "\n".join(lines_of(found))


def test_ranges_for_nvidias_profilers(config, monkeypatch):
    entered: list[tuple[str, object]] = []

    class Range:
        def __init__(self, text, domain, payload=None) -> None:
            assert domain == "fastgan"
            self.facts = (text, payload)

        def __enter__(self) -> None:
            entered.append(self.facts)

        def __exit__(self, *_) -> None:
            entered.append(("end", None))

    monkeypatch.setitem(sys.modules, "nvtx", SimpleNamespace(annotate=Range))
    spans.span.cache_clear()
    annotate(config, steps=1, warm_up=1)
    spans.span.cache_clear()
    texts = [text for text, _ in entered if text != "end"]
    at = texts.index("measured")
    assert "step" in texts[:at] and {"step", "critic", "penalty", "backward"} <= {*texts[at:]}
    operators = {text.split(" ")[0]: payload for text, payload in entered if " [" in text}
    assert {"conv_fprop", "conv_dgrad", "conv_wgrad", "slope_penalty_fwd"} <= operators.keys()
    assert all(payload > 0 for payload in operators.values())
    # Before the range operators have none, and when it ends no step is under way.
    assert not any(" [" in text for text in texts[:at]) and entered[-1] == ("end", None)


def test_ranges_need_the_package(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "nvtx", None)
    with pytest.raises(ConfigError, match=r"pip install 'fastgan\[profile\]'"):
        annotate(config)


def test_command_lines_are_of_these_very_steps(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda tool: None if tool == "ncu" else f"/bin/{tool}")
    title, systems, compute, missing = commands(["a b.yaml", "--steps", "4"], tmp_path)
    assert "NVIDIA" in title and missing == "  (ncu: not found on this machine)"
    for line in (systems, compute):
        assert line.endswith("fastgan profile 'a b.yaml' --steps 4 --ranges")
    assert "--nvtx-capture=measured@fastgan" in systems and f"{tmp_path}/nsys" in systems
    assert "--nvtx-include=fastgan@measured/" in compute
