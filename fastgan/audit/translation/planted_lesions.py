"""Small bodies are planted and erased here; conspicuity says how much a place stands out.

Conspicuity is the contrast of a ball against the shell around it, over the texture of that shell.
It survives any linear map of intensities, inversion included, so a source and its translation can
be compared although nobody knows what a lesion looks like in the other domain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Bools, Floats

__all__ = [
    "Place",
    "conspicuity",
    "conspicuity_map",
    "conspicuous_places",
    "erased",
    "pasted",
    "planted",
    "random_places",
]

Place = tuple[int, int, int]

# Below it, texture counts as this much (of [-1, 1]): a flat shell would make anything conspicuous.
LEAST_TEXTURE = 0.02
TRIES = 24  # places among which the calmest is taken
SHELL = (1.5, 2.5)  # radii between which the surroundings lie


@dataclass(frozen=True)
class _Ball:
    """A ball and its surroundings, cut at the edges of the volume."""

    box: tuple[slice, slice, slice]
    distance: Floats
    """Of each voxel of the box from the centre, in voxels."""
    radius: float

    @classmethod
    def at(cls, shape: tuple[int, ...], place: Place, radius: float) -> _Ball:
        steps = int(np.ceil(SHELL[1] * radius))
        d, h, w = (
            slice(max(0, p - steps), min(n, p + steps + 1))
            for p, n in zip(place, shape, strict=True)
        )
        axes = [np.arange(s.start, s.stop) - p for s, p in zip((d, h, w), place, strict=True)]
        squares = [g.astype(np.float32) ** 2 for g in np.meshgrid(*axes, indexing="ij")]
        return cls((d, h, w), np.sqrt(squares[0] + squares[1] + squares[2]), radius)

    @property
    def inside(self) -> Bools:
        return self.distance <= self.radius

    @property
    def around(self) -> Bools:
        in_units = self.distance / self.radius
        return (in_units >= SHELL[0]) & (in_units <= SHELL[1])

    @property
    def profile(self) -> Floats:
        """1 inside, 0 outside, a ramp of a voxel between."""
        share: Floats = np.clip(self.radius + 0.5 - self.distance, 0.0, 1.0).astype(np.float32)
        return share


def conspicuity(volume: Floats, place: Place, radius: float) -> float:
    """Signed contrast of the ball at `place` against its shell, in standard deviations of it.

    Args:
        volume: [D, H, W] in [-1, 1].
        place: voxel at the centre.
        radius: voxels.
    """
    ball = _Ball.at(volume.shape, place, radius)
    part = volume[ball.box]
    around = part[ball.around]
    gap = float(part[ball.inside].mean() - around.mean())
    return gap / float(np.hypot(around.std(), LEAST_TEXTURE))


def conspicuity_map(volume: Floats, radius: float) -> Floats:
    """[D, H, W] `conspicuity` of every place, 0 where its surroundings leave the volume.

    Cost: seven Fourier transforms of the volume.
    """
    reach = int(np.ceil(SHELL[1] * radius))
    ball = _Ball.at((2 * reach + 1,) * 3, (reach,) * 3, radius)
    inside = _mean(volume, ball.inside)
    around = _mean(volume, ball.around)
    spread = np.maximum(_mean(np.square(volume), ball.around) - np.square(around), 0.0)
    found = np.zeros(volume.shape)
    inner = tuple(slice(reach, n - reach) for n in volume.shape)
    found[inner] = ((inside - around) / np.sqrt(spread + LEAST_TEXTURE**2))[inner]
    return found


def conspicuous_places(volume: Floats, radius: float, count: int) -> list[Place]:
    """The most conspicuous places, bright or dark, two diameters apart; fewer if no more fit."""
    found = np.abs(conspicuity_map(volume, radius))
    places: list[Place] = []
    for _ in range(count):
        d, h, w = (int(i) for i in np.unravel_index(int(found.argmax()), found.shape))
        if found[d, h, w] <= 0.0:
            break
        places.append((d, h, w))
        found[_Ball.at(volume.shape, (d, h, w), 4.0 * radius / SHELL[1]).box] = 0.0
    return places


def random_places(
    volume: Floats, radius: float, count: int, rng: np.random.Generator
) -> list[Place]:
    """Places in tissue, with their surroundings inside, the calmest of some tries each.

    Tissue is what differs from the darkest tenth of the range; without any, every place counts.
    """
    edge = _edge(volume.shape, radius)
    places = []
    for _ in range(count):
        tries: list[Place] = []
        for _ in range(TRIES):
            d, h, w = (
                int(rng.integers(e, max(e + 1, n - e)))
                for e, n in zip(edge, volume.shape, strict=True)
            )
            tries.append((d, h, w))
        tissue = [p for p in tries if volume[_Ball.at(volume.shape, p, radius).box].mean() > -0.8]
        places.append(min(tissue or tries, key=lambda p: _texture(volume, p, radius)))
    return places


def planted(volume: Floats, place: Place, radius: float, contrast: float) -> Floats:
    """A copy with a soft ball of `contrast` standard deviations of the surrounding texture.

    It is bright where there is room for it in [-1, 1], else dark.
    """
    ball = _Ball.at(volume.shape, place, radius)
    around = volume[ball.box][ball.around]
    height = contrast * float(np.hypot(around.std(), LEAST_TEXTURE))
    if float(around.mean()) + height > 1.0:
        height = -height
    out = np.array(volume, dtype=np.float32)
    out[ball.box] += height * ball.profile
    return np.clip(out, -1.0, 1.0)


def erased(volume: Floats, place: Place, radius: float, rng: np.random.Generator) -> Floats:
    """A copy whose ball at `place`, with a soft rim, is filled with values drawn from its shell."""
    ball = _Ball.at(volume.shape, place, 1.3 * radius)
    part = volume[ball.box]
    fill = rng.choice(part[ball.around], part.shape)
    share = ball.profile
    out = np.array(volume, dtype=np.float32)
    out[ball.box] = (1.0 - share) * part + share * fill
    return out


def pasted(volume: Floats, other: Floats, place: Place, radius: float) -> Floats:
    """A copy whose ball at `place`, with its surroundings, is that of another volume."""
    ball = _Ball.at(volume.shape, place, SHELL[1] * radius)
    share = ball.profile
    out = np.array(volume, dtype=np.float32)
    out[ball.box] = (1.0 - share) * volume[ball.box] + share * other[ball.box]
    return out


def _texture(volume: Floats, place: Place, radius: float) -> float:
    """Standard deviation of the ball and what is around it."""
    return float(volume[_Ball.at(volume.shape, place, radius).box].std())


def _mean(volume: Floats, kernel: Bools) -> Floats:
    """Mean of a volume over a symmetric kernel around every place; wraps at the faces."""
    wide = np.zeros(volume.shape)
    corner = tuple(slice(0, min(n, k)) for n, k in zip(volume.shape, kernel.shape, strict=True))
    wide[corner] = kernel[corner] / kernel.sum()
    wide = np.roll(wide, [-(k // 2) for k in kernel.shape], (0, 1, 2))
    spectrum = np.fft.rfftn(volume) * np.fft.rfftn(wide)
    mean: Floats = np.fft.irfftn(spectrum, volume.shape, axes=(0, 1, 2))
    return mean


def _edge(shape: tuple[int, ...], radius: float) -> list[int]:
    reach = int(np.ceil(SHELL[1] * radius))
    return [min(reach, (n - 1) // 2) for n in shape]
