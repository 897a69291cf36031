"""What the cards say of a generator and its data, each with who says so, and what is not known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastgan.audit.evidence import Cohort, Evidence
from fastgan.audit.leakage.file_fields import file_fields
from fastgan.audit.report.fact import NOBODY, NOT_KNOWN, Fact, Facts
from fastgan.config import BUNDLED, Config
from fastgan.errors import AuditError

__all__ = ["facts_of", "facts_of_foreign", "named_source"]

RUN, AUDITOR, COUNTED = "the run's configuration", "whoever ordered this audit", "this audit"
LIDC_ATTRIBUTION = (
    "Derived from radiologists' annotations of LIDC-IDRI (CC BY 3.0), DOI "
    "10.7937/K9/TCIA.2015.LO9QL9SX; Armato et al. 2011, DOI 10.1118/1.3528204; Clark et al. 2013, "
    "DOI 10.1007/s10278-013-9622-7. Consensus masks resampled from contours: shapes, not CT, and "
    "malignancy is opinion, not pathology. Pass this attribution on."
)


def facts_of(config: Config, evidence: Evidence) -> Facts:
    """Of a run of this package."""
    config = config.settled()
    model, gan, train = config.model, config.gan, config.train
    said = (
        ("variant", gan.variant),
        ("networks", model.translator if config.translates else model.architecture),
        ("objective", str(gan.objective)),
        ("penalty", f"{gan.penalty}, weight {gan.penalty_weight:g}"),
        ("steps", str(train.steps)),
        ("batch size", str(train.batch_size)),
        ("precision", train.precision),
        ("seed", str(config.seed)),
        ("augmentation", ", ".join(evidence.augmentations or ()) or "none"),
    )
    return Facts(
        config.name,
        tuple(Fact(what, value, RUN) for what, value in said),
        (
            *_data(config, RUN),
            Fact("held out", f"{config.data.holdout:.0%} of the subjects", RUN),
            *_marked(evidence.generated),
        ),
        _attribution(config),
    )


def facts_of_foreign(config: Config, evidence: Evidence) -> Facts:
    """Of volumes of another program: only what whoever ordered the audit said of the data."""
    unknown = ("program", "networks", "objective", "steps", "batch size", "seed", "augmentation")
    return Facts(
        evidence.about.get("generated", "another program"),
        tuple(Fact(what, NOT_KNOWN, NOBODY) for what in unknown),
        (
            *_data(config, AUDITOR),
            Fact(
                "held out",
                f"{config.data.holdout:.0%} of the subjects; whether the program kept to it is "
                f"{NOT_KNOWN}",
                AUDITOR,
            ),
            *_marked(evidence.generated),
        ),
        _attribution(config),
    )


def named_source(config: Config) -> str:
    """What data a configuration names, without the place where they lie."""
    return Path(config.data.source).name


def _data(config: Config, by: str) -> tuple[Fact, ...]:
    return (
        Fact("source", named_source(config), by),
        Fact("conditional", "yes" if config.data.conditional else "no", by),
    )


def _attribution(config: Config) -> str:
    return LIDC_ATTRIBUTION if config.data.source == BUNDLED else ""


def _marked(generated: Cohort | None) -> tuple[Fact, ...]:
    """How many generated files say in their header that they are synthetic."""
    if generated is None or not generated.files:
        return ()
    said = sum(text.startswith("synthetic") for text in _descriptions(generated.files))
    return (Fact("headers that say synthetic", f"{said} of {len(generated)} files", COUNTED),)


def _descriptions(files: Sequence[Path]) -> list[str]:
    try:
        return [str(text) for text in file_fields(files).get("descrip", [])]
    except AuditError:  # unreadable now: then no header says so
        return []
