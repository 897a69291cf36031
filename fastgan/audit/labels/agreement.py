"""These tables say how often the classifier and the labels of generated volumes agree."""

from __future__ import annotations

import numpy as np

from fastgan.arrays import Integers
from fastgan.audit.evidence import Cohort, Evidence
from fastgan.audit.judgement import Table
from fastgan.audit.labels.instrument import Instrument, sizes, strata
from fastgan.audit.labels.noise import Clear, Noise, Reader

__all__ = ["agreement", "at_equal_sizes"]

FEW = 5  # volumes of a stratum, below which it says nothing


def agreement(real: Reader, made: Clear, bounds: Noise, classes: tuple[str, ...]) -> Table:
    """How generated volumes are read, beside patients, by the class that they are labelled with."""
    rows = tuple(
        (
            name,
            f"{made.clear[c]} of {made.counts[c]} ({1 - real.unclear[c]:.0%} of patients)",
            f"{made.disagree[c]}",
            f"{real.misread[c]:.1%} (worth {real.misread_size[c]:.0f} volumes)",
            f"{real.taken[c]:.1%}",
            f"{bounds.share[c]:.1%}",
            f"{bounds.low[c]:.1%} to {bounds.high[c]:.1%}",
        )
        for c, name in enumerate(classes)
    )
    return Table(
        "Is the label what the classifier sees?",
        (
            "label",
            "generated, read clearly",
            "read as another",
            "patients read as another",
            "others taken for it",
            "wrong labels",
            "bounds (95 % each)",
        ),
        rows,
        note="Among volumes that are read clearly; generated ones may be clearer than patients.",
    )


def at_equal_sizes(
    evidence: Evidence, tool: Instrument, generated: Cohort, said: Integers, real_said: Integers
) -> Table:
    """Agreement of patients brought to the sizes of generated volumes of the same class."""
    holdout = evidence.holdout
    truth, asked = np.asarray(holdout.labels), np.asarray(generated.labels)
    real_size = sizes(holdout.values, evidence.modality)
    edges = np.quantile(real_size, np.arange(1, 5) / 5)
    ours, theirs = (
        strata(sizes(generated.values, evidence.modality), edges),
        strata(real_size, edges),
    )
    rows = []
    for c, name in enumerate(evidence.classes):
        weight, seen, drawn = [], [], []
        for s in range(5):
            patients = (truth == c) & (theirs == s)
            made = (asked == c) & (ours == s)
            if min(patients.sum(), made.sum()) < FEW:
                continue
            weight.append(int(made.sum()))
            seen.append(float((real_said[patients] == c).mean()))
            drawn.append(float((said[made] == c).mean()))
        covered = sum(weight) / max(1, int((asked == c).sum()))
        if not weight:
            rows.append((name, "no sizes in common", "", f"{covered:.0%}"))
            continue
        rows.append(
            (
                name,
                f"{np.average(seen, weights=weight):.1%}",
                f"{np.average(drawn, weights=weight):.1%}",
                f"{covered:.0%}",
            )
        )
    return Table(
        "The same at equal sizes",
        ("label", "patients that agree", "generated that agree", "generated compared"),
        tuple(rows),
        note=(
            f"In fifths of size with at least {FEW} volumes of each, weighted by the generated. "
            f"Size alone has an AUC of {tool.size_area:.2f}; among like sizes the classifier has "
            f"{tool.within_size:.2f}."
        ),
    )
