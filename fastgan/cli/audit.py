"""`fastgan audit`: may these generated volumes be used? A verdict with its own controls."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fastgan.cli.run_argument import add_device, add_out, checkpoint_asked
from fastgan.errors import ConfigError

if TYPE_CHECKING:
    from fastgan.audit.evidence import Evidence
    from fastgan.audit.report.fact import Facts
    from fastgan.audit.run import Audit
    from fastgan.config import Config

__all__ = ["add_arguments", "run"]

PATIENT_PAGE = "report-CONTAINS-PATIENT-DATA.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    known = parser.add_mutually_exclusive_group(required=True)
    known.add_argument(
        "--run", type=Path, metavar="RUN", help="run folder: its data, its hold-out, its generator"
    )
    known.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="a configuration whose data section names training and held-out volumes, for volumes "
        "that another program generated",
    )
    parser.add_argument(
        "--generated",
        type=Path,
        metavar="DIR",
        help="folder or manifest.csv of generated volumes (not for a cyclegan)",
    )
    add_out(parser, "new or empty folder for the report")
    parser.add_argument(
        "--truth",
        type=Path,
        metavar="DIR",
        help="folder or manifest.csv of domain B of a cyclegan's held-out subjects, aligned to A",
    )
    parser.add_argument(
        "--measured",
        type=Path,
        metavar="FILE",
        help="table with path and columns of numbers that were measured alike on every volume, "
        "patients' and generated, such as the size of the lesion",
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="these judgements alone"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="plant no controls: power is unmeasured, and what rests on it does not pass",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all draws (default: 0)")
    parser.add_argument(
        "--include-patient-images",
        action="store_true",
        help=f"also write {PATIENT_PAGE}, with pictures and names of patients",
    )
    add_device(parser)


def run(options: argparse.Namespace) -> int:
    """Judge, write the report, print the verdicts; 0 none failed, 3 one failed, 4 cannot tell."""
    from fastgan.audit.evidence import Options
    from fastgan.audit.run import audit
    from fastgan.cli.process import keep_freed_memory
    from fastgan.runs.facts import facts_of, facts_of_foreign
    from fastgan.runs.synthetic import make_empty, require_empty

    keep_freed_memory()
    if options.seed < 0:
        raise ConfigError(f"--seed: must be >= 0, got {options.seed}")
    require_empty(options.out)
    config, evidence = _evidence(options)
    chosen = Options(
        seed=options.seed,
        quick=options.quick,
        patient_images=options.include_patient_images,
    )
    found = audit(evidence, chosen, only=options.only, progress=_say)
    make_empty(options.out)
    facts = (facts_of_foreign if options.config else facts_of)(config, evidence)
    _write(found, facts, options.out, options.generated)
    for fault in found.faults.values():
        print(fault, file=sys.stderr)
    print(_summary(found))
    print(f"report {options.out / 'report.html'}")
    return found.exit_code


def _evidence(options: argparse.Namespace) -> tuple[Config, Evidence]:
    from fastgan import config as configuration
    from fastgan.runs.evidence import evidence_of_config, evidence_of_run

    if options.config is not None:
        if options.truth is not None:
            raise ConfigError(
                "--truth: only a cyclegan's run translates; leave it out with --config"
            )
        config = configuration.load(options.config)
        return config, evidence_of_config(config, options.generated, options.measured)
    folder, found = checkpoint_asked(options)
    evidence = evidence_of_run(
        folder, found, options.generated, options.device, options.truth, options.measured
    )
    return folder.config(), evidence


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _write(found: Audit, facts: Facts, out: Path, generated: Path | None) -> None:
    from fastgan.audit.report.cards import dataset_card, model_card
    from fastgan.audit.report.croissant import croissant, tables_of
    from fastgan.audit.report.montage import montage
    from fastgan.audit.report.page import page
    from fastgan.audit.report.record import record_of
    from fastgan.durable import replace_file

    record, shown = record_of(found), montage(found.evidence, found.options)
    parts = {
        "model_card.md": model_card(record, facts),
        "dataset_card.md": dataset_card(record, facts),
        "croissant.json": croissant(record, facts, tables_of(generated)),
        "report.html": page(record, found.settled, montage=shown),
    }
    if found.options.patient_images:
        whole = record_of(found, patient=True)
        parts[PATIENT_PAGE] = page(whole, found.settled, montage=shown, patient=True)
    for name, text in parts.items():
        replace_file(out / name, text.encode())
    # Last: a program that finds it finds the rest.
    replace_file(out / "report.json", record.as_json())


def _summary(found: Audit) -> str:
    width = max((len(one.finding.key) for one in found.settled), default=0)
    lines = [
        f"{one.verdict:<11}  {one.finding.key:<{width}}  {one.sentence}" for one in found.settled
    ]
    return "\n".join([*lines, "", f"verdict: {found.verdict}"])
