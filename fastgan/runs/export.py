"""A run's averaged network in a file that other programs load, checked before it gets its name."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastgan.config import parse
from fastgan.data.formats.extras import library, quiet
from fastgan.data.normalise import Normalisation, denormalise
from fastgan.durable import put_file
from fastgan.errors import ConfigError, CorruptFile, NumericsError, ResourceLimit
from fastgan.guarded import open_plain, system_error, typed
from fastgan.nn.choices import check_choice
from fastgan.ops.plain import plain_operators
from fastgan.random import Draws
from fastgan.runs.load import UNITS
from fastgan.runs.passport import SYNTHETIC
from fastgan.runs.synthetic import make_empty, origin
from fastgan.train import load_generator, load_translator
from fastgan.train.build import variant_of
from fastgan.train.checkpoint import Checkpoint
from fastgan.train.load import DIRECTIONS
from fastgan.train.made_with import settings_of
from fastgan.train.run_folder import RunFolder

__all__ = ["FORMATS", "Exported", "export", "load_exported"]

TOLERANCE = 1e-4
"""Of the output's range, by which an exported network may differ from the one it was made of."""
LONGEST = 64 << 30
KEY = "fastgan"


class Exported(nn.Module):
    """What an exported file computes: one volume a call, ready to be used.

    Args:
        network: a generator or translator in evaluation mode.
        normalisation: of the training data, to give a generator's volumes their units; None: what
            the network gives, in [-1, 1].
    """

    def __init__(self, network: nn.Module, normalisation: Normalisation | None) -> None:
        super().__init__()
        self.network, self.normalisation = network, normalisation

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Compute a volume.

        Args:
            x: [1, L] standard normal of a generator, [1, C, D, H, W] in [-1, 1] of a translator.
            label: [1] int64 of a conditional generator.

        Returns:
            [1, C, D, H, W] float32.
        """
        drawn = self.network(x) if label is None else self.network(x, label)
        out: Tensor = drawn.clamp(-1.0, 1.0)
        if self.normalisation is None:
            return out
        volume: Tensor = denormalise(out, self.normalisation).contiguous()
        return volume


@typed("export")
def export(
    folder: RunFolder, found: Checkpoint, out: Path, *, kind: str, direction: str | None = None
) -> Path:
    """Write the averaged network of a checkpoint and, last, export.json, which describes it.

    The file is loaded again and compared with the network on fresh inputs before it is put there.

    Args:
        folder: the run.
        found: the checkpoint.
        out: a folder that is absent or empty.
        kind: safetensors (weights; loaded by `load_exported`), torch (a program of torch.export,
            which needs PyTorch alone) or onnx.
        direction: "A_to_B" or "B_to_A" of a cyclegan.

    Returns:
        Path of the network's file.

    Raises:
        ConfigError: an unknown kind or direction, or a direction where there is none.
        NumericsError: what was written computes something else; nothing is kept.
        BadFile and its kinds: the folder is not empty, cannot be written, or a library is missing.
    """
    check_choice("--format", kind, FORMATS)
    network, inputs, facts = _network(folder, found, direction)
    path = out / f"{facts['network']}.{SUFFIX[kind]}"
    if kind == "onnx":
        for needed in ("onnx", "onnxscript", "onnxruntime"):
            library(needed, "onnx", path)
    content, again = FORMATS[kind](network, inputs(0), facts)
    worst = _worst(network, again, inputs)
    if not worst <= TOLERANCE:
        raise NumericsError(
            f"{path}: computes what differs by {worst:.2g} of its range from the run's network, "
            f"more than {TOLERANCE:g}; nothing is written"
        )
    make_empty(out)
    put_file(path, [content])
    about = facts | {"file": path.name, "largest_difference_of_range": float(f"{worst:.3g}")}
    put_file(out / "export.json", [json.dumps(about, indent=1).encode() + b"\n"])
    return path


@typed("load")
def load_exported(path: Path | str) -> Exported:
    """The network of a .safetensors file that `fastgan export` wrote.

    Raises:
        CorruptFile: no such file, or a damaged one.
        UnsafeFile, BadFile: no regular file, or it cannot be read.
    """
    import safetensors.torch

    path = Path(path)
    with open_plain(path, most=LONGEST, follow=True) as file:
        try:
            content = file.read()
        except OSError as error:
            raise system_error(path, "read", error) from error
    try:
        tensors = safetensors.torch.load(content)
        size = int.from_bytes(content[:8], "little")
        facts = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][KEY])
        config = parse(_nested(facts["settings"]), str(path))
        data, place = facts["data"], facts["module"]
        normalisation = data["normalisation"] if facts["network"] == "generator" else None
        network = variant_of(config, data).modules[place].eval()
        network.load_state_dict(tensors)
    except Exception as error:  # the library's own type, KeyError, RuntimeError: all of a bad file
        text = " ".join(str(error).split())[:200]
        raise CorruptFile(f"{path}: not what fastgan export wrote: {text}") from None
    return Exported(network, normalisation).eval()


def _network(
    folder: RunFolder, found: Checkpoint, direction: str | None
) -> tuple[Exported, Callable[[int], tuple[Tensor, ...]], dict[str, Any]]:
    """The network, its inputs for a seed, and what is known of both."""
    folder = folder.as_of(found)
    config, data = folder.config(), folder.data()
    channels = data["channels"]
    facts: dict[str, Any] = origin(found) | {
        "digitalSourceType": SYNTHETIC,
        "shape": [1, channels, *data["shape"]],
        "spacing_mm": data["spacing"],
        "settings": settings_of(config),
    }
    kept = ("shape", "channels", "classes", "prior", "normalisation", "b")
    facts["data"] = {key: data[key] for key in kept if key in data}
    if config.translates:
        if direction is None:
            raise ConfigError(f"--direction: one of {', '.join(DIRECTIONS)} is needed")
        network = load_translator(folder, found, direction)
        facts |= {"network": "translator", "module": DIRECTIONS[direction]}
        facts |= {"inputs": {"x": "the volume, [-1, 1] as normalised"}, "units": "[-1, 1]"}

        def volume(seed: int) -> tuple[Tensor, ...]:
            drawn = Draws(seed).normal(0, "export", facts["shape"]).clamp(-1.0, 1.0)
            return (drawn.contiguous(memory_format=torch.channels_last_3d),)

        return Exported(network, None).eval(), volume, facts
    if direction is not None:
        raise ConfigError(f"--direction: only a cyclegan translates, this is {config.gan.variant}")
    game = load_generator(folder, found)
    classes = list(game.labels.classes)
    facts |= {"network": "generator", "module": "generator", "classes": classes}
    facts["inputs"] = {"x": f"[1, {game.latent_dim}] standard normal"}
    if classes:
        facts["inputs"]["label"] = "[1] int64, the position in classes"
    facts["units"] = UNITS[data["normalisation"]["modality"]]

    def latents(seed: int) -> tuple[Tensor, ...]:
        z = Draws(seed).normal(0, "export", (1, game.latent_dim))
        return (z, torch.tensor([seed % len(classes)])) if classes else (z,)

    return Exported(game.modules["generator"], data["normalisation"]).eval(), latents, facts


Again = Callable[..., Tensor]


def _safetensors(
    network: Exported, inputs: tuple[Tensor, ...], facts: dict[str, Any]
) -> tuple[bytes, Again]:
    import tempfile

    import safetensors.torch

    plain = {
        name: tensor.detach().to("cpu", memory_format=torch.contiguous_format, copy=True)
        for name, tensor in network.network.state_dict().items()
    }
    content: bytes = safetensors.torch.save(plain, {KEY: json.dumps(facts)})
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "network.safetensors"
        path.write_bytes(content)
        return content, load_exported(path)


def _program(network: Exported, inputs: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.exported = network

        # Named apart, because the names become those of the file's inputs.
        def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
            with plain_operators():
                return self.exported(x, label)  # type: ignore[no-any-return]

    with quiet("torch.onnx"):
        return torch.export.export(Plain().eval(), inputs, strict=False)


def _torch(
    network: Exported, inputs: tuple[Tensor, ...], facts: dict[str, Any]
) -> tuple[bytes, Again]:
    file = io.BytesIO()
    with quiet("torch.onnx"):
        torch.export.save(
            _program(network, inputs), file, extra_files={"fastgan.json": json.dumps(facts)}
        )
        again = torch.export.load(io.BytesIO(file.getvalue())).module()
    return file.getvalue(), again


def _onnx(
    network: Exported, inputs: tuple[Tensor, ...], facts: dict[str, Any]
) -> tuple[bytes, Again]:
    import onnxruntime

    with quiet("torch.onnx"):
        program = torch.onnx.export(_program(network, inputs), dynamo=True, verbose=False)
    assert program is not None
    model = program.model_proto
    note = model.metadata_props.add()
    note.key, note.value = KEY, json.dumps(facts)
    try:
        content: bytes = model.SerializeToString()
    except ValueError as error:
        raise ResourceLimit("onnx: a network above 2 GB does not fit into one file") from error
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def again(*values: Tensor) -> Tensor:
        given = {name: value.numpy() for name, value in zip(names, values, strict=True)}
        return torch.from_numpy(np.asarray(session.run(None, given)[0]))

    return content, again


FORMATS = {"safetensors": _safetensors, "torch": _torch, "onnx": _onnx}
SUFFIX = {"safetensors": "safetensors", "torch": "pt2", "onnx": "onnx"}


def _worst(network: Exported, again: Again, inputs: Callable[[int], tuple[Tensor, ...]]) -> float:
    """The largest difference over three inputs, of the range of the output."""
    worst = 0.0
    with torch.no_grad():
        for seed in (1, 2, 3):
            wanted, got = network(*inputs(seed)), again(*inputs(seed))
            if got.shape != wanted.shape or not bool(torch.isfinite(got).all()):
                return float("inf")
            spread = float(wanted.max() - wanted.min()) or 1.0
            worst = max(worst, float((got - wanted).abs().max()) / spread)
    return worst


def _nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration's content of dotted keys."""
    content: dict[str, Any] = {"name": "exported"}
    for key, value in settings.items():
        section, _, leaf = key.partition(".")
        if leaf:
            content.setdefault(section, {})[leaf] = value
        else:
            content[section] = value
    content.setdefault("data", {})["source"] = "(exported)"
    if content.get("gan", {}).get("variant") == "cyclegan":
        content["data"]["source_b"] = "(exported)"
    return content
