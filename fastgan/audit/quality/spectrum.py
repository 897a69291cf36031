"""Do generated volumes hold as much fine detail as patients, and no regular pattern?

The power spectrum of a volume, in shells from coarse to fine and at the highest frequencies along
each axis and diagonal, where interpolation and transposed convolution leave checkerboards.
"""

from __future__ import annotations

import math
from itertools import product
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import torch

from fastgan.arrays import Bools, Floats
from fastgan.audit import controls
from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import Control, Finding, Outcome, Question, Table
from fastgan.audit.quality.patients import all_patients
from fastgan.audit.rules import limit
from fastgan.errors import AuditError

__all__ = ["SPECTRUM", "judge_spectrum", "log_spectra"]

SPECTRUM = Question(
    "quality",
    "quality.spectrum",
    "Are generated volumes as sharp and as noisy as patients, without a regular pattern?",
)
TOLERATED = limit("quality.spectrum.tolerated")
CERTIFIED = limit("audit.certified")
ALPHA = limit("audit.alpha")
SHELLS = 8
CHUNK = 16
HEIGHT = 0.02  # of the planted checkerboard: 1 % of the range up and down


class Shift(NamedTuple):
    """Mean logarithm of power of generated volumes less that of patients, by band [K]."""

    logs: Floats
    effect: Floats
    """In deviations between patients."""
    error: Floats
    """Standard error of the effect."""

    @property
    def worst(self) -> int:
        """The band of the largest effect."""
        return int(np.abs(self.effect).argmax())

    def bounds(self, level: float) -> tuple[Floats, Floats]:
        """Of the size of each effect, one-sided at a level."""
        reach = NormalDist().inv_cdf(level) * self.error
        return np.maximum(np.abs(self.effect) - reach, 0.0), np.abs(self.effect) + reach

    def differs(self) -> bool:
        """Whether some band surely is off by more than tolerated, over all bands together."""
        level = 1 - ALPHA / (2 * len(self.effect))
        return bool((self.bounds(level)[0] > TOLERATED).any())


def judge_spectrum(evidence: Evidence, options: Options) -> Finding:
    """Finding quality.spectrum.

    Raises:
        AuditError: an axis of fewer than 8 voxels, or patients without any detail.
    """
    made = evidence.require_generated()
    if min(made.values.shape[1:]) < 8:
        raise AuditError(f"needs at least 8 voxels along each axis, got {made.values.shape[1:]}")
    patients = all_patients(evidence, options.rng("spectrum"))
    real, drawn = log_spectra(patients.values), log_spectra(made.values)
    varying = real.std(axis=0) > 1e-6
    if not varying.any():
        raise AuditError("patients' volumes have no detail that varies")
    names = [name for name, kept in zip(_names(), varying, strict=True) if kept]
    shift = _shift(real[:, varying], drawn[:, varying])
    planted = () if options.quick else _controls(patients.values, real, varying, options)
    low, high = shift.bounds(0.5 + CERTIFIED / 2)
    at = shift.worst
    return Finding(
        *SPECTRUM,
        accepted=_outcome(shift, names),
        value=float(abs(shift.effect[at])),
        value_name=f"difference of log power, {names[at]}, in deviations between patients",
        interval=(float(low[at]), float(high[at])),
        floor=0.0,
        floor_name="patients of one law",
        n_volumes=len(made) + len(patients),
        n_subjects=len(patients),
        power="; ".join(
            f"{c.name}: found in {c.rate:.0%}" for c in planted if c.expected != "quiet"
        ),
        controls=planted,
        tables=(_table(shift, names),),
        methods=(
            "Volumes less their mean, under a Hann window, Fourier transform, logarithm of mean "
            f"power in {SHELLS} shells and at the highest frequency of each axis and diagonal; one "
            "volume a patient, training and held-out. Passes where every band is within "
            f"{TOLERATED:g} deviation between patients at 95 %, one-sided."
        ),
        limits=(
            "How much detail there is and whether it is regular; not whether it is in the right "
            "place or anatomically right."
        ),
    )


def log_spectra(values: Floats) -> Floats:
    """[N, K] logarithm of the mean power of [N, D, H, W] in bands: `SHELLS` shells, 7 corners."""
    shape = values.shape[1:]
    window = torch.ones(shape)
    for axis, size in enumerate(shape):
        hann = torch.from_numpy(np.hanning(size + 2)[1:-1].astype(np.float32))
        window = window * hann.reshape([-1 if a == axis else 1 for a in range(3)])
    bands = _bands(shape)
    out = np.empty((len(values), len(bands)))
    for start in range(0, len(values), CHUNK):
        part = torch.from_numpy(np.ascontiguousarray(values[start : start + CHUNK], np.float32))
        part = (part - part.mean(dim=(1, 2, 3), keepdim=True)) * window
        power = torch.fft.fftn(part, dim=(1, 2, 3)).abs().square().double().numpy()
        for k, band in enumerate(bands):
            out[start : start + CHUNK, k] = power[:, band].mean(axis=1)
    # Below it lies rounding, which is no detail.
    return np.log(out + 1e-8)


def _bands(shape: tuple[int, ...]) -> list[Bools]:
    """Voxels of the Fourier transform of each band."""
    waves = np.meshgrid(*(np.abs(np.fft.fftfreq(n)) for n in shape), indexing="ij")
    radius = np.sqrt(sum(np.square(w) for w in waves))
    shell = np.minimum((radius * 2 * (SHELLS - 2)).astype(int), SHELLS - 1)
    found = [shell == k for k in range(SHELLS)]
    for corner in _corners():
        inside = np.ones(shape, bool)
        for wave, top, size in zip(waves, corner, shape, strict=True):
            inside &= (0.5 - wave if top else wave) < 1.5 / size
        found.append(inside)
    return found


def _corners() -> list[tuple[int, ...]]:
    return [corner for corner in product((0, 1), repeat=3) if any(corner)]


def _names() -> list[str]:
    names = [f"shell {k + 1} of {SHELLS}, coarse to fine" for k in range(SHELLS)]
    for corner in _corners():
        axes = "".join(a for a, top in zip("DHW", corner, strict=True) if top)
        names.append(f"every other voxel along {axes}")
    return names


def _shift(real: Floats, drawn: Floats) -> Shift:
    logs = drawn.mean(axis=0) - real.mean(axis=0)
    spread = real.std(axis=0, ddof=1)
    error = np.sqrt(real.var(axis=0, ddof=1) / len(real) + drawn.var(axis=0, ddof=1) / len(drawn))
    return Shift(logs, logs / spread, error / spread)


def _outcome(shift: Shift, names: list[str]) -> Outcome:
    at = shift.worst
    times = math.exp(min(float(shift.logs[at]), 50.0))
    told = (
        f"power is {times:.3g} times that of patients in {names[at]}, "
        f"{abs(shift.effect[at]):.2g} deviations between patients"
    )
    if shift.differs():
        return Outcome("warn", f"Generated volumes differ from patients in fine detail: {told}.")
    if shift.bounds(CERTIFIED)[1].max() <= TOLERATED:
        return Outcome(
            "pass", f"No evidence of a regular pattern, noise or blur found: at most, {told}."
        )
    return Outcome(
        "cannot tell",
        f"Cannot tell whether fine detail is that of patients: {told}, and at 95 % it may be "
        f"{shift.bounds(CERTIFIED)[1].max():.2g}; {TOLERATED:g} would do. Next: more patients or "
        "more generated volumes.",
    )


def _table(shift: Shift, names: list[str]) -> Table:
    low, high = shift.bounds(CERTIFIED)
    rows = tuple(
        (name, f"{math.exp(min(float(g), 50.0)):.3g}", f"{e:+.2f}", f"{a:.2f} to {b:.2f}")
        for name, g, e, a, b in zip(names, shift.logs, shift.effect, low, high, strict=True)
    )
    return Table(
        "Power spectrum, generated against patients",
        ("band", "power, ratio", "in deviations between patients", "size, one-sided 95 % bounds"),
        rows,
    )


def _controls(
    values: Floats, real: Floats, varying: Bools, options: Options
) -> tuple[Control, Control]:
    """Patients, with a checkerboard or as they are, pose as generated before other patients."""
    rng, runs = options.rng("quality/checkerboard"), options.planted
    board = (np.indices(values.shape[1:]).sum(axis=0) % 2 * 2 - 1).astype(np.float32)
    spoilt = log_spectra(values + HEIGHT * board)[:, varying]
    plain, hits, alarms = real[:, varying], 0, 0
    for _ in range(runs):
        first, second = np.array_split(rng.permutation(len(values)), 2)
        hits += _shift(plain[first], spoilt[second]).differs()
        alarms += _shift(plain[first], plain[second]).differs()
    name = "a checkerboard of 1 % of the range on half of the patients"
    return (
        controls.found(name, hits, runs),
        controls.quiet("half of the patients as they are", alarms, runs, at_most=0.05),
    )
