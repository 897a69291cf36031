"""Child processes that believe torchrun started them, and small games for them to train."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from fastgan.config import parse
from fastgan.data.dataset import Batch
from fastgan.data.unpaired import UnpairedBatch
from fastgan.gans import AdversarialSettings, CycleSettings, build_cycle, build_variant
from fastgan.gans.variant import Variant
from fastgan.random import Draws
from fastgan.train.loop import Training
from fastgan.train.optim import PhaseOptimiser
from fastgan.train.ranks import Ranks, spread_over

SHAPE = (8, 8, 8)


@dataclass
class Ended:
    """How a rank ended: its exit code, what it printed to standard error, what its work gave."""

    code: int
    stderr: str
    result: Any


def together(
    count: int,
    work: Callable[[int], object],
    folder: Path,
    *,
    seconds: float = 60.0,
    left: tuple[int, ...] = (),
    **environment: str,
) -> list[Ended]:
    """Run `work(rank)` in forked processes that have torchrun's variables; fails if one hangs.

    Args:
        count: of ranks.
        work: what each does.
        folder: for what they print and give.
        seconds: after which they hang.
        left: ranks that are meant to hang; killed when the others have ended.
        environment: further variables.
    """
    torch.set_num_threads(1)
    agent, port = _agent()
    variables = {
        "TORCHELASTIC_RUN_ID": "test",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        **environment,
    }
    folder.mkdir(exist_ok=True)
    children = [_forked(rank, work, folder, variables, seconds) for rank in range(count)]
    until = time.monotonic() + seconds
    ended = []
    try:
        for rank, child in enumerate(children):
            if rank in left:
                continue
            code = _waited(child, until)
            assert code is not None, f"rank {rank} hangs: {(folder / f'{rank}.err').read_text()}"
            result = folder / f"{rank}.pickle"
            made = pickle.loads(result.read_bytes()) if result.exists() else None
            ended.append(Ended(code, (folder / f"{rank}.err").read_text(), made))
    finally:
        for child in (*children, agent):
            with contextlib.suppress(ChildProcessError, ProcessLookupError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
    return ended


def results(ended: list[Ended]) -> list[Any]:
    """What every rank's work gave; fails if one did not end well."""
    for rank, one in enumerate(ended):
        assert one.code == 0, f"rank {rank}: {one.stderr}"
    return [one.result for one in ended]


def _agent() -> tuple[int, int]:
    """A process with a store that outlives every rank, as torchrun's agent has; its id and port.

    Not a thread of this process: a child forked beside it may find a lock held for ever.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        os.write(writing, str(store.port).encode())
        while True:
            signal.pause()
    os.close(writing)
    with os.fdopen(reading) as pipe:
        # The child keeps its end open, so what it writes is read as it comes.
        port = int(os.read(pipe.fileno(), 16))
    return pid, port


def _forked(
    rank: int,
    work: Callable[[int], object],
    folder: Path,
    variables: dict[str, str],
    seconds: float,
) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.environ.update(variables, RANK=str(rank), LOCAL_RANK=str(rank))
        errors = os.open(folder / f"{rank}.err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(errors, 2)
        faulthandler.dump_traceback_later(seconds - 5.0, file=errors)
        result = work(rank)
        (folder / f"{rank}.pickle").write_bytes(pickle.dumps(result))
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException as error:
        code = getattr(error, "exit_code", 1)
        os.write(2, f"{type(error).__name__}: {error}\n{traceback.format_exc()}".encode())
    finally:
        os._exit(code)


def _waited(child: int, until: float) -> int | None:
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return None


class Noted(NamedTuple):
    """A phase, its loss, and its gradients in the order of the optimiser's parameters."""

    phase: str
    loss: float
    gradients: list[Tensor]


class Volumes:
    """A data set of twelve volumes of noise in two classes; of two domains, if asked."""

    channels, spacing = 1, (1.0, 1.0, 1.0)
    fingerprint, prior = "f" * 64, np.array([0.75, 0.25])
    normalisation: dict[str, Any] = {"low": 0.0, "high": 1.0, "modality": "ct"}  # noqa: RUF012

    def __init__(
        self,
        classes: tuple[str, ...] = (),
        domains: int = 1,
        shape: tuple[int, int, int] = SHAPE,
    ) -> None:
        self.classes, self.domains, self.shape = classes, domains, shape
        noise = np.random.default_rng(1).standard_normal((12, 1, *shape), dtype=np.float32)
        self.volumes = torch.from_numpy(noise).tanh()
        self.labels = torch.arange(12) % 4 // 3

    def __len__(self) -> int:
        return len(self.volumes)

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch | UnpairedBatch:
        index = torch.from_numpy(rng.integers(0, len(self), batch_size))
        if self.domains == 1:
            labels = self.labels[index] if self.classes else None
            return Batch(self.volumes[index], labels, index)
        other = torch.from_numpy(rng.integers(0, len(self), batch_size))
        both = torch.stack([index, other], 1)
        return UnpairedBatch(self.volumes[index], None, both, -self.volumes[other])


class Wide(Draws):
    """Draws whose latents are float64."""

    def normal(self, step: int, purpose: str, shape: Any) -> Tensor:
        return super().normal(step, purpose, shape).double()


def game(
    settings: dict[str, Any],
    classes: tuple[str, ...] = (),
    shape: tuple[int, int, int] = SHAPE,
) -> Variant:
    """Small networks and the game between them; a cyclegan where `settings` have translators."""
    if "translator_channels" in settings:
        return build_cycle(CycleSettings(**settings), shape=shape)
    small = {
        "latent_dim": 4,
        "generator_channels": (8, 4),
        "critic_channels": (4, 8),
        "critic_steps": 2,
        "lr_generator": 1e-3,
        "lr_critic": 1e-3,
    }
    prior = Volumes.prior if classes else None
    return build_variant(
        AdversarialSettings(**small | settings), shape=shape, classes=classes, prior=prior
    )


def steps_of(
    settings: dict[str, Any],
    *,
    classes: tuple[str, ...] = (),
    dtype: torch.dtype = torch.float32,
    batch: int = 8,
    steps: int = 1,
    measured: bool = True,
    ranks: Ranks | None = None,
    shape: tuple[int, int, int] = SHAPE,
    precision: str = "float32",
    **more: Any,
) -> list[Noted]:
    """What every phase of the first steps hands to its optimiser.

    Adam divides by what little it has seen: where a gradient is nearly zero, rounding decides the
    sign of an update. In float32 every phase is therefore noted at the first weights.
    """
    data = Volumes(classes, 2 if "translator_channels" in settings else 1, shape)
    data.volumes = data.volumes.to(dtype)
    variant = game(settings, classes, shape)
    for module in variant.modules.values():
        module.to(dtype)
    train = {"batch_size": batch, "device": "cpu", "steps": 10, "precision": precision} | more
    config = parse({"train": train})
    nowhere: Any = SimpleNamespace(path=Path("nowhere"))
    training = Training(variant, data, config, nowhere, torch.device("cpu"), {}, ranks)
    if dtype == torch.float64:
        training.draws = Wide(config.seed, training.ranks.shard)
    variant.measured = measured
    with noted(training.ranks) as found, contextlib.ExitStack() as stack:
        stack.enter_context(spread_over(variant, training.ranks.slabs))
        if dtype == torch.float32:
            stack.enter_context(patch.object(PhaseOptimiser, "step", lambda *_: None))
        for _ in range(steps):
            training.advance()
    return found


@contextlib.contextmanager
def noted(ranks: Ranks) -> Iterator[list[Noted]]:
    """What `ranks` average in the block, afterwards."""
    found: list[Noted] = []
    enter, mean, phases = ranks.enter, ranks.mean, []

    def entering(step: int, phase: str) -> None:
        phases.append(phase)
        enter(step, phase)

    def averaging(gradients: Sequence[Tensor], loss: Tensor, metrics: Any) -> Any:
        averaged = mean(gradients, loss, metrics)
        found.append(Noted(phases[-1], float(averaged[0]), [g.clone() for g in gradients]))
        return averaged

    with patch.multiple(ranks, enter=entering, mean=averaging):
        yield found


@contextlib.contextmanager
def counted() -> Iterator[list[tuple[str, int]]]:
    """Every message of torch.distributed in the block: its name and bytes, as this rank sends."""
    seen: list[tuple[str, int]] = []
    names = ("all_reduce", "all_gather", "broadcast", "barrier", "all_gather_into_tensor")
    names += ("batch_isend_irecv",)
    before = {name: getattr(dist, name) for name in names}

    def watched(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            tensors = [a for a in arguments if isinstance(a, Tensor)]
            if name == "batch_isend_irecv":
                tensors = [one.tensor for one in arguments[0] if one.op is dist.isend]
            seen.append((name, sum(t.nbytes for t in tensors)))
            return before[name](*arguments, **options)

        return call

    for name in names:
        setattr(dist, name, watched(name))
    try:
        yield seen
    finally:
        for name, function in before.items():
            setattr(dist, name, function)
