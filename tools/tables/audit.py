"""Tables of the audit's sizes and powers, from bench/results/audit/."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.tables.markdown import table

__all__ = ["RENDERERS", "SIZE_HEADER", "holm_of", "size_row"]

STUDIES = ("permutation", "exchange", "copies", "few_copies")  # in the order of the page
SITE_TESTS = (
    "sites: classifier",
    "sites: mean discrepancy",
    "sites: named statistics, max-T",
    "sites: combined (min-P)",
    "marks: max-T over voxels",
    "regions: corners and border",
    "files: max-T over fields",
    "amplification: studentised",
)
CHANGES = (
    *("flip", "rotate", "scale", "elastic", "harmless change", "margin smoothed away"),
    *("only the core kept", "lesion erased", "lesion erased in 5%", "lesion erased in 10%"),
    *("lesion erased in 20%", "lesion erased in 50%"),
)
SIZES = ("smallest third", "middle third", "largest third", "all", "worst split")


def _rows(files: list[Any]) -> list[dict[str, Any]]:
    return [row for file in files for row in file["rows"]]


def holm_of(rows: list[dict[str, Any]]) -> dict[int, float]:
    """Place of each row -> p of so many rejections, adjusted over all rows."""
    order = sorted(range(len(rows)), key=lambda i: float(rows[i]["p_above"]))
    adjusted, largest = {}, 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(rows) - rank) * float(rows[i]["p_above"])))
        adjusted[i] = largest
    return adjusted


def size_row(row: dict[str, Any], holm: str) -> list[str]:
    """Cells of one test, under `SIZE_HEADER`."""
    return [
        row["test"],
        row["data"],
        f"{row['volumes_per_subject']}",
        f"{row['nominal']:.0%}".replace("%", " %"),
        f"{row['rejected']} of {row['nulls']}",
        f"{100 * row['rate']:.2f} %",
        f"{100 * row['upper_95']:.2f} %",
        holm,
    ]


SIZE_HEADER = (
    *("test", "data", "volumes per subject", "nominal", "rejected", "rate", "upper 95 %"),
    "p, Holm",
)


def sizes(files: list[Any]) -> list[str]:
    """How often each test of one question rejects where nothing is wrong."""
    rows = [row for study in STUDIES for row in _rows(files) if row.get("study") == study]
    study = [row for row in rows if row["test"] != "share nearest to training"]
    shares = [row for row in rows if row["test"] == "share nearest to training"]
    place = next(i for i, row in enumerate(study) if row["study"] == "copies")
    rows = [*study[:place], *shares, *study[place:]]
    holm = holm_of(rows)
    return table(SIZE_HEADER, [size_row(row, f"{holm[i]:.2f}") for i, row in enumerate(rows)])


def intervals(files: list[Any]) -> list[str]:
    """How often a 95 % interval misses the truth."""
    rows = [row for row in _rows(files) if row.get("study") == "interval"]
    return table(SIZE_HEADER, [size_row(row, "") for row in rows])


def site_sizes(files: list[Any]) -> list[str]:
    """Shares rejected by volumes a patient and nominal size."""
    found = {
        (row["test"], row["volumes_per_subject"], row["level"]): row["rejections"] / row["runs"]
        for row in _rows(files)
    }
    counts = ("1", "2", "4", "1 or 4, tied")
    cells = [(volumes, level) for volumes in counts for level in (0.01, 0.05)]
    header = ["test"]
    for volumes in counts:
        header += [f"{volumes} a patient, 1 %", "5 %"]
    return table(
        header,
        [
            [test, *(f"{found[test, *c]:.3f}" if (test, *c) in found else "-" for c in cells)]
            for test in SITE_TESTS
        ],
    )


def _power_grid(files: list[Any], name: str, key: str, head: str) -> list[str]:
    rows = [row for row in _rows(files) if row["table"] == name]
    counts = sorted({row["subjects"] for row in rows})
    found = {(row[key], row["subjects"]): row for row in rows}
    return table(
        [head, *(f"{count} patients" for count in counts)],
        [
            [f"{value}"]
            + [
                f"{found[value, n]['found']:.2f} ({found[value, n]['found_strict']:.2f})"
                for n in counts
            ]
            for value in sorted({row[key] for row in rows})
        ],
    )


def site_power(files: list[Any]) -> list[str]:
    """An offset between sites: found at 5 % (0.25 %)."""
    return _power_grid(files, "sites", "d", "d")


def file_power(files: list[Any]) -> list[str]:
    """A header field that goes with the label: found at 5 % (0.25 %)."""
    return _power_grid(files, "files", "agreement", "agreement")


def mark_power(files: list[Any]) -> list[str]:
    """A mark on one of two scanners."""
    header = ["grid", "agreement with the label", "runs", "found at 5 %", "at 0.25 %"]
    return table(
        [*header, "all hits inside the mark"],
        [
            [
                row["voxels"],
                f"{row['agreement']:.0%}",
                f"{row['runs']}",
                f"{row['found']:.2f} ({row['interval'][0]:.2f} to {row['interval'][1]:.2f})",
                f"{row['found_strict']:.2f}",
                f"{row['hits_inside']:.0%} of runs with hits",
            ]
            for row in _rows(files)
            if row["table"] == "marks"
        ],
    )


def label_power(files: list[Any]) -> list[str]:
    """Rejected / certified, by change and patients."""
    found = {(row["change"], row["subjects"]): row for row in _rows(files)}
    counts = sorted({row["subjects"] for row in _rows(files)})
    return table(
        ["change", *(f"{count}" for count in counts)],
        [
            [change]
            + [
                f"{found[change, n]['refuted']:.3f} / {found[change, n]['certified']:.3f}"
                for n in counts
            ]
            for change in CHANGES
        ],
    )


def copy_power(files: list[Any]) -> list[str]:
    """One copy with noise among a thousand volumes, as the study's rows have it."""
    return table(
        ["data", "copy", "size", "found", "power", "95 % interval"],
        [
            [
                *(row["data"], row["copy"], row["size"]),
                f"{row['found']} of {row['runs']}",
                f"{row['power']:.2f}",
                f"{row['low']:.2f}-{row['high']:.2f}",
            ]
            for row in _rows(files)
        ],
    )


def encoder_power(files: list[Any]) -> list[str]:
    """Planted copies that each search finds, and those that an encoder's features find."""
    rows = _rows(files)
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    kinds = dict.fromkeys((row["data"], row["copies"]) for row in rows)
    found = {(row["data"], row["copies"], row["arm"]): row for row in rows}
    return table(
        ["data", "copies", *arms],
        [
            [*kind, *(f"{found[*kind, a]['found']} of {found[*kind, a]['of']}" for a in arms)]
            for kind in kinds
        ],
    )


def quality_power(files: list[Any]) -> list[str]:
    """Faults planted in a generated set: what the questions of quality made of each."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in _rows(files):
        rows.setdefault((row["fault"], row["strength"]), []).append(row)
    lines = []
    for (fault, strength), own in rows.items():
        by: dict[str, int] = {}
        counts = dict.fromkeys(("runs", "found", "cannot tell", "pass"), 0)
        for row in own:
            row = row | {"found": row["fail"] + row["warn"]}
            if row["finding"] == "any":  # one of each setting
                counts = {name: counts[name] + row[name] for name in counts}
            elif row["found"]:
                name = row["finding"].split(".")[1]
                by[name] = by.get(name, 0) + row["found"]
        named = ", ".join(f"{name} {count}" for name, count in by.items())
        lines.append([fault, strength, *map(str, counts.values()), named])
    header = ["fault", "strength", "sets", "found", "cannot tell", "passed", "found by"]
    return table(header, lines)


QUESTIONS = ("repetition", "kinds", "spectrum", "distance", "diversity", "coverage")
FAMILIES = ("fields", "lung", "head")


def quality_sizes(files: list[Any]) -> list[str]:
    """Alarms of each question of quality where nothing is wrong, by family of data."""
    rows = [row for row in _rows(files) if "p_above" in row]
    corrected = holm_of(rows)
    found = {
        (row["finding"].split(".")[1], row["volumes"], row["family"]): (row, corrected[i])
        for i, row in enumerate(rows)
    }
    lines = []
    for question in QUESTIONS:
        for volumes in sorted({row["volumes"] for row in rows}):
            cells = [found[question, volumes, family] for family in FAMILIES]
            lines.append(
                [question, f"{volumes}", f"{100 * cells[0][0]['nominal']:g} %"]
                + [f"{row['fail'] + row['warn']} of {row['runs']}" for row, _ in cells]
                + [f"{min(p for _, p in cells):.2f}"]
            )
    return table(["question", "volumes a patient", "nominal", *FAMILIES, "p, Holm"], lines)


def lesion_axes(files: list[Any]) -> list[str]:
    """The axis of quality.kinds that goes best with the size of the lesion, within a class."""
    return table(
        ["family", "class", "best axis", "correlation", "people"],
        [
            [
                *(row["family"], row["class"], row["axis"]),
                f"{row['correlation']:.2f}",
                f"{row['people']}",
            ]
            for row in _rows(files)
        ],
    )


def lesion_reader(files: list[Any]) -> list[str]:
    """What a network reads of the size of lesions, within a class."""
    rows = {(row["family"], row["class"]): row["correlation"] for row in _rows(files)}
    classes = list(dict.fromkeys(name for _, name in rows))
    families = list(dict.fromkeys(family for family, _ in rows))
    return table(
        ["correlation, within", *families],
        [[name, *(f"{rows[family, name]:.2f}" for family in families)] for name in classes],
    )


def generated_labels(files: list[Any]) -> list[str]:
    """What is said of generated labels, by how many are wrong and how clear the volumes are."""
    verdicts = ("fail", "warn", "cannot tell", "pass")
    return table(
        [
            "AUC",
            "volumes a patient",
            "swapped",
            "clarity",
            "patients' own wrong",
            "runs",
            *verdicts,
        ],
        [
            [
                *(str(row["auc"]), str(row["volumes"]), f"{row['swapped']:.0%}"),
                *(str(row["clarity"]), f"{row['own_wrong']:.0%}", str(row["runs"])),
                *(f"{row[v]:.2f}" for v in verdicts),
            ]
            for row in _rows(files)
        ],
    )


RENDERERS: dict[str, Callable[[list[Any]], list[str]]] = {
    "sizes": sizes,
    "intervals": intervals,
    "site_sizes": site_sizes,
    "site_power": site_power,
    "file_power": file_power,
    "mark_power": mark_power,
    "label_power": label_power,
    "copy_power": copy_power,
    "encoder_power": encoder_power,
    "quality_power": quality_power,
    "quality_sizes": quality_sizes,
    "lesion_axes": lesion_axes,
    "lesion_reader": lesion_reader,
    "generated_labels": generated_labels,
}
