"""Whole steps captured in CUDA graphs, so that their hundreds of launches cost one.

The first steps of a kind run as they always do; then one is recorded over tensors that stay where
they are, and later ones copy their volumes and draws there and run the record. What a step does
on the host (rates, averages of weights, judgements to be remembered) stays outside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.gans import Phase, Recipe, Variant
from fastgan.gans.variant import NextBatch, RealBatch
from fastgan.random import Draws, placed_together
from fastgan.train.numerics import Watch

__all__ = [
    "WARM_UP",
    "CudaGraph",
    "Graph",
    "StepGraphs",
    "Update",
    "obstacle",
    "obstacle_of",
    "require_graph",
]

WARM_UP = 3
"""Steps of a kind before one is recorded: in them libraries choose their kernels, and constants and
moments are made."""
STOPPED = "stopped"
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
HOOKS_OF_PARAMETERS = ("_backward_hooks", "_post_accumulate_grad_hooks")


class Update(NamedTuple):
    """What is left of a phase when its optimiser has stepped."""

    phase: Phase
    loss: Tensor
    skip: Tensor
    metrics: Mapping[str, Tensor]


class Graph(Protocol):
    """A record of launches."""

    def record(self, work: Callable[[], None]) -> None:
        """Record what `work` launches; nothing is computed."""

    def replay(self) -> None:
        """Launch it."""


class CudaGraph:
    """A graph of CUDA; those of a process share one pool of memory."""

    _pool: Any = None

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()

    def record(self, work: Callable[[], None]) -> None:
        """See Graph."""
        if CudaGraph._pool is None:
            CudaGraph._pool = torch.cuda.graph_pool_handle()
        # Another thread reads the next volumes into pinned memory meanwhile.
        apart = "thread_local"
        with torch.cuda.graph(self._graph, CudaGraph._pool, capture_error_mode=apart):
            work()

    def replay(self) -> None:
        """See Graph."""
        self._graph.replay()


def obstacle_of(device: torch.device) -> str | None:
    """Why no steps can be captured there; None where they can."""
    return None if device.type == "cuda" else f"the device is {device}, not a GPU of NVIDIA's"


def obstacle(
    variant: Variant, device: torch.device, draws: Draws, processes: int = 1
) -> str | None:
    """Why steps of this variant cannot be captured; None where they can."""
    if (reason := obstacle_of(device)) is not None:
        return reason
    if max(processes, draws.shard.count) > 1:
        return "several processes exchange gradients within a step"
    if variant.recipe(0, draws) is None:
        return "this variant draws while its phases run"
    phases, recipe = (_definer(type(variant), name) for name in ("phases", "recipe"))
    if phases is not recipe and issubclass(phases, recipe):
        return f"{phases.__name__} has phases of its own, and no recipe of them"
    return _hooked(variant)


def _definer(kind: type, name: str) -> type:
    return next(one for one in kind.__mro__ if name in vars(one))


def _hooked(variant: Variant) -> str | None:
    for name, network in variant.modules.items():
        for path, module in network.named_modules():
            if any(getattr(module, kind) for kind in HOOKS):
                return f"{f'{name}.{path}'.strip('.')} has a hook, which would not be called"
        for path, parameter in network.named_parameters():
            if any(getattr(parameter, kind) for kind in HOOKS_OF_PARAMETERS):
                return f"{name}.{path} has a hook, which would not be called"
    return None


def require_graph(choice: Literal["off", "auto", "on"], reason: str | None) -> str | None:
    """The reason why no step is captured, where `auto` was left to find one.

    Args:
        choice: train.cuda_graph.
        reason: of `obstacle`.

    Raises:
        ConfigError: `on`, and there is a reason.
    """
    if choice == "on" and reason is not None:
        raise ConfigError(f"train.cuda_graph on: {reason}; set it to auto or off")
    return reason if choice == "auto" else None


class StepGraphs:
    """Runs steps, by a graph where one of their kind has been recorded.

    Batches of other shapes are another kind: their first steps run as always, then one is recorded.

    Args:
        variant: whose `recipe` is run.
        optimise: one phase on the device: loss, backward, judgement and the optimiser's step.
        watch: whose state goes from phase to phase.
        device: of the networks.
        insist: a record that fails is an error, and not the end of recording.
        make: an empty graph.
    """

    def __init__(
        self,
        variant: Variant,
        optimise: Callable[[Phase], Update],
        watch: Watch,
        device: torch.device,
        *,
        insist: bool,
        make: Callable[[], Graph] = CudaGraph,
    ) -> None:
        self._variant, self._optimise, self._watch = variant, optimise, watch
        self._device, self._insist, self._make = device, insist, make
        self._seen: Counter[Hashable] = Counter()
        self._recorded: dict[Hashable, _Recorded] = {}
        self.refused: str | None = None
        """Why nothing is recorded any more."""

    def updates(self, recipe: Recipe, next_batch: NextBatch) -> list[Update]:
        """Run a step.

        Args:
            recipe: of the step.
            next_batch: its real batches by purpose, on the device.

        Raises:
            ConfigError: a record failed, and it was to be.
        """
        batches = {purpose: next_batch(purpose) for purpose in recipe.batches}
        volumes = batches[recipe.batches[0]].volumes
        size, dtype = len(volumes), volumes.dtype
        inputs = placed_together(recipe.draws(size, dtype), self._device)
        for purpose, batch in batches.items():
            inputs[f"batch/{purpose}/volumes"] = batch.volumes
            if batch.labels is not None:
                inputs[f"batch/{purpose}/labels"] = batch.labels

        def phases(given: Mapping[str, Tensor]) -> Iterator[Phase]:
            return recipe.phases(partial(_batch_of, given), given, size, dtype)

        kind = (recipe.kind, tuple((name, t.shape, t.dtype) for name, t in inputs.items()))
        self._seen[kind] += 1
        if self._seen[kind] > WARM_UP and self._may_run(kind, inputs, phases):
            return self._recorded[kind].run(inputs, self._watch)
        return [self._optimise(phase) for phase in phases(inputs)]

    def _may_run(
        self,
        kind: Hashable,
        inputs: dict[str, Tensor],
        phases: Callable[[Mapping[str, Tensor]], Iterator[Phase]],
    ) -> bool:
        """Whether there is a record of this kind; made if there is none yet."""
        before = self._watch.stopped
        if before is not None:
            inputs[STOPPED] = before
        if (hooked := _hooked(self._variant)) is not None:
            self._fail(hooked)
        if self.refused is None and kind not in self._recorded:
            recorded = _Recorded(inputs, self._make())
            try:
                recorded.record(self._optimise, phases, self._watch)
                self._recorded[kind] = recorded
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                self._fail(f"the capture failed: {str(error).splitlines()[0]}")
            finally:
                self._watch.stopped = before
        return self.refused is None

    def _fail(self, reason: str) -> None:
        if self._insist:
            require_graph("on", reason)
        self.refused = reason


class _Recorded:
    """A step of one kind over `inputs`, whose memory never moves."""

    def __init__(self, inputs: Mapping[str, Tensor], graph: Graph) -> None:
        # Made here and not in the graph's pool, whose memory is given away again.
        self.inputs = {name: tensor.clone() for name, tensor in inputs.items()}
        self._graph = graph
        self._phases: list[Phase] = []
        self._numbers = torch.empty(0)

    def record(
        self,
        optimise: Callable[[Phase], Update],
        phases: Callable[[Mapping[str, Tensor]], Iterator[Phase]],
        watch: Watch,
    ) -> None:
        def work() -> None:
            watch.stopped = self.inputs.get(STOPPED)
            updates = [optimise(phase) for phase in phases(self.inputs)]
            numbers = [t.float() for update in updates for t in (update.loss, update.skip)]
            if watch.stopped is not None:
                numbers.append(watch.stopped.float())
            self._phases, self._numbers = [u.phase for u in updates], torch.stack(numbers)

        self._graph.record(work)

    def run(self, inputs: Mapping[str, Tensor], watch: Watch) -> list[Update]:
        # A launch for all, and one for what the next run would write over.
        torch._foreach_copy_(list(self.inputs.values()), [inputs[name] for name in self.inputs])
        self._graph.replay()
        numbers = self._numbers.clone()
        if STOPPED in self.inputs:
            watch.stopped, numbers = numbers[-1], numbers[:-1]
        pairs = zip(self._phases, numbers.view(-1, 2), strict=True)
        return [Update(phase, loss, skip, {}) for phase, (loss, skip) in pairs]


class _Batch(NamedTuple):
    volumes: Tensor
    labels: Tensor | None


def _batch_of(inputs: Mapping[str, Tensor], purpose: str) -> RealBatch:
    labels = inputs.get(f"batch/{purpose}/labels")
    return _Batch(inputs[f"batch/{purpose}/volumes"], labels)
