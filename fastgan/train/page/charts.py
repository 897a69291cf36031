"""Which figures stand in one chart, and what each chart shows to someone who reads no papers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from fastgan.config import Config
from fastgan.pictures.curves import Level

__all__ = ["Chart", "charts_of"]

GIBIBYTE = 2.0**30
AT_REST = {
    "hinge": "The critic's loss is 2 when it can tell nothing apart.",
    "minimax": "The critic's loss is 1.39 when it can tell nothing apart.",
    "non-saturating": "The critic's loss is 1.39 when it can tell nothing apart.",
    "least-squares": "The critic's loss is 0.25 when it can tell nothing apart.",
}
SLOPES = {
    "wgan-gp": "Good: a little above 1. Bad: far above 1 (raise the penalty's weight) or far below "
    "(the critic lags behind).",
    "r1": "Good: it settles. Bad: it keeps growing: the critic becomes too steep to learn from.",
    "r2": "Good: it settles. Bad: it keeps growing: the critic becomes too steep to learn from.",
}


@dataclass(frozen=True)
class Chart:
    """One chart of the page.

    Attributes:
        key: names it in links.
        title: above it.
        caption: what it shows, what good and bad look like.
        names: pattern of names in metrics.jsonl -> how a match is called.
        metrics: name in metrics.jsonl -> name for people, of a run.
        levels: to compare with.
        span: ends of the axis that are shown at least.
        unit: divides the values.
    """

    key: str
    title: str
    caption: str
    names: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)
    levels: tuple[Level, ...] = ()
    span: tuple[float | None, float | None] = (None, None)
    unit: float = 1.0


def charts_of(names: Iterable[str], config: Config) -> list[Chart]:
    """Charts for the figures of a run, each figure in one; what no rule knows comes last.

    Args:
        names: as in metrics.jsonl.
        config: of the run.
    """
    left = list(dict.fromkeys(names))
    charts = []
    for chart in _known(config):
        found = {name: called for name in left if (called := _called(name, chart)) is not None}
        if found:
            left = [name for name in left if name not in found]
            charts.append(replace(chart, metrics=found))
    return charts + _remaining(left)


def _called(name: str, chart: Chart) -> str | None:
    """How a figure is called in a chart; None where it does not belong."""
    for pattern, called in chart.names.items():
        if match := re.fullmatch(pattern, name):
            return match.expand(called).strip()
    return None


def _remaining(names: list[str]) -> list[Chart]:
    """What no rule takes, a chart per phase."""
    caption = (
        "Figures of this kind of network, under the names they have in metrics.jsonl. A sudden "
        "jump is worth a look at the pictures of that step."
    )
    phases = dict.fromkeys(name.rpartition("/")[0].partition("/")[0] for name in names)
    charts = []
    for phase in phases:
        own = [name for name in names if name.rpartition("/")[0].partition("/")[0] == phase]
        metrics = {name: name.removeprefix(f"{phase}/") for name in own}
        title = f"More of the {phase}" if phase else "More figures"
        charts.append(Chart(f"more-{phase or 'figures'}", title, caption, metrics=metrics))
    return charts


def _known(config: Config) -> list[Chart]:
    """In the order of the page."""
    return [*_of_the_game(config), *_of_variety(), *_of_translation(), *_of_the_machine()]


def _of_the_game(config: Config) -> list[Chart]:
    penalty = config.gan.penalty
    # A cyclegan's loss is a sum over two critics.
    alone = not config.translates
    rest = (
        f" {AT_REST[objective]}" if alone and (objective := config.gan.objective) in AT_REST else ""
    )
    return [
        Chart(
            "losses",
            "Losses",
            "What each network is made to keep small. Good: after the first stretch each wanders "
            f"about a level. Bad: one runs away and does not come back.{rest} Their height says "
            "nothing of how real the volumes look.",
            names={r"([^/]+)/loss": r"\1"},
        ),
        Chart(
            "wasserstein",
            "Distance of generated from real volumes",
            "The critic's estimate of the Wasserstein distance. Good: it rises at first, then "
            "falls. Bad: it keeps rising. It compares steps of one run, not runs.",
            span=(0.0, None),
            names={r"critic/wasserstein": "estimate"},
        ),
        Chart(
            "divergence",
            "How well the critic tells generated from real",
            "A divergence by the critic's own account: 0, it can tell nothing apart; at the top, "
            "it tells every volume. Good: it rises, then falls below the top. Bad: it sticks to "
            "the top, for then the generator learns nothing more.",
            span=(0.0, None),
            levels=(Level(0.693, "all told apart"),),
            names={r"critic/jensen_shannon(?:_([AB]))?": r"Jensen-Shannon \1"},
        ),
        Chart(
            "share-apart",
            "How well the critic tells generated from real",
            "A divergence by the critic's own account: 0, it can tell nothing apart; 1, it tells "
            "every volume. Good: it rises, then falls below 1. Bad: it sticks to 1, for then the "
            "generator learns nothing more.",
            span=(0.0, 1.0),
            names={
                r"critic/total_variation(?:_([AB]))?": r"total variation \1",
                r"critic/le_cam(?:_([AB]))?": r"Le Cam \1",
            },
        ),
        Chart(
            "scores",
            "The critic's scores",
            "What the critic gives to real and to generated volumes on average; its scale is its "
            "own. Good: the curves stay near each other. Bad: they part further and further: the "
            "critic has won, or knows the training volumes by heart.",
            names={
                r"critic/score_real(?:_([AB]))?": r"real \1",
                r"critic/score_fake(?:_([AB]))?": r"generated \1",
            },
        ),
        Chart(
            "certainty",
            "How sure the critic is",
            "1: taken for real, 0: taken for generated. Good: both near 1/2 in the end. Bad: real "
            "at 1 and generated at 0 for long: the critic has won.",
            span=(0.0, 1.0),
            levels=(Level(0.5, "cannot tell"),),
            names={
                r"critic/d_real(?:_([AB]))?": r"real \1",
                r"critic/d_fake(?:_([AB]))?": r"generated \1",
            },
        ),
        Chart(
            "margins",
            "Volumes the critic is done with",
            "Share of the volumes that it scores right with the whole margin. Good: well below 1. "
            "Bad: both at 1: nothing is left to learn from.",
            span=(0.0, 1.0),
            names={
                r"critic/margin_real(?:_([AB]))?": r"real \1",
                r"critic/margin_fake(?:_([AB]))?": r"generated \1",
            },
        ),
        Chart(
            "slope",
            "Slope of the critic",
            "How steeply the critic's score changes with the volume (norm of its gradient). "
            + SLOPES.get(penalty, "Good: it settles. Bad: it keeps growing."),
            levels=(Level(1.0, "wanted: about 1"),) if penalty == "wgan-gp" else (),
            names={r"critic/gradient_norm": "slope"},
        ),
        Chart(
            "balance",
            "Is the critic trained enough?",
            "The quotient of two sides of an identity that holds for a critic at its best. Good: "
            "near 1. Bad: far from 1 for long: more critic steps, or a higher rate for the critic.",
            levels=(Level(1.0, "critic at its best"),),
            names={r"critic/balance_ratio": "balance"},
        ),
    ]


def _of_variety() -> list[Chart]:
    return [
        Chart(
            "likeness",
            "How alike the volumes of a batch are",
            "0: unrelated, 1: copies of one volume. Good: generated ones are about as alike as "
            "real ones. Bad: generated far above real: the generator repeats itself.",
            span=(0.0, 1.0),
            names={
                r"critic/similarity_real": "real",
                r"critic/similarity_fake": "generated",
                r"critic/similarity_real/(.+)": r"real, \1",
                r"critic/similarity_fake/(.+)": r"generated, \1",
            },
        ),
        Chart(
            "collapse",
            "Variety lost",
            "Share of the real volumes' variety that the generated ones lack. Good: low, with "
            "single peaks. Bad: it stays near 1: one volume over and over (mode collapse).",
            span=(0.0, 1.0),
            names={r"critic/collapse": "lost", r"critic/collapse/(.+)": r"\1"},
        ),
        Chart(
            "classes",
            "Real minus generated score, by class",
            "How easily the critic tells the volumes of each class apart. Good: all classes alike. "
            "Bad: one far above the others: its volumes are the worst made.",
            names={r"critic/score_gap/(.+)": r"\1"},
        ),
    ]


def _of_translation() -> list[Chart]:
    return [
        Chart(
            "cycle",
            "Error after the way there and back",
            "Mean difference between a volume and itself after both translators. Good: it falls. "
            "It says little alone: a translator that does nothing has none.",
            span=(0.0, None),
            names={r"generator/cycle_([AB])": r"of \1"},
        ),
        Chart(
            "adversarial",
            "How well translations pass",
            "The translators' part of the loss that the critics give. Good: it stays between its "
            "ends. Bad: it keeps rising: the critics win.",
            span=(0.0, None),
            names={r"generator/adversarial_([AB])([AB])": r"\1 to \2"},
        ),
        Chart(
            "identity",
            "Change of volumes that need none",
            "Mean difference that a translator makes to a volume of its own target domain. Good: "
            "it falls.",
            span=(0.0, None),
            names={r"generator/identity_([AB])": r"of \1"},
        ),
        Chart(
            "patches",
            "Distance of translations from real volumes",
            "Distance between small patches of translations and of real volumes. Good: it falls. "
            "Restarts can be compared by it, on the same volumes.",
            span=(0.0, None),
            names={r"pictures/patch_distance_([AB])([AB])": r"\1 to \2"},
        ),
        Chart(
            "structure",
            "Is the patient's anatomy kept?",
            "Overlap of the body before and after translation (Dice), and whether the body is "
            "brighter than the air around it. Good: near 1. Bad: below 0.9 the body was moved, "
            "grown or cut; below 0.5 the contrast is turned round.",
            span=(0.0, 1.0),
            names={
                r"pictures/body_dice_([AB])([AB])": r"body kept, \1 to \2",
                r"pictures/background_order_([AB])([AB])": r"air darker, \1 to \2",
            },
        ),
        Chart(
            "edges",
            "Do edges stay where they are?",
            "Agreement of edges and of grey values before and after translation, blind to a change "
            "of contrast. Good: high and steady. Bad: it falls: structure is invented or erased.",
            names={
                r"pictures/edge_correlation_([AB])([AB])": r"edges, \1 to \2",
                r"pictures/mutual_information_([AB])([AB])": r"grey values, \1 to \2",
            },
        ),
        Chart(
            "structure-alarms",
            "Volumes with an alarm",
            "Share of the pictured volumes whose contrast came out inverted, or whose body "
            "drifted. Good: 0. Bad: anything else.",
            span=(0.0, 1.0),
            names={r"pictures/alarm/(.+)_([AB])([AB])": r"\1, \2 to \3"},
        ),
    ]


def _of_the_machine() -> list[Chart]:
    return [
        Chart(
            "speed",
            "Speed",
            "Real volumes a second. Good: level. Bad: it sinks: another program uses the machine, "
            "or memory runs short.",
            span=(0.0, None),
            names={r"volumes_per_second": "volumes a second"},
        ),
        Chart(
            "data-wait",
            "Waiting for data",
            "Share of the time in which a step waited for its volumes. Good: below 0.02. Bad: "
            "more: volumes are read or augmented more slowly than the networks take them.",
            span=(0.0, 1.0),
            names={r"data_wait": "share"},
        ),
        Chart(
            "memory",
            "Memory",
            "GiB at the highest so far: of the graphics card, or of the process on a CPU. Good: "
            "level. Bad: it keeps climbing: the run will not reach its end.",
            span=(0.0, None),
            unit=GIBIBYTE,
            names={r"memory": "GiB"},
        ),
        Chart(
            "skipped",
            "Updates left out",
            "Updates so far that were left out because a number was not finite. Good: none. Bad: "
            "more and more.",
            span=(0.0, None),
            names={r"skipped/(.+)": r"\1"},
        ),
    ]
