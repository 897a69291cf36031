"""Jobs of the study, their cost, and one line of JSON for each that was run."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bench.studies.truth.faults import FAULTS, Fault
from bench.studies.truth.laws import FAMILIES
from bench.studies.truth.worlds import Setting, World
from fastgan.audit.evidence import Options
from fastgan.audit.run import audit

__all__ = ["DESIGN", "SHORT", "Job", "code_digest", "jobs", "outcome", "run", "seconds"]

Line = dict[str, Any]

_AUDIT = Path(__file__).parents[3] / "fastgan" / "audit"

# The families take turns in each. Larger volumes cost more than they teach, so most are of 16^3.
_VARIANTS = (
    Setting("", 16, 200, "1-3", 2, tied=True),
    Setting("", 16, 200, "1", 1, measured=True),
    Setting("", 16, 100, "4", 2),
    Setting("", 16, 200, "1-3", 2, tied=True, clarity=2.0, measured=True),
    Setting("", 24, 200, "1", 2),
    Setting("", 16, 200, "4", 2, tied=True),
    Setting("", 16, 400, "1", 3),
    Setting("", 16, 200, "1", 1, clarity=2.0, measured=True),
    Setting("", 16, 200, "1-3", 3, tied=True),
    Setting("", 16, 200, "1-3", 2, window="percentiles"),
    Setting("", 16, 100, "1-3", 2, tied=True),
    Setting("", 16, 400, "1-3", 2, tied=True),
    Setting("", 32, 200, "1", 2),
    Setting("", 16, 200, "4", 3, tied=True, window="percentiles"),
)
DESIGN = tuple(replace(variant, family=family) for variant in _VARIANTS for family in FAMILIES)
"""Settings in the order in which replicates take them."""

LARGEST_PLANTED = 24
"""Voxels along an axis of the volumes that faults are planted in; clean sets have larger ones."""

SHORT = (
    ("few distinct volumes", "20 of 300"),
    ("white cube in every centre", "4^3"),
    ("near copy", "1 of 300, noise 0.1"),
    ("copy, flipped", "300 of 300"),
    ("listed twice", "3 %, rescanned"),
)
"""Cheap ones, a look at each kind."""

# Core seconds at 16^3, 200 patients of 1 to 3 volumes and 300 generated, as `core_seconds` of the
# lines came out.
_SECONDS = {
    "memorization": 17.0,
    "membership": 3.0,
    "labels": 16.0,
    "leakage": 1.2,
    "shortcuts": 22.0,
    "sites": 10.0,
    "quality": 5.0,
}
_GROWS = {"memorization": 1.0, "membership": 0.2, "labels": 0.9, "shortcuts": 0.5, "quality": 0.5}
"""Exponent of the number of voxels."""


@dataclass(frozen=True)
class Job:
    """One fault in one data set, audited once."""

    name: tuple[str, str]
    """Of FAULTS."""
    setting: Setting
    seed: int
    planted: int = 60

    @property
    def fault(self) -> Fault:
        """What is planted."""
        return FAULTS[self.name]

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two lines the same run."""
        return (self.setting.name, str(self.seed), *self.name, str(self.planted))


def jobs(
    replicates: int,
    *,
    only: str = "",
    family: str = "",
    short: bool = False,
    planted: int = 60,
    sets: int = 0,
) -> Iterator[Job]:
    """Replicate after replicate of every fault, so that a part of the study is balanced.

    Args:
        replicates: data sets of each fault, a tenth as many of weak ones; replicate r has seed r.
        only: beginning of the names of faults; "" takes all.
        family: of `FAMILIES`; "" takes all.
        short: the faults of SHORT and clean sets alone.
        planted: planted runs behind each point of the audit's power curves.
        sets: clean sets, where that is more than `replicates`.
    """
    for replicate in range(max(replicates, sets)):
        for name, fault in FAULTS.items():
            own = {"clean": max(replicates, sets), "weak": (replicates + 9) // 10}
            if replicate >= own.get(fault.kind, replicates):
                continue
            if not fault.name.startswith(only):
                continue
            if short and name not in SHORT:
                continue
            fitting = [s for s in DESIGN if fault.fits(s) and family in ("", s.family)]
            if fault.kind != "clean":  # eight times the cost, and faults are as large there
                fitting = [s for s in fitting if s.size <= LARGEST_PLANTED]
            yield Job(name, fitting[replicate % len(fitting)], replicate, planted)


def seconds(job: Job) -> float:
    """About how long a job takes on one core."""
    setting = job.setting
    each = {"1": 1.0, "1-3": 2.0, "4": 2.5 if setting.tied else 4.0}[setting.volumes]
    share = (setting.patients * each + setting.generated) / 700
    grown = (setting.size / 16) ** 3
    total = (0.5 if setting.family == "fields" else 1.5) * grown
    for name in job.fault.judgements or _SECONDS:
        if name == "sites" and setting.sites == 1:
            continue
        total += _SECONDS[name] * grown ** _GROWS.get(name, 0.0) * share
    return total


def outcome(fault: Fault, verdicts: Mapping[str, str]) -> str:
    """found, cannot tell or passed, of the findings that a fault is a matter of.

    Found: one of them warns or fails. Passed: none of them does, and none says that it cannot tell.
    """
    asked = [v for key, v in verdicts.items() if _is_asked(fault, key)]
    if any(verdict in ("warn", "fail") for verdict in asked):
        return "found"
    return "cannot tell" if "cannot tell" in asked else "passed"


def _is_asked(fault: Fault, key: str) -> bool:
    """Whether a finding answers for a fault; a judgement that refuses as a whole has its name."""
    return key.startswith(fault.targets) or key in fault.judgements


def run(job: Job, digest: str) -> Line:
    """Draw, plant, audit."""
    torch.set_num_threads(1)
    start, used = time.perf_counter(), time.process_time()
    evidence = job.fault.make(World(job.setting, job.seed))
    drawn = time.perf_counter() - start
    options = Options(seed=job.seed, planted=job.planted)
    judged = audit(evidence, options, only=job.fault.judgements)
    verdicts = {one.finding.key: one.verdict for one in judged.settled}
    line: Line = {
        "fault": job.fault.name,
        "strength": job.fault.strength,
        "kind": job.fault.kind,
        "seed": job.seed,
        **asdict(job.setting),
        "planted": job.planted,
        "code": digest,
        "verdicts": verdicts,
        "p": {s.finding.key: s.finding.p for s in judged.settled if s.finding.p is not None},
        "core_seconds": round(time.process_time() - used, 1),
        "seconds": {"drawing": round(drawn, 1)}
        | {name: round(took, 1) for name, took in judged.seconds.items()},
    }
    if job.fault.kind == "clean":
        line["exit"] = judged.exit_code
    else:
        line["outcome"] = outcome(job.fault, verdicts)
    said = {
        one.finding.key: one.sentence
        for one in judged.settled
        if _telling(job.fault, one.finding.key, one.verdict)
    }
    return line | {"said": said, "faults": sorted(judged.faults)}


def _telling(fault: Fault, key: str, verdict: str) -> bool:
    """Whether a sentence is worth keeping: a false alarm, or what a fault's own question said."""
    if fault.kind == "clean":
        return verdict != "pass"
    return _is_asked(fault, key)


def code_digest() -> str:
    """Of the audit's sources: lines of another audit are another audit's."""
    digest = hashlib.sha256()
    for path in sorted(_AUDIT.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def key_of(line: Line) -> tuple[str, ...]:
    """The `Job.key` that a line is of."""
    fields = Setting.__dataclass_fields__
    setting = Setting(**{name: line[name] for name in fields})
    planted = str(line["planted"])
    return (setting.name, str(line["seed"]), line["fault"], line["strength"], planted)


def lines_of(folder: Path) -> list[Line]:
    """All lines of a study."""
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        found += [json.loads(text) for text in path.read_text().splitlines() if text]
    return found
