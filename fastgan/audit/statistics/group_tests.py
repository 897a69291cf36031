"""Do groups of volumes differ? These tests compute all of their permutations at once.

Every statistic here is linear or quadratic in the membership of the groups, so that a thousand
permutations cost one matrix product. The subject is the unit: `statistics.Exchange`. Whatever else
is chosen (scales, components, folds, bandwidths) is chosen without the groups, which keeps every
p-value exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np

from fastgan.arrays import Column, Floats, Integers
from fastgan.audit.statistics.permutation import Exchange, permutation_p
from fastgan.errors import AuditError

__all__ = [
    "Groups",
    "MaxT",
    "centred",
    "combined",
    "max_t",
    "mean_discrepancy",
    "standard_contrast",
    "standard_rows",
]

_CHUNK = 2048  # features of one matrix product


class Groups:
    """Who belongs to which group, as observed and after B permutations.

    Args:
        groups: [N] name of each volume's group.
        subjects: [N] who each volume is of.
        strata: [N] permutations stay within; None for one stratum.
        rng: of the permutations.
        permutations: B.

    Raises:
        AuditError: fewer than two groups, or nothing that can be exchanged.
    """

    def __init__(
        self,
        groups: Column,
        subjects: Column,
        strata: Column | None,
        rng: np.random.Generator,
        permutations: int,
    ) -> None:
        self.names, codes = np.unique(groups, return_inverse=True)
        if len(self.names) < 2:
            raise AuditError(f"permutation: needs two groups, got {self.names.tolist()}")
        where = np.zeros(len(codes), np.int64) if strata is None else strata
        self.strata = np.unique(where, return_inverse=True)[1]
        """[N] positions of strata."""
        self.subjects = np.unique(subjects, return_inverse=True)[1]
        """[N] positions of subjects."""
        exchange = Exchange(self.subjects, self.strata)
        codes = codes.astype(np.int16)
        rows = [codes, *(exchange.draw(codes, rng) for _ in range(permutations))]
        self.codes = np.stack(rows)
        """[1 + B, N] position of each volume's group in `names`; row 0 as observed."""

    def __len__(self) -> int:
        return int(self.codes.shape[1])

    @property
    def contrasts(self) -> range:
        """Groups that are held against all others: one of two, or each of more."""
        return range(1, 2) if len(self.names) == 2 else range(len(self.names))

    def contrast(self, group: int) -> Floats:
        """[1 + B, N] float32 membership of one group, less its share in the stratum."""
        member = self.codes == group
        counts = np.bincount(self.strata)
        share = np.bincount(self.strata, weights=member[0]) / counts
        out: Floats = member - share[self.strata].astype(np.float32)
        return out

    def rows(self, chosen: Integers) -> Groups:
        """The same groups with some of the rows; the first chosen stands for what is observed."""
        part = copy(self)
        part.codes = self.codes[chosen]
        return part

    def p(self, statistic: Floats) -> float:
        """p-value of large values of a statistic [1 + B] of these rows."""
        return permutation_p(float(statistic[0]), statistic[1:])


def centred(values: Floats, strata: Integers) -> Floats:
    """[N, F] float32 less the mean of each one's stratum [N]."""
    out = np.array(values, dtype=np.float32)
    for stratum in np.unique(strata):
        at = strata == stratum
        out[at] -= out[at].mean(axis=0, dtype=np.float64).astype(np.float32)
    return out


@dataclass(frozen=True)
class MaxT:
    """Tests of many features, one family."""

    t: Floats
    """[contrasts, F] difference of means over its deviation under permutation, signed."""
    p_adjusted: Floats
    """[contrasts, F] single-step max-T: the family-wise error is exact."""
    maxima: Floats
    """[1 + B] largest |t|, row 0 as observed."""
    p: float
    """That no feature differs."""


def max_t(groups: Groups, values: Floats, permutations: int | None = None) -> MaxT:
    """Which features differ in mean between groups, within strata.

    Args:
        groups: with their permutations.
        values: [N, F]; a feature without variance within strata has t = 0.
        permutations: how many rows after the first are the null; the rest (all, if None) are
            control runs, of which only `maxima` tells.

    Cost: 2 (1 + B) N F flops a contrast, in float32.

    Source: Westfall and Young 1993, "Resampling-based multiple testing", max-T, single step;
    Nichols and Holmes 2002, "Nonparametric permutation tests for functional neuroimaging".
    """
    rows, count = len(groups.codes), values.shape[1]
    t = np.zeros((len(groups.contrasts), count))
    maxima = np.zeros(rows)
    for line, group in enumerate(groups.contrasts):
        contrast = groups.contrast(group)
        for start in range(0, count, _CHUNK):
            part = slice(start, start + _CHUNK)
            standard = standard_contrast(contrast, centred(values[:, part], groups.strata))
            t[line, part] = standard[0]
            np.maximum(maxima, np.abs(standard).max(axis=1), out=maxima)
    # Rounding of float32 must not break a tie in favour of what was observed.
    null = np.sort(maxima[1 : rows if permutations is None else 1 + permutations] * (1 + 1e-6))
    above = len(null) - np.searchsorted(null, np.abs(t), side="left")
    return MaxT(t, (1 + above) / (1 + len(null)), maxima, permutation_p(maxima[0], null))


def standard_contrast(contrast: Floats, values: Floats) -> Floats:
    """[1 + B, F] contrast [1 + B, N] times values [N, F], each feature in units of its deviation
    over all rows, the observed one included: a symmetric scale, which keeps the test exact.
    """
    product = contrast @ values
    product -= product.mean(axis=0)
    scale = product.std(axis=0)
    floor = 1e-5 * np.abs(contrast[0]).sum() * np.abs(values).max(initial=0.0) / len(values)
    out: Floats = np.where(scale > floor, product / np.maximum(scale, 1e-30), 0.0)
    return out


def standard_rows(statistic: Floats) -> Floats:
    """A statistic [rows] in deviations of all rows, the observed one included."""
    out: Floats = (statistic - statistic.mean()) / max(float(statistic.std()), 1e-12)
    return out


def combined(statistics: Sequence[Floats]) -> Floats:
    """[rows] the smallest of several tests' p-values, negative: large where any test is.

    Each statistic [rows] is ranked among all rows, the observed one included, so the combination
    is symmetric and its own permutation p-value exact. Rows of one rank in different tests are told
    apart by how far they stand out, or the best of each test would tie.

    Source: Westfall and Young 1993, "Resampling-based multiple testing", min-P.
    """
    rows = len(statistics[0])
    least = np.ones(rows)
    for values in statistics:
        ordered = np.sort(values)
        above = rows - np.searchsorted(ordered, values, side="left")
        middle = np.median(values)
        far = np.maximum(values - middle, 0.0) / max(float(values.std()), 1e-12)
        np.minimum(least, (above - 0.999 * far / (1 + far)) / rows, out=least)
    return -least


def mean_discrepancy(groups: Groups, components: Floats) -> Floats:
    """[1 + B] unbiased squared maximum mean discrepancy, averaged over pairs of groups and strata.

    The kernel is the mean of three Gaussians at half, once and twice the median distance of all
    volumes, whatever their group. Pairs of volumes of one subject are left out.

    Args:
        groups: with their permutations.
        components: [N, P] features on one scale.

    Source: Gretton, Borgwardt, Rasch, Scholkopf and Smola 2012, "A kernel two-sample test", eq. 3.
    """
    squared = (components**2).sum(axis=1)
    distance = np.maximum(squared[:, None] + squared - 2 * components @ components.T, 0.0)
    other = groups.subjects[:, None] != groups.subjects
    scale = float(np.median(distance[other])) or 1.0
    kernel = sum(np.exp(-distance / (2 * f * f * scale)) for f in (0.5, 1.0, 2.0)) / 3
    total, weight = np.zeros(len(groups.codes)), 0.0
    for stratum in range(groups.strata.max() + 1):
        at = groups.strata == stratum
        values = np.where(other[np.ix_(at, at)], kernel[np.ix_(at, at)], 0.0).astype(np.float32)
        codes, who = groups.codes[:, at], np.unique(groups.subjects[at], return_inverse=True)[1]
        inside = [k for k in range(len(groups.names)) if (codes[0] == k).sum() > 1]
        members = {k: (codes == k).astype(np.float32) for k in inside}
        through = {k: members[k] @ values for k in inside}
        people = np.equal.outer(np.arange(who.max() + 1), who).astype(np.float32)
        each = {k: members[k] @ people.T for k in inside}  # volumes of each subject in a group
        mean = {}
        for i, a in enumerate(inside):
            for b in inside[i:]:
                pairs = each[a].sum(axis=1) * each[b].sum(axis=1) - (each[a] * each[b]).sum(axis=1)
                mean[a, b] = (through[a] * members[b]).sum(axis=1) / np.maximum(pairs, 1.0)
        for a, b in mean:
            if a != b:
                total += at.sum() * (mean[a, a] + mean[b, b] - 2 * mean[a, b])
                weight += at.sum()
    if not weight:
        raise AuditError("maximum mean discrepancy: no stratum holds two volumes of two groups")
    return total / weight
