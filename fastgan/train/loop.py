"""The one training loop: it knows phases, optimisers and the disk, and nothing of any GAN."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from fastgan.config import Config
from fastgan.data import Batch
from fastgan.errors import ConfigError, ResourceLimit, StateError
from fastgan.gans import Phase, Pictures, Recipe, Variant
from fastgan.ops.constants import constant
from fastgan.random import Draws
from fastgan.spans import span
from fastgan.train import checkpoint
from fastgan.train.batches import Batches, TrainingSet
from fastgan.train.build import describe
from fastgan.train.checkpoint import Checkpoint
from fastgan.train.counters import counters_of
from fastgan.train.device import peak_memory
from fastgan.train.ema import Ema
from fastgan.train.made_with import facts_of, settings_of
from fastgan.train.numerics import Watch, require_bounded
from fastgan.train.optim import PhaseOptimiser, lr_factor
from fastgan.train.parts import Parts, ran_out_of_memory
from fastgan.train.precision import phase_precision, step_precision
from fastgan.train.progress import Progress
from fastgan.train.ranks import Ranks
from fastgan.train.run_folder import RunFolder
from fastgan.train.samples import write_samples
from fastgan.train.signals import Interruption
from fastgan.train.state import module_tensors, restore
from fastgan.train.step_graph import StepGraphs, Update, obstacle, require_graph

__all__ = ["Training"]


class Training:
    """The state of one run between two steps.

    Args:
        variant: a `fastgan.gans` variant; its modules are moved to `device` and trained in place.
        dataset: what batches are drawn from.
        config: the run's configuration.
        run: the run folder, locked by the caller.
        device: where to compute.
        record: of the data, for the checkpoints; by default what the data set says of itself.
        ranks: the processes that share the work; by default this one is alone.
    """

    def __init__(
        self,
        variant: Variant,
        dataset: TrainingSet,
        config: Config,
        run: RunFolder,
        device: torch.device,
        record: Mapping[str, Any] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        self.variant, self.config, self.run, self.device = variant, config, run, device
        self.steps_done = 0
        self._saved: int | None = None
        self._save_soon = False
        self.draws = Draws(config.seed, self.ranks.shard)
        self.batches = Batches(
            dataset, config.train.batch_size, self.draws, device, slabs=self.ranks.slabs
        )
        self.watch = Watch(config.train.non_finite, self._finite_batch)
        self.identity = {
            "settings": settings_of(config),
            "data": facts_of(record or describe(dataset)),
        }
        for module in variant.modules.values():
            module.to(device).train()
        self.ema = Ema({n: variant.modules[n] for n in variant.ema_of}, config.train.ema_decay)
        train, count = config.train, self.ranks.shard.count
        variant.recompute = train.recompute
        self.parts = Parts(variant, train.batch_size, train.micro_batch, count)
        self.parts.alone = self.ranks.count == 1
        self._optimisers: dict[str, tuple[tuple[str, ...], PhaseOptimiser]] = {}
        self._trainable = {
            name: [p for p in module.parameters() if p.requires_grad]
            for name, module in variant.modules.items()
        }
        self._weights = [weight for part in self._trainable.values() for weight in part]
        self._training_now: tuple[str, ...] | None = None
        self._last_loss: dict[str, list[tuple[Tensor, Mapping[str, Tensor]]]] = {}
        self.graphs: StepGraphs | None = None
        self._uncaptured: str | None = None
        if config.train.cuda_graph != "off":
            self._capture(config.train.cuda_graph)

    def advance(self) -> None:
        """One step: every phase of the variant, then the average of weights.

        Raises:
            NumericsError: on the CPU, of a loss or gradient that is not finite (policy `stop`);
                on other devices `watch.settle` raises it, at the next report or checkpoint.
            ResourceLimit: the device's memory does not hold the step.
        """
        with span("step"):
            self._advance()

    def _advance(self) -> None:
        step, self._last_loss = self.steps_done, defaultdict(list)
        self.batches.drawn = {}
        self._scale_rates()

        def next_batch(purpose: str) -> Batch:
            return self.batches.next(step, purpose)

        try:
            with step_precision(self.config.train.precision):
                recipe = self._recipe(step)
                if self.graphs is not None and recipe is not None:
                    for update in self.graphs.updates(recipe, next_batch):
                        self._note(update)
                else:
                    for phase in self.variant.phases(step, next_batch, self.draws):
                        self._note(self._optimise(phase))
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            raise ResourceLimit(f"step {step + 1}: {self.parts.too_large(error)}") from error
        with span("ema"):
            self.ema.update(step)
        self.steps_done = step + 1
        if self.device.type == "cpu":
            self.watch.settle()

    def _finite_batch(self, step: int, purpose: str) -> bool:
        return bool(torch.isfinite(self.batches.peek(step, purpose).volumes).all())

    def _capture(self, choice: Literal["auto", "on"]) -> None:
        """Let steps be recorded in graphs, where they can be."""
        reason = obstacle(self.variant, self.device, self.draws, self.ranks.count)
        self._uncaptured = require_graph(choice, reason)
        if self._uncaptured is not None:
            return
        places = (self.variant, self._optimise, self.watch, self.device)
        self.graphs = StepGraphs(*places, insist=choice == "on")

    def _recipe(self, step: int) -> Recipe | None:
        """Of a step that a graph may run: metrics are for steps that run as always."""
        if self.graphs is None or self.variant.measured:
            return None
        return self.variant.recipe(step, self.draws)

    def _scale_rates(self) -> None:
        train = self.config.train
        factor = lr_factor(self.steps_done, train.decay_steps or train.steps, train.lr_decay)
        for _, optimiser in self._optimisers.values():
            optimiser.scale_rate(factor)

    def _optimise(self, phase: Phase) -> Update:
        """All of a phase that the device does."""
        optimiser = self._optimiser(phase.name, tuple(phase.updates))
        self._train_only(tuple(phase.updates))
        optimiser.clear()
        self.ranks.enter(self.steps_done + 1, phase.name)
        with span(phase.name):
            loss, metrics = self.parts.run(
                phase, self._with_gradients, optimiser.clear, f"step {self.steps_done + 1}"
            )
            gradients = optimiser.gradients()
            loss, metrics = self.ranks.mean(gradients, loss, metrics)
            with span("optimiser"):
                skip = self.watch.judge(loss, gradients)
                optimiser.step(skip)
                if phase.after is not None:
                    with torch.no_grad():
                        phase.after()
        return Update(phase, loss, skip, metrics)

    def _with_gradients(
        self, compute: Callable[[], tuple[Tensor, dict[str, Tensor]]], share: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """A loss and its metrics, after `share` of its gradients was added to what is there."""
        with phase_precision(self.config.train.precision, self.device, self._weights) as loans:
            loss, metrics = compute()
        with span("backward"):
            torch.autograd.backward(loss, constant(loss.dtype, loss.device, (share, 1))[0])
            loans.collect()
        return loss.detach(), metrics

    def _note(self, update: Update) -> None:
        """Remember what came of a phase, and the positions of the volumes that it saw."""
        phase, drawn = update.phase, self.batches.drawn
        purposes = [*drawn] if phase.batches is None else phase.batches
        seen = {purpose: drawn.pop(purpose) for purpose in purposes if purpose in drawn}
        self.watch.note(self.steps_done + 1, phase.name, update.loss, update.skip, seen)
        self._last_loss[phase.name].append((update.loss, update.metrics))

    def _optimiser(self, phase: str, updates: tuple[str, ...]) -> PhaseOptimiser:
        if phase not in self._optimisers:
            settings = self.variant.optimisers[phase]
            parameters = {
                f"{name}.{key}": parameter
                for name in updates
                for key, parameter in self.variant.modules[name].named_parameters()
                if any(parameter is p for p in self._trainable[name])
            }
            betas = (settings.beta1, settings.beta2)
            self._optimisers[phase] = (updates, PhaseOptimiser(parameters, settings.lr, betas))
            self._scale_rates()
        known, optimiser = self._optimisers[phase]
        if known != updates:
            raise ConfigError(f"phase {phase}: updates {updates}, in earlier steps {known}")
        return optimiser

    def _train_only(self, names: tuple[str, ...]) -> None:
        if names == self._training_now:
            return
        self._training_now = names
        for name, parameters in self._trainable.items():
            for parameter in parameters:
                parameter.requires_grad_(name in names)

    def metrics(self) -> dict[str, float]:
        """Losses and metrics of the last step, the mean over phases of one name.

        Waits for the device, once.
        """
        named: dict[str, list[Tensor]] = defaultdict(list)
        for phase, results in self._last_loss.items():
            for loss, metrics in results:
                for key, value in {"loss": loss, **metrics}.items():
                    named[f"{phase}/{key}"].append(value.detach().float().reshape(()))
        if not named:
            return {}
        means = torch.stack([torch.stack(values).mean() for values in named.values()]).tolist()
        return dict(zip(named, means, strict=True))

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """The whole state by part name: live tensors, for saving and for restoring."""
        optimisers = {
            f"optimiser.{phase}": optimiser.tensors()
            for phase, (_, optimiser) in self._optimisers.items()
        }
        return {**module_tensors(self.variant.modules), **self.ema.tensors(), **optimisers}

    def save(self) -> None:
        """Write a checkpoint of the steps done, then prune older ones.

        Raises:
            NumericsError: an update was not finite (policy `stop`), too many were not (`skip`), or
                weights are beyond all bounds; nothing is written, older checkpoints stay.
            ResourceLimit, BadFile, CorruptFile: see `checkpoint.save`.
        """
        self.watch.settle()
        require_bounded({**module_tensors(self.variant.modules), **self.ema.tensors()})
        with span("checkpoint"):
            self.ranks.first_does("a checkpoint", self._write_checkpoint)
        self._saved = self.steps_done

    def _write_checkpoint(self) -> None:
        counters = {
            "step": self.steps_done,
            "volumes": self.batches.count,
            "skipped": dict(self.watch.skipped),
            "updates": {phase: list(names) for phase, (names, _) in self._optimisers.items()},
            "threads": torch.get_num_threads(),
        }
        checkpoint.save(self.run.path, self.steps_done, self.tensors(), counters, self.identity)
        checkpoint.prune(self.run.path, self.config.train.keep_checkpoints)

    def restore(self, found: Checkpoint) -> None:
        """Become the state a checkpoint holds.

        Raises:
            StateError: it is of another architecture, or a part is missing; nothing is changed.
            CorruptFile: a counter cannot be.
        """
        counters = counters_of(found)
        for phase, names in counters.updates.items():
            if phase not in self.variant.optimisers or not {*names} <= {*self.variant.modules}:
                raise StateError(f"{found.path}: phase {phase} of {names} is not in this variant")
            self._optimiser(phase, tuple(names))
        restore(self.tensors(), found.parts, str(found.path))
        self.steps_done = self._saved = found.step
        # What was changed on purpose is in a manifest as soon as it has had an effect.
        self._save_soon = any(found.identity.get(k) != v for k, v in self.identity.items())
        self.watch.skipped.update(counters.skipped)
        self.batches.count = counters.volumes

    def shown(self) -> Pictures:
        """What the variant shows, by the averaged weights; of split volumes all ranks ask."""
        self.variant.at_once = self.parts.size
        with span("samples"), self.ema.applied(), torch.no_grad():
            return self.variant.pictures(lambda purpose: self.batches.peek(0, purpose), self.draws)

    def draw_samples(self, progress: Progress, shown: Pictures | None = None) -> None:
        """Write the middle slices of what the variant shows; None: asked for it here.

        What it measured on them is logged under `pictures/`, and its alarms are told.
        """
        shown = self.shown() if shown is None else shown
        path = write_samples(self.run.path, self.steps_done, shown, self.run.data())
        if not shown.metrics:
            return
        found = dict(
            zip(shown.metrics, torch.stack([*shown.metrics.values()]).tolist(), strict=True)
        )
        row = {f"pictures/{name}": value for name, value in found.items()}
        self.run.append_metrics({"step": self.steps_done} | row)
        for name, share in found.items():
            if name.startswith("alarm/") and share > 0.0:
                alarm = name.removeprefix("alarm/")
                progress.say(f"alarm: {alarm} in {share:.0%} of the volumes shown in {path}")

    def train(
        self, progress: Progress, interruption: Interruption, refresh: Callable[[], None]
    ) -> None:
        """Step to the configured number of steps, reporting and saving on the way.

        An interruption ends it after the step under way; the state is saved in any case. After
        steps that wrote something `refresh` is called.
        """
        train = self.config.train
        self.ranks.heed(interruption)
        if self._saved is None:
            # Proves the disk before hours are spent, and makes the first steps resumable.
            self.save()
        self._tell_uncaptured(progress)
        clock, seen, waited = time.perf_counter(), self.batches.count, self.batches.waited
        first = self.steps_done + 1
        while self.steps_done < train.steps and not self.ranks.stopping():
            step = self.steps_done + 1
            last = step == train.steps
            # Whether a row is kept depends on the step alone, not on where a run was resumed.
            logged = step % train.log_every == 0 or step == 1 or last
            self.variant.measured = logged or step == first
            self.advance()
            while self.parts.told:
                progress.say(self.parts.told.pop(0))
            progress.advance(step)
            if self.variant.measured:
                self.watch.settle()
                self._tell_uncaptured(progress)
                metrics = self.metrics()
                now, count = time.perf_counter(), self.batches.count
                rate = (count - seen) / (now - clock)
                share = (self.batches.waited - waited) / (now - clock)
                clock, seen, waited = now, count, self.batches.waited
                self._log(metrics, rate, share, progress, kept=logged)
            if step % train.sample_every == 0 or last:
                # Of slabs all ranks draw together, and one writes.
                drawn = self.shown() if self.ranks.slabs.count > 1 else None
                self.ranks.first_does("pictures", partial(self.draw_samples, progress, drawn))
            if step % train.checkpoint_every == 0 or last or self._save_soon:
                self.save()
                self._save_soon = False
            if logged or step % train.sample_every == 0:
                refresh()
        self.variant.measured = True
        if self._saved != self.steps_done:
            self.save()

    def _tell_uncaptured(self, progress: Progress) -> None:
        """Say once why `auto` captures no steps; on a CPU nobody expects it to."""
        reason = self._uncaptured or (self.graphs and self.graphs.refused)
        if reason and self.device.type != "cpu":
            progress.say(f"train.cuda_graph auto: steps are not captured: {reason}")
            self.graphs = self._uncaptured = None

    def _log(
        self,
        metrics: Mapping[str, float],
        rate: float,
        waited: float,
        progress: Progress,
        *,
        kept: bool,
    ) -> None:
        """Show the figures of the last step; `kept`: also add them to metrics.jsonl.

        Rate and the share of time waited for data are of all steps since the last time.
        """
        memory = peak_memory(self.device)
        skipped = {f"skipped/{phase}": n for phase, n in self.watch.skipped.items() if n}
        row = {"step": self.steps_done, **metrics, **skipped}
        row |= self.parts.found()
        if kept and self.ranks.first:
            machine = {"volumes_per_second": rate, "data_wait": waited, "memory": memory}
            self.run.append_metrics(row | machine)
        shown = {k: v for k, v in metrics.items() if k.endswith(("/loss", "/gradient_norm"))}
        progress.report(self.steps_done, {**shown, **skipped}, rate, memory)
