"""Which number format the forward pass takes."""

import pytest
import torch

from fastgan.errors import ConfigError
from fastgan.train import fit, precision
from fastgan.train.precision import forward_precision, resolve_precision, step_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(("flags", "chosen"), [({"amx_bf16"}, "bfloat16"), ({"avx2"}, "float32")])
def test_auto_is_bfloat16_where_the_device_is_made_for_it(flags, chosen, monkeypatch):
    monkeypatch.setattr(precision, "_cpu_flags", lambda: flags)
    assert resolve_precision("auto", CPU) == chosen
    assert resolve_precision("float32", CPU) == "float32"
    assert resolve_precision("bfloat16", CPU) == "bfloat16"


def test_bfloat16_casts_convolutions_and_keeps_weights():
    conv = torch.nn.Conv3d(1, 2, 3)
    with forward_precision("bfloat16", CPU):
        y = conv(torch.zeros(1, 1, 4, 4, 4))
    assert y.dtype == torch.bfloat16 and conv.weight.dtype == torch.float32


def test_rejects_an_unknown_name():
    with pytest.raises(ConfigError, match="precision"):
        forward_precision("float8", CPU)


def test_a_run_records_what_auto_became(tiny, tmp_path, quiet, monkeypatch):
    monkeypatch.setattr(precision, "_cpu_flags", lambda: {"avx2"})
    config = tiny.tiny_config(precision="auto", steps=1)
    run = fit(tiny.TinyVariant(), tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    assert run.config().train.precision == "float32"
    assert config.train.precision == "auto"


@pytest.mark.parametrize(("name", "allowed"), [("float32", False), ("tf32", True)])
def test_only_tf32_lets_a_gpu_round_factors(name, allowed, tiny, tmp_path, quiet, monkeypatch):
    seen = []

    def allowed_now():
        return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    class Watching(tiny.TinyVariant):
        def phases(self, *args):
            for phase in super().phases(*args):
                seen.append(allowed_now())
                yield phase

    backpropagate = torch.autograd.backward

    def backward(*args, **kwargs):
        seen.append(allowed_now())
        return backpropagate(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "backward", backward)
    before = allowed_now()
    config = tiny.tiny_config(precision=name, steps=1)
    fit(Watching(), tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    assert len(seen) >= 4 and set(seen) == {(allowed, allowed)}
    assert allowed_now() == before


def test_refuses_a_setting_by_both_interfaces(monkeypatch):
    class Mixed:
        @property
        def allow_tf32(self):
            raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch.backends, "cudnn", Mixed())
    with (
        pytest.raises(ConfigError, match=r"set allow_tf32 of torch\.backends\.cudnn"),
        step_precision("float32"),
    ):
        pass
