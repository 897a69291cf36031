"""These are the tables of the judgement of memorization."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastgan.arrays import Bools, Floats, Integers
from fastgan.audit.evidence import Evidence
from fastgan.audit.judgement import Table
from fastgan.audit.likeness.copy_search import Found
from fastgan.audit.likeness.moves import MIRRORS
from fastgan.audit.likeness.outliers import ratio
from fastgan.audit.memorization.power import LEVELS, THIRDS, CopyPower
from fastgan.audit.memorization.search import Searched
from fastgan.audit.statistics import area_under_curve, clopper_pearson

__all__ = ["context", "flag_table", "least_power", "power_tables"]

_LISTED = 20
# A critic's own augmentation does the same more strongly, under another name.
_STRONGER = {"mirrored": "flip", "flip": "mirror", "intensity": "contrast"}


def least_power(power: CopyPower) -> dict[str, float]:
    """Lower bound of the power to find one copy: by noise, then by change."""
    found = {f"noise {level:g}": flags for level, flags in power.noise.items()} | power.changes
    return {
        name: clopper_pearson(int(np.count_nonzero(flags)), flags.size)[0]
        for name, flags in found.items()
    }


def flag_table(
    data: Searched,
    near: Sequence[Found],
    which: Integers,
    single: Floats,
    r: Floats,
    flagged: Integers,
) -> tuple[Table, ...]:
    """Flagged volumes [K], the most suspicious first.

    Args:
        data: positions of generated volumes.
        near: neighbours by each search.
        which: [G] the search by which each volume is the most suspicious.
        single: [G] p-values.
        r: [G] ratios by those searches.
        flagged: [K] positions.
    """
    if not len(flagged):
        return ()
    rows = []
    for i in flagged[:_LISTED]:
        found = near[int(which[i])]
        mirror = MIRRORS[int(found.mirror[i, 0])]
        axes = " ".join(axis for axis, on in zip("DHW", mirror, strict=True) if on)
        p = min(1.0, len(single) * float(single[i]))
        number = int(data.generated[i])
        rows.append(
            (
                number,
                int(data.training_volume[found.index[i, 0]]),
                round(float(r[i]), 3),
                f"{p:.1e}",
                axes,
            )
        )
    return (
        Table(
            "Generated volumes that look copied",
            ("generated volume", "training volume", "ratio", "p, corrected", "mirrored along"),
            tuple(rows),
            f"{len(flagged)} in all; numbers count from 0 in the order of the audit.",
        ),
    )


def power_tables(power: CopyPower | None, evidence: Evidence) -> tuple[Table, ...]:
    """Shares of planted copies that were found."""
    if power is None:
        return ()

    def cell(found: Bools) -> str:
        hits = int(np.count_nonzero(found))
        low, high = clopper_pearson(hits, found.size)
        return f"{hits / found.size:.2f} [{low:.2f}, {high:.2f}]"

    runs = next(iter(power.changes.values())).size
    noise = tuple(
        (f"{level:g}", *(cell(row) for row in found), cell(found))
        for level, found in power.noise.items()
    )
    used = set(evidence.augmentations or ())
    changes = tuple(
        (kind, "yes" if {kind, _STRONGER.get(kind)} & used else "no", cell(found))
        for kind, found in power.changes.items()
    )
    note = f"Share found [95 % interval] of {runs} planted runs a cell, one copy in each."
    by_change = Table(
        f"Planted copies that were changed, with noise {LEVELS[0]:g}",
        ("change", "used in training", "found"),
        changes,
        note,
    )
    if not noise:
        return (by_change,)
    thirds = f"{note} Each third has a third of the runs."
    by_noise = Table("Planted copies by noise and size", ("noise", *THIRDS, "all"), noise, thirds)
    return by_noise, by_change


def context(data: Searched) -> Table:
    """Measures that others report."""
    made, held = data.of_generated.plain.distance, data.of_holdout.plain.distance
    a, b = made[:, 0], held[:, 0]
    z = (area_under_curve(a, b) - 0.5) / np.sqrt((len(a) + len(b) + 1) / (12 * len(a) * len(b)))
    return Table(
        "Common measures, for context",
        ("measure", "value", "what it misses"),
        (
            (
                "C_T, one cell",
                round(-float(z), 2),
                "below -2 reads as copying; it does not move for one copy in a hundred, and falls "
                "for a generator of too little variety",
            ),
            (
                "distance to closest record, median over that of held-out volumes",
                round(float(np.median(a) / np.median(b)), 3),
                "below 1 reads as copying; does not move for few copies",
            ),
            (
                "the same, 5 % quantile",
                round(float(np.quantile(a, 0.05) / np.quantile(b, 0.05)), 3),
                "does not move for one copy in a thousand",
            ),
            (
                "ratio of nearest to next distances, median",
                round(float(np.median(ratio(made))), 3),
                f"{np.median(ratio(held)):.3f} for held-out volumes; says nothing of single copies",
            ),
        ),
        "C_T: Meehan, Chaudhuri and Dasgupta 2020, with the whole space as one cell; volumes count "
        "as independent. None of these decides a verdict.",
    )
