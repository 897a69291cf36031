"""CycleGAN: two translators learn from two unpaired sets, held together by their round trips."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from fastgan.errors import ConfigError
from fastgan.gans.objectives import find_objective
from fastgan.gans.pool import Pool
from fastgan.gans.real_and_fake import pieces
from fastgan.gans.settings import CycleSettings
from fastgan.gans.variant import NextBatch, Phase, Pictures, RealBatch, Variant
from fastgan.measures.patch_distance import patch_distance
from fastgan.measures.structure import ALARMS, structure_metrics
from fastgan.random import WHOLE, Draws, Shard, placed

__all__ = ["CycleGAN"]

TITLES = ("source", "translation", "translated back")
SHOWN = 2  # volumes of each domain in a picture
# Of each domain in a patch distance: two windows say more of their places than of a translator.
MEASURED = 16
PATCH = 5  # edge of a patch


class UnpairedBatch(RealBatch, Protocol):
    """The part of a batch of two unpaired sets that a CycleGAN reads; `volumes` are of domain A."""

    @property
    def volumes_b(self) -> Tensor:
        """[B, C, D, H, W] in [-1, 1] of domain B."""


class CycleGAN(Variant):
    """A step is one update of both generators, then one of both critics.

    Generators: adv(D_B(G_AB(a))) + adv(D_A(G_BA(b)))
        + lambda_cycle (|G_BA(G_AB(a)) - a| + |G_AB(G_BA(b)) - b|)
        + lambda_cycle lambda_identity (|G_AB(b) - b| + |G_BA(a) - a|), mean absolute errors.
    Critics: the objective on real volumes and on volumes of the pools. With `critic_noise` they
    see everything through Gaussian noise, in both phases: fine texture that no translator could
    match then does not settle the game, and what remains is where tissues lie.

    Modules: G_AB, G_BA, D_A, D_B, and pool_A, pool_B with the generated volumes of each domain.

    Args:
        G_AB, G_BA: [B, C, D, H, W] -> [B, C, D, H, W].
        D_A, D_B: [B, C, D, H, W] -> scores of any shape.
        shape: (C, D, H, W) of the volumes.
        settings: of the game and its optimisers; an objective that needs no bounded slope.
        same_contrast: both domains show every tissue alike, so that a negative is an alarm.

    Raises:
        ConfigError: an unknown objective or one that needs bounds, or a negative weight.

    Source: Zhu et al. 2017, "Unpaired image-to-image translation using cycle-consistent
        adversarial networks", equations 1 to 3 and section 5.2; noise: Sønderby et al. 2017,
        "Amortised MAP inference for image super-resolution", section 3.4.
    """

    ema_of = ("G_AB", "G_BA")
    sharded = True
    divisible = True

    def __init__(
        self,
        G_AB: nn.Module,
        G_BA: nn.Module,
        D_A: nn.Module,
        D_B: nn.Module,
        *,
        shape: tuple[int, int, int, int],
        settings: CycleSettings | None = None,
        same_contrast: bool = False,
    ) -> None:
        settings = settings or CycleSettings()
        self.objective = find_objective(settings.objective)
        if self.objective.bounded_slope:
            raise ConfigError(
                f"objective {settings.objective!r} needs a critic of bounded slope, which a "
                "CycleGAN has not: choose least-squares, hinge or non-saturating"
            )
        for name in ("lambda_cycle", "lambda_identity", "critic_noise"):
            if (weight := getattr(settings, name)) < 0:
                raise ConfigError(f"{name}: must be >= 0, got {weight}")
        self.lambda_cycle, self.lambda_identity = settings.lambda_cycle, settings.lambda_identity
        self.critic_noise = settings.critic_noise
        self.same_contrast = same_contrast
        self.pools = {domain: Pool(settings.pool_size, shape) for domain in "AB"}
        self.modules = {
            "G_AB": G_AB,
            "G_BA": G_BA,
            "D_A": D_A,
            "D_B": D_B,
            "pool_A": self.pools["A"],
            "pool_B": self.pools["B"],
        }
        self.optimisers = settings.optimisers()

    def phases(self, step: int, next_batch: NextBatch, draws: Draws) -> Iterator[Phase]:
        """See Variant. Purposes: batch "unpaired"; drawn pool/A, pool/B, noise/<phase>."""
        seen: dict[str, Tensor] = {}
        translated: dict[int, dict[str, Tensor]] = {}  # by part

        def generators(part: Shard = WHOLE) -> tuple[Tensor, dict[str, Tensor]]:
            if not seen:
                batch = cast(UnpairedBatch, next_batch("unpaired"))
                seen["a"] = batch.volumes.to(self.device)
                seen["b"] = batch.volumes_b.to(self.device)
            if part.index == 0:
                translated.clear()
            loss, metrics, translated[part.index] = self.generator_loss(
                part.of(seen["a"]),
                part.of(seen["b"]),
                rng=draws.numpy(step, "noise/generator"),
                shard=draws.shard.part(part),
            )
            return loss, metrics

        def critics(part: Shard = WHOLE) -> tuple[Tensor, dict[str, Tensor]]:
            return self.critic_loss(
                *(part.of(seen[name]) for name in ("a", "b", "fake_a", "fake_b")),
                rng=draws.numpy(step, "noise/critic"),
                shard=draws.shard.part(part),
            )

        yield Phase("generator", ("G_AB", "G_BA"), generators, part_loss=generators)
        # A pool changes with what is handed in, so that comes once, and of all parts together.
        for domain, pool in self.pools.items():
            name = f"fake_{domain.lower()}"
            fresh = torch.cat([translated[index][name] for index in sorted(translated)])
            seen[name] = pool.exchange(fresh, draws.numpy(step, f"pool/{domain}"), draws.shard)
        translated.clear()
        yield Phase("critic", ("D_A", "D_B"), critics, part_loss=critics)

    def generator_loss(
        self, a: Tensor, b: Tensor, *, rng: np.random.Generator, shard: Shard | None = None
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Loss of both generators, in one graph.

        Args:
            a: [B, C, D, H, W] real volumes of domain A.
            b: the same of domain B, unpaired.
            rng: draws the critics' noise, of B first.
            shard: what the volumes are of a batch; None: all of it.

        Returns:
            Scalar; detached scalars, unweighted: adversarial_AB, adversarial_BA, cycle_A, cycle_B,
            identity_A, identity_B (the latter with a weight alone); and the detached translations
            fake_a, fake_b.
        """
        G_AB, G_BA = partial(self.through, "G_AB"), partial(self.through, "G_BA")
        noise = _Noise(self.critic_noise, rng, shard)
        fake_b, fake_a = G_AB(a), G_BA(b)
        terms = {
            "adversarial_AB": self.objective.generator_loss(self._score("D_B", fake_b, noise)),
            "adversarial_BA": self.objective.generator_loss(self._score("D_A", fake_a, noise)),
            "cycle_A": _distance(G_BA(fake_b), a),
            "cycle_B": _distance(G_AB(fake_a), b),
        }
        loss = terms["adversarial_AB"] + terms["adversarial_BA"]
        loss = loss + self.lambda_cycle * (terms["cycle_A"] + terms["cycle_B"])
        if self.lambda_identity:
            terms |= {"identity_A": _distance(G_BA(a), a), "identity_B": _distance(G_AB(b), b)}
            same = terms["identity_A"] + terms["identity_B"]
            loss = loss + self.lambda_cycle * self.lambda_identity * same
        metrics = {name: term.detach() for name, term in terms.items()}
        return loss, metrics, {"fake_a": fake_a.detach(), "fake_b": fake_b.detach()}

    def critic_loss(
        self,
        a: Tensor,
        b: Tensor,
        fake_a: Tensor,
        fake_b: Tensor,
        *,
        rng: np.random.Generator,
        shard: Shard | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of both critics, each on its own domain.

        Args:
            a: [B, C, D, H, W] real volumes of domain A.
            b: the same of domain B.
            fake_a: generated volumes of domain A, without a graph.
            fake_b: the same of domain B.
            rng: draws the critics' noise, of A first.
            shard: what the volumes are of a batch; None: all of it.

        Returns:
            Scalar, and detached scalars score_real_A, score_fake_A and the like of B.
        """
        noise = _Noise(self.critic_noise, rng, shard)
        loss = torch.zeros((), device=a.device)
        metrics: dict[str, Tensor] = {}
        for domain, real, fake in (("A", a, fake_a), ("B", b, fake_b)):
            # No layer couples samples, so both halves share one pass.
            both = torch.cat([real, fake.to(real.dtype)])
            on_real, on_fake = self._score(f"D_{domain}", both, noise, batches=2).chunk(2)
            loss = loss + self.objective.critic_loss(on_real, on_fake)
            if self.measured:
                found = self.objective.metrics(on_real, on_fake)
                metrics |= {f"{name}_{domain}": value for name, value in found.items()}
        return loss, metrics

    def _score(self, critic: str, x: Tensor, noise: _Noise, batches: int = 1) -> Tensor:
        """The critic's scores of x [B, C, D, H, W], `batches` together, behind the noise."""
        return self.through(critic, noise.added(x, batches))

    def pictures(self, next_batch: NextBatch, draws: Draws) -> Pictures:
        """Source, translation and reconstruction in each line; of A first, then of B.

        Measured on them: `structure_metrics` of both directions, its alarms as such; and on 16
        volumes of each domain patch_distance_AB, of translations of A from volumes of B, and
        patch_distance_BA (neither where patches of 5^3 do not fit).
        """
        batch = cast(UnpairedBatch, next_batch("pictures"))
        lines = []
        metrics: dict[str, Tensor] = {}
        for there, back, volumes in (
            ("AB", "BA", batch.volumes),
            ("BA", "AB", batch.volumes_b),
        ):
            source = volumes.to(self.device)
            made = self._in_pieces(self.modules[f"G_{there}"], source)
            again = self.modules[f"G_{back}"](made[:SHOWN])
            lines.append(torch.stack([source[:SHOWN], made[:SHOWN], again], dim=1))
            found = structure_metrics(source, made, same_contrast=self.same_contrast)
            for name, value in found.items():
                kind = "alarm/" if name in ALARMS else ""
                metrics[f"{kind}{name}_{there}"] = value
        metrics |= self._patch_distances(batch, next_batch)
        return Pictures(
            torch.cat(lines).flatten(0, 1),
            columns=len(TITLES),
            caption="the same volumes at every step",
            titles=TITLES,
            lines=("A to B",) * len(lines[0]) + ("B to A",) * len(lines[1]),
            metrics=metrics,
        )

    def _in_pieces(self, network: nn.Module, x: Tensor) -> Tensor:
        """What a network makes of x [B, C, D, H, W], a few at a time where they are large."""
        sizes = pieces(len(x), math.prod(x.shape[2:]), self.at_once)
        made: list[Tensor] = [network(piece) for piece in torch.split_with_sizes(x, sizes)]
        return made[0] if len(made) == 1 else torch.cat(made)

    def _patch_distances(self, batch: UnpairedBatch, next_batch: NextBatch) -> dict[str, Tensor]:
        """patch_distance_AB and _BA of this batch and as many more as are needed."""
        extent = min(batch.volumes.shape[2:])
        if extent < PATCH:
            return {}
        batches = [batch]
        for i in range(1, -(-MEASURED // len(batch.volumes))):
            batches.append(cast(UnpairedBatch, next_batch(f"pictures/{i}")))
        found = {}
        for direction, sources, targets in (
            ("AB", "volumes", "volumes_b"),
            ("BA", "volumes_b", "volumes"),
        ):
            translator = self.modules[f"G_{direction}"]
            # On the host: a device that trains has no room to spare.
            made = [
                self._in_pieces(translator, getattr(b, sources).to(self.device)).cpu()
                for b in batches
            ]
            real = [getattr(b, targets).cpu() for b in batches]
            found[f"patch_distance_{direction}"] = patch_distance(
                torch.cat(made), torch.cat(real), size=PATCH, scales=1 + (extent >= 2 * PATCH)
            ).to(self.device, torch.float32)
        return found


class _Noise:
    """Gaussian noise of one phase, drawn for whole batches."""

    def __init__(self, deviation: float, rng: np.random.Generator, shard: Shard | None) -> None:
        self._deviation, self._rng, self._shard = deviation, rng, shard or Shard()

    def added(self, x: Tensor, batches: int) -> Tensor:
        """Volumes [B, C, D, H, W], own rows of `batches`, and noise; themselves without any."""
        if not self._deviation:
            return x
        shape = (self._shard.count * len(x), *x.shape[1:])
        drawn = torch.from_numpy(self._rng.standard_normal(shape, dtype=np.float32))
        noise = self._shard.of(drawn, batches).to(x.dtype)
        return x + self._deviation * placed(noise, x.device)


def _distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute error, in at least float32."""
    wide = torch.promote_types(found.dtype, torch.float32)
    return (found.to(wide) - wanted.to(wide)).abs().mean()
