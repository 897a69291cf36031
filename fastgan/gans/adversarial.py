"""Generator against critic, conditional or not, for any objective and penalty."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from fastgan.errors import ConfigError
from fastgan.gans.augment import Augment, Moves
from fastgan.gans.clipping import check_clip, clip_weights
from fastgan.gans.collapse import collapse_metrics, whole
from fastgan.gans.label_prior import LabelPrior
from fastgan.gans.objectives import find_objective
from fastgan.gans.penalties import Penalty
from fastgan.gans.real_and_fake import VOXELS_AT_ONCE, RealAndFake, generates_ahead, pieces
from fastgan.gans.settings import AdversarialSettings
from fastgan.gans.step_draws import StepDraws, UpdateDraws
from fastgan.gans.variant import NextBatch, Phase, Pictures, RealBatch, Recipe, Variant
from fastgan.models import Generator
from fastgan.nn import notes_of, restore_notes
from fastgan.ops.tensor_float import tensor_float32
from fastgan.random import WHOLE, Draws, Shard
from fastgan.slabs import Slabs, averaged, gathered, spread_network, summed
from fastgan.spans import span

__all__ = ["AdversarialGAN"]

TINY = 1e-12


class AdversarialGAN(Variant):
    """A step is `critic_steps` updates of the critic, then one of the generator.

    Labels of generated volumes follow the real ones: in a critic phase they are the real batch's
    own labels (same distribution by construction, and a mix of two volumes has one label); in the
    generator phase they are drawn from `labels` (LabelPrior).

    Args:
        generator: (z [B, L], labels) -> [B, C, D, H, W], with latent_dim, channels and shape.
        critic: (x, labels) -> [B] scores.
        settings: of the game and its optimisers; None: those of WGAN-GP.
        labels: classes and prior; None for an unconditional GAN.

    Raises:
        ConfigError: names unknown, a critic unbounded or bounded twice, or networks of other
            classes than `labels`.
    """

    sharded = True
    divisible = True

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        settings: AdversarialSettings | None = None,
        *,
        labels: LabelPrior | None = None,
    ) -> None:
        settings = settings or AdversarialSettings()
        self.objective = find_objective(settings.objective)
        self.penalty = Penalty(
            settings.penalty, settings.penalty_weight, settings.one_sided, settings.penalty_interval
        )
        self.labels = LabelPrior() if labels is None else labels
        self.num_classes = self.labels.num_classes
        self.augment = Augment(settings.augment)
        self.slabs = Slabs()
        self.voxels_at_once = VOXELS_AT_ONCE
        self.critic_steps = settings.critic_steps
        self.modules = {"generator": generator, "critic": critic}
        self.optimisers = settings.optimisers()
        if self.critic_steps < 1:
            raise ConfigError(f"critic_steps must be >= 1, got {self.critic_steps}")
        self.weight_clip = check_clip(
            settings.weight_clip, settings.penalty, spectral_norm=settings.spectral_norm
        )
        bounded = settings.spectral_norm or settings.penalty != "none" or self.weight_clip > 0.0
        if self.objective.bounded_slope and not bounded:
            raise ConfigError(
                f"objective {settings.objective!r} has no optimum unless the critic's slope is "
                "bounded: choose a penalty, spectral_norm or weight_clip"
            )
        for name, module in self.modules.items():
            found = getattr(module, "num_classes", self.num_classes)
            if found != self.num_classes:
                raise ConfigError(
                    f"{name} was built for {found} classes, labels have {self.num_classes}"
                )
        self.latent_dim = cast(int, generator.latent_dim)
        self._after_critic: Callable[[], None] | None = None
        if self.weight_clip:
            self._after_critic = partial(clip_weights, critic, self.weight_clip)
            self._after_critic()

    @contextmanager
    def spread(self, slabs: Slabs) -> Iterator[None]:
        """See Variant."""
        generator, critic = self.modules["generator"], self.modules["critic"]
        before = self.slabs
        with (
            spread_network(generator, slabs, "generator"),
            spread_network(critic, slabs, "critic"),
        ):
            self.slabs = self.augment.slabs = slabs
            try:
                yield
            finally:
                self.slabs = self.augment.slabs = before

    def phases(self, step: int, next_batch: NextBatch, draws: Draws) -> Iterator[Phase]:
        """See Variant. Purposes drawn: latent/<phase>, augment/<phase>, mix/<phase>, labels/..."""
        return self._phases(step, next_batch, self._step_draws(step, draws))

    def recipe(self, step: int, draws: Draws) -> Recipe:
        """See Variant; steps of one kind have their penalty in the same updates."""
        drawn_by = self._step_draws(step, draws)
        first = step * self.critic_steps
        kind = tuple(self.penalty.due(first + index) for index in range(self.critic_steps))

        def phases(
            next_batch: NextBatch, there: Mapping[str, Tensor], size: int, dtype: torch.dtype
        ) -> Iterator[Phase]:
            drawn_by.use(there, size, dtype)
            return self._phases(step, next_batch, drawn_by)

        return Recipe(kind, tuple(self._updates), drawn_by.on_host, phases)

    @property
    def _updates(self) -> list[str]:
        return [f"critic/{index}" for index in range(self.critic_steps)]

    def _step_draws(self, step: int, draws: Draws) -> StepDraws:
        draw = partial(self._drawn, draws, step)
        return StepDraws([*self._updates, "generator"], draw, self.device)

    def _phases(self, step: int, next_batch: NextBatch, drawn_by: StepDraws) -> Iterator[Phase]:
        # The generator draws as many volumes as the last real batch of this step held.
        last: Tensor | None = None

        def real_batch(purpose: str) -> RealBatch:
            nonlocal last
            batch = next_batch(purpose)
            last = batch.volumes
            return batch

        def generator_phase(part: Shard = WHOLE) -> tuple[Tensor, dict[str, Tensor]]:
            # Reads a batch only if no critic phase was evaluated.
            like = real_batch("generator").volumes if last is None else last
            drawn = drawn_by.of("generator", len(like), like.dtype).part(part, 1)
            return self.generator_loss(drawn.latent, drawn.labels, rng=drawn.moves)

        at_once = self.voxels_at_once if generates_ahead(self.device) else 0
        inputs = RealAndFake(
            *(self._updates, real_batch, drawn_by, self._generated),
            labelled=self.num_classes > 0,
            at_once=at_once,
        )
        for index, purpose in enumerate(self._updates):
            loss = partial(self._critic_phase, step, index, purpose, inputs)
            yield Phase("critic", ("critic",), loss, self._after_critic, (purpose,), loss)
        own = generator_phase
        yield Phase("generator", ("generator",), own, batches=("generator",), part_loss=own)

    def critic_loss(
        self,
        real: Tensor,
        z: Tensor,
        labels: Tensor | None,
        *,
        rng: np.random.Generator | Moves,
        share: Tensor | None = None,
        penalised: bool = True,
        watched: bool = True,
        fake: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the critic, penalty included, in one graph.

        Args:
            real: [B, C, D, H, W].
            z: [B, L]; the generator runs without gradients.
            labels: [B] of real and generated volumes, None if unconditional.
            rng: draws the augmentation; or what it drew for twice as many volumes.
            share: [B] of real volumes in the penalty's mix; None: drawn.
            penalised: add the penalty, multiplied by weight * interval.
            watched: compute collapse and per-class metrics, too.
            fake: like real, what the generator makes of z and labels; None: made here.

        Returns:
            Scalar, and detached scalars, none unless `measured`: score_real, score_fake, the
            objective's own; with a penalty: penalty (unweighted), gradient_norm (mean); for WGAN-GP
            balance_gap, balance_penalty, balance_ratio (1 at a stationary point, 0 where
            undefined); watched: similarity_real, similarity_fake, collapse, score_gap/<class> (NaN
            for a class that is not in the batch).
        """
        critic = self.modules["critic"]
        group = getattr(critic, "group", 0)
        if group and real.shape[0] % group:
            # Groups of real and generated volumes together would tell the critic nothing.
            raise ConfigError(
                f"minibatch_stddev {group} does not divide a batch of {real.shape[0]} volumes"
            )
        fake = self._generated(z, labels).to(real.dtype) if fake is None else fake
        watched = watched and self.measured
        metrics: dict[str, Tensor] = {}
        if watched:
            parts = partial(averaged, slabs=self.slabs) if self.slabs.count > 1 else whole
            metrics = collapse_metrics(real, fake, parts)
        # What couples samples does so within groups that divide a half, so both share one pass. The
        # penalty's mix stays apart: its input gradient would sweep over all three, which takes half
        # as long again.
        if self.recompute:
            real, fake = self._augmented(real, fake, rng)
            scores = self._scores_apart(real, fake, labels)
        else:
            both = self.augment(torch.cat([real, fake]), rng)
            twice = None if labels is None else torch.cat([labels, labels])
            scores = _score(critic, both, twice)
            real, fake = both.chunk(2)
        on_real, on_fake = scores.chunk(2)
        if self.measured:
            metrics |= self.objective.metrics(on_real, on_fake)
        if watched and labels is not None:
            metrics |= self._class_metrics(on_real, on_fake, labels)
        if not penalised:
            return self.objective.critic_loss_of_both(scores), metrics
        with span("penalty"):
            of_whole = None if self.slabs.count == 1 else self._squares_of_whole
            value, norms = self.penalty.evaluate(critic, real, fake, labels, share, of_whole)
        if self.measured:
            metrics |= {"penalty": value.detach(), "gradient_norm": norms.mean()}
            metrics |= self._balance_metrics(metrics, norms)
        factor = self.penalty.factor
        return self.objective.critic_loss_of_both(scores, value, factor), metrics

    def generator_loss(
        self, z: Tensor, labels: Tensor | None, *, rng: np.random.Generator | Moves
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the generator; arguments and returns as in `critic_loss`."""
        # Nothing is computed again here: no pass waits while another one runs.
        fake = self.augment(self.modules["generator"](z, labels), rng)
        scores = _score(self.modules["critic"], fake, labels)
        metrics = {"score_fake": scores.detach().mean()} if self.measured else {}
        return self.objective.generator_loss(scores), metrics

    def sample(
        self,
        count: int,
        labels: Tensor | np.ndarray | int | None = None,
        rng: np.random.Generator | None = None,
        *,
        module: nn.Module | None = None,
    ) -> Tensor:
        """Generate volumes.

        Args:
            count: n >= 0.
            labels: one class, n of them, or None to draw them from the prior.
            rng: source of the latents (drawn first) and labels; None: unpredictable.
            module: generator to use instead, e.g. its moving average.

        Returns:
            [n, C, D, H, W] float32 in [-1, 1], on the generator's device.

        Raises:
            ConfigError: labels that do not fit.
        """
        rng = np.random.default_rng() if rng is None else rng
        generator = self.modules["generator"] if module is None else module
        z = torch.from_numpy(rng.standard_normal((count, self.latent_dim), dtype=np.float32))
        if labels is None:
            chosen = self.labels.draw(count, rng)
        else:
            chosen = self.labels.check(labels, count)
        device = next(generator.parameters()).device
        there = None if chosen is None else chosen.to(device)
        # A volume is a function of weights and seed, on whatever device and as the run was trained.
        with torch.no_grad(), tensor_float32(False):
            sizes = pieces(count, math.prod(getattr(generator, "shape", ())), self.at_once)
            latents = torch.split_with_sizes(z.to(device), sizes)
            chosen_of = (
                [None] * len(sizes) if there is None else torch.split_with_sizes(there, sizes)
            )
            pairs = zip(latents, chosen_of, strict=True)
            made: list[Tensor] = [gathered(generator(*pair), self.slabs, 2) for pair in pairs]
        volumes = made[0] if len(made) == 1 else torch.cat(made)
        return volumes.clamp(-1.0, 1.0)

    def pictures(self, next_batch: NextBatch, draws: Draws) -> Pictures:
        """Volumes of fixed latents; with classes a line for each, up to four classes."""
        classes = min(self.num_classes, 4)
        labels = torch.arange(classes).repeat_interleave(4) if classes else None
        count = 8 if labels is None else len(labels)
        return Pictures(
            self.sample(count, labels, draws.numpy(0, "samples")),
            columns=4,
            caption="volumes generated from the same latents at every step",
            lines=self.labels.classes[:classes],
        )

    def _critic_phase(
        self, step: int, index: int, purpose: str, inputs: RealAndFake, part: Shard = WHOLE
    ) -> tuple[Tensor, dict[str, Tensor]]:
        penalised = self.penalty.due(step * self.critic_steps + index)
        given = inputs.of(purpose, part)
        return self.critic_loss(
            given.real,
            given.drawn.latent,
            given.labels,
            rng=given.drawn.moves,
            share=given.drawn.share,
            penalised=penalised,
            watched=index == self.critic_steps - 1,
            fake=given.fake,
        )

    def _scores_apart(self, real: Tensor, fake: Tensor, labels: Tensor | None) -> Tensor:
        """[2 B] scores of both by passes of their own, of which half as much is made again."""
        critic = self.modules["critic"]
        given = [] if labels is None else [labels]
        notes = notes_of(critic)
        on_real = self.through("critic", real, *given)
        restore_notes(critic, notes)
        return torch.cat([on_real, self.through("critic", fake, *given)])

    def _augmented(
        self, real: Tensor, fake: Tensor, rng: np.random.Generator | Moves
    ) -> tuple[Tensor, Tensor]:
        if not self.augment.names:
            return real, fake
        real, fake = self.augment(torch.cat([real, fake]), rng).chunk(2)
        return real, fake

    def _squares_of_whole(self, squares: Tensor) -> Tensor:
        """[B]: squared slopes over whole volumes, of those over slabs.

        Every slab's is that of the sum of all holders' scores, which are the same.
        """
        return summed(squares, self.slabs) / self.slabs.count**2

    def _generated(self, z: Tensor, labels: Tensor | None) -> Tensor:
        with torch.no_grad():
            volumes: Tensor = self.modules["generator"](z, labels)
        return volumes

    def _drawn(
        self, draws: Draws, step: int, purpose: str, size: int, dtype: torch.dtype
    ) -> UpdateDraws:
        """What an update draws on the host, beside `size` real volumes of `dtype`."""
        whole = draws.shard.count * size
        latent = draws.normal(step, f"latent/{purpose}", (whole, self.latent_dim))
        of_moves = draws.numpy(step, f"augment/{purpose}")
        volume: tuple[int, ...] = ()
        if self.augment.names:
            generator = cast(Generator, self.modules["generator"])
            volume = (generator.channels, *generator.shape)
        if purpose == "generator":
            moves = self.augment.draw(of_moves, (whole, *volume), latent.dtype)
            labels = self.labels.draw(whole, draws.numpy(step, "labels/generator"))
            return UpdateDraws(latent, moves, labels=labels).part(draws.shard, 1)
        # Real and generated volumes are moved in one batch.
        moves = self.augment.draw(of_moves, (2 * whole, *volume), dtype)
        share = None
        if self.penalty.mixes:
            by = draws.torch_generator(step, f"mix/{purpose}")
            share = torch.rand(whole, dtype=torch.promote_types(dtype, torch.float32), generator=by)
        return UpdateDraws(latent, moves, share).part(draws.shard, 2)

    def _balance_metrics(self, metrics: dict[str, Tensor], norms: Tensor) -> dict[str, Tensor]:
        """E_P f - E_Q f = 2 lambda E[n (n - 1)] where scaling the critic gains nothing."""
        if self.objective.name != "wasserstein" or self.penalty.kind != "wgan-gp":
            return {}
        gap = metrics["wasserstein"]
        side = 2.0 * self.penalty.weight * self.penalty.excess(norms)
        ratio = torch.where(side.abs() > TINY, gap / side, torch.zeros_like(gap))
        return {"balance_gap": gap, "balance_penalty": side, "balance_ratio": ratio}

    def _class_metrics(self, real: Tensor, fake: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Mean score of real minus generated volumes of each class."""
        gaps = (real - fake).detach().float()
        members = torch.arange(self.num_classes, device=labels.device)[:, None] == labels
        means = torch.where(members, gaps, 0.0).sum(1) / members.sum(1)
        names = [f"score_gap/{name}" for name in self.labels.classes]
        return dict(zip(names, means.unbind(), strict=True))


def _score(critic: nn.Module, x: Tensor, labels: Tensor | None) -> Tensor:
    scores: Tensor = critic(x) if labels is None else critic(x, labels)
    return scores
