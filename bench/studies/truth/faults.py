"""The table of faults: what is planted, how strongly, and which questions should notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bench.studies.truth import copies, generators, hospitals
from bench.studies.truth.worlds import Setting, World
from fastgan.audit.evidence import Evidence

__all__ = ["FAULTS", "Fault"]

Kind = Literal["serious", "weak", "clean", "innocent"]


@dataclass(frozen=True)
class Fault:
    """A fault of known strength in a data set that has no other."""

    name: str
    strength: str
    make: Callable[[World], Evidence]
    targets: tuple[str, ...]
    """Beginnings of the keys of findings that should notice; of an innocent set, must not."""
    kind: Kind = "serious"
    """serious: never a pass. weak: found as often as is claimed. clean: nothing may fail.
    innocent: what is planted is no fault of what the targets judge, so they may not fail."""
    fits: Callable[[Setting], bool] = lambda setting: True

    @property
    def judgements(self) -> tuple[str, ...]:
        """What of the audit runs; () is all of it."""
        return tuple(dict.fromkeys(target.split(".")[0] for target in self.targets))


COPIES, SHARE = ("memorization.copies",), ("memorization.prevalence",)
COPIED = ("memorization",)
MEMBERS = ("membership",)
LIKE = ("quality",)
LABELS = ("labels.generated",)
# Of what only a generator does, and of what is in the patients' own volumes.
ADDED = ("shortcuts.amplification", "shortcuts.generated")
MARKED = ("shortcuts.marks", "shortcuts.regions")
TWICE = ("leakage.duplicates", "leakage.near_duplicates")


def _many_sites(setting: Setting) -> bool:
    return setting.sites > 1


def _gain_shows(setting: Setting) -> bool:
    """Each volume's own percentiles take a gain away again."""
    return setting.sites > 1 and setting.window == "fixed"


def _sites_free(setting: Setting) -> bool:
    """Where counts go with the site, sites cannot be dealt anew."""
    return not setting.tied


def _of_patients() -> list[Fault]:
    """Faults of the hospital's own data."""
    twice, other = "listed twice", "training in the hold-out"
    inside = "interior mark of a class, sites known"
    watermark = "watermark of a site that goes with the class"
    by_class = "site that goes with the class, no mark"
    corner = "corner mark of a class, all volumes"
    gain = "gain at one site"
    blamed = "training in the hold-out, blamed on the generator"
    return [
        Fault(gain, "+50 %", hospitals.gain(0.5), ("sites",), fits=_gain_shows),
        Fault(gain, "+20 %", hospitals.gain(0.2), ("sites",), fits=_gain_shows),
        Fault(gain, "+5 %", hospitals.gain(0.05), ("sites",), "weak", _gain_shows),
        Fault(corner, "30 % of the range", hospitals.real_mark("corner", 0.3, 0.95), MARKED),
        Fault(
            inside,
            "30 % of the range",
            hospitals.real_mark("inside", 0.3, 1.0),
            ("shortcuts.marks",),
            fits=_many_sites,
        ),
        Fault(
            watermark,
            "agreement 90 %",
            hospitals.real_mark("site", 0.3, 0.9),
            ("shortcuts.marks",),
            fits=_sites_free,
        ),
        Fault(
            by_class,
            "agreement 90 %",
            hospitals.sites_by_class(0.9),
            ("leakage.sites",),
            fits=_sites_free,
        ),
        Fault(twice, "3 %, and 1 copy", hospitals.listed_twice(0.0, 1), COPIES),
        Fault(twice, "3 %, rescanned, and 1 copy", hospitals.listed_twice(0.02, 1), COPIES),
        Fault(twice, "3 %", hospitals.listed_twice(0.0, 0), TWICE),
        Fault(twice, "3 %, rescanned", hospitals.listed_twice(0.02, 0), TWICE),
        Fault(other, "10 %, and 30 copies", hospitals.leaked(0.0, 30), COPIES),
        Fault(other, "10 %, rescanned, and 30 copies", hospitals.leaked(0.02, 30), COPIES),
        Fault(other, "10 %", hospitals.leaked(0.0, 0), TWICE),
        Fault(other, "10 %, rescanned", hospitals.leaked(0.02, 0), TWICE),
        Fault(blamed, "10 %", hospitals.leaked(0.0, 0), COPIED, "innocent"),
        Fault("wrong labels of patients", "10 %", hospitals.labels_wrong(0.1), LABELS, "innocent"),
    ]


def _of_generator() -> list[Fault]:
    """Faults of what is drawn, other than copying."""
    mark = "corner mark of a class, generated only"
    few = "few distinct volumes"
    missing = "class missing"
    right = "right labels, clearer than patients"
    largest, smallest = "largest lesions missing", "smallest lesions missing"
    between = generators.lesions_between
    board, noise = generators.checkerboard, generators.double_noise
    found = [
        Fault(mark, "50 % of the range", generators.generated_mark(0.5), ADDED),
        Fault(mark, "15 % of the range", generators.generated_mark(0.15), ADDED),
        Fault("corner mark, amplified", "half to all", generators.amplified, ADDED),
        *[Fault(few, f"{n} of 300", generators.collapsed(n), LIKE) for n in (1, 20, 50)],
        Fault(missing, "no labels", generators.class_missing(False), LIKE),
        Fault(missing, "labelled", generators.class_missing(True), LIKE + LABELS),
        Fault(missing, "to a third, no labels", generators.thinned, LIKE),
        Fault(largest, "20 %", between(0.0, 0.8), LIKE),
        Fault(largest, "10 %", between(0.0, 0.9), LIKE, "weak"),
        Fault(smallest, "20 %", between(0.2, 1.0), LIKE),
        Fault(smallest, "10 %", between(0.1, 1.0), LIKE, "weak"),
        Fault("lesions of half the contrast", "all", generators.faint, LIKE),
        Fault("checkerboard", "5 % of the range", generators.drawn(board(0.1)), LIKE),
        Fault("checkerboard", "1.5 % of the range", generators.drawn(board(0.03)), LIKE, "weak"),
        Fault("noise", "double", generators.drawn(noise), LIKE),
        Fault("white cube in every centre", "4^3", generators.drawn(generators.cube), LIKE),
        Fault("smoothed", "1 voxel", generators.drawn(generators.smoothed), LIKE),
        Fault("blank volumes", "15 of 300", generators.blank(15), LIKE),
        Fault(right, "1.3", generators.swapped(0.0, 1.3), LABELS, "innocent"),
    ]
    for share in (0.1, 0.15, 0.3):
        kind: Kind = "weak" if share == 0.1 else "serious"
        for clarity, more in ((1.0, ""), (1.3, ", clearer than patients")):
            make = generators.swapped(share, clarity)
            found.append(Fault("swapped labels", f"{100 * share:g} %{more}", make, LABELS, kind))
    return found


def _of_copying() -> list[Fault]:
    """Faults of a generator that repeats patients."""
    found = []
    for noise in (0.1, 0.2, 0.3, 0.5):
        kind: Kind = "serious" if noise <= 0.2 else "weak"
        make = copies.near_copies(1, noise)
        found.append(Fault("near copy", f"1 of 300, noise {noise:g}", make, COPIES, kind))
    found += [
        Fault("near copy", "60 of 300, noise 0.3", copies.near_copies(60, 0.3), COPIED),
        Fault("near copy", "300 of 300, noise 0.5", copies.near_copies(300, 0.5), SHARE),
    ]
    for count, targets in ((1, COPIES), (300, COPIED)):
        strength = f"{count} of 300"
        found += [
            Fault(f"copy, {name}", strength, copies.changed(name, count), targets)
            for name in copies.CHANGES
        ]
        # One bent volume is looked for and never claimed to be found; a set of them is.
        bent: Kind = "weak" if count == 1 else "serious"
        found += [
            Fault("copy, elastic", strength, copies.elastic(count), targets, bent),
            Fault("copy, half a volume", strength, copies.half_copied(count), targets),
        ]
    return [
        *found,
        Fault("interpolated pairs", "300 of 300", copies.interpolated(300), COPIED),
        Fault("overfitted", "300 of 300", generators.overfitted(1.0), COPIED),
        Fault("overfitted", "150 of 300", generators.overfitted(0.5), COPIED),
        Fault("members given away", "rescans, 300 of 300", generators.overfitted(1.0), MEMBERS),
        Fault("members given away", "rescans, 100 of 300", generators.overfitted(1 / 3), MEMBERS),
    ]


CLEAN = Fault("clean", "", lambda world: world.evidence(), (), "clean")
FAULTS = {
    (fault.name, fault.strength): fault
    for fault in (CLEAN, *_of_patients(), *_of_generator(), *_of_copying())
}
"""By name and strength."""
