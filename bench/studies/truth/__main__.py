"""Runs the study: which faults pass, and which clean data fail.

    python -m bench.studies.truth --short                     # under a minute: a look
    python -m bench.studies.truth --long --processes 2        # hours; an estimate comes first
    python -m bench.studies.truth --only "near copy" --family lung --sets 6
    python -m bench.studies.truth --table                     # docs/audit/truth.md

Appends a line of JSON for every run to bench/results/audit/truth/<family>.jsonl, and leaves out
runs that are there of the same audit; stopped, it goes on where it stopped. Lines that another
version of the audit wrote are dropped at the first run of a family.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from bench.studies.truth import table
from bench.studies.truth.laws import FAMILIES
from bench.studies.truth.study import Job, code_digest, jobs, key_of, lines_of, run, seconds

RESULTS = Path(__file__).parents[2] / "results" / "audit" / "truth"
LONG, LONG_CLEAN = 40, 60
"""Data sets of every fault (weak ones: a tenth), and clean ones, of the long form."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--short", action="store_true", help="one set of a few faults")
    size.add_argument("--long", action="store_true", help=f"{LONG} sets of every fault")
    size.add_argument("--sets", type=int, default=1, help="sets of every fault")
    parser.add_argument("--only", default="", help="faults whose names begin so")
    parser.add_argument("--family", default="", choices=["", *FAMILIES])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--planted", type=int, default=0, help="runs behind a point of power")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="write docs/audit/truth.md and stop")
    parser.add_argument("--estimate", action="store_true", help="say how long, and stop")
    chosen = parser.parse_args(arguments)
    if chosen.table:
        print(table.write(lines_of(chosen.out)))
        return
    wanted = jobs(
        LONG if chosen.long else chosen.sets,
        only=chosen.only,
        family=chosen.family or ("fields" if chosen.short else ""),
        short=chosen.short,
        planted=chosen.planted or (20 if chosen.short else 60),
        sets=LONG_CLEAN if chosen.long else 0,
    )
    digest = code_digest()
    done = {key_of(line) for line in lines_of(chosen.out) if line["code"] == digest}
    left = [job for job in wanted if job.key not in done]
    hours = sum(map(seconds, left)) / chosen.processes / 3600
    print(f"{len(left)} runs, about {hours:.2f} hours on {chosen.processes} processes", flush=True)
    if not chosen.estimate:
        _carry_out(left, chosen.processes, digest, chosen.out)


def _carry_out(left: list[Job], processes: int, digest: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for family in {job.setting.family for job in left}:
        path = folder / f"{family}.jsonl"
        old = path.read_text().splitlines() if path.exists() else []
        kept = [text for text in old if json.loads(text)["code"] == digest]
        if len(kept) < len(old):
            path.write_text("".join(f"{text}\n" for text in kept))
            print(f"{path}: {len(old) - len(kept)} lines of another audit dropped", flush=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    start = time.perf_counter()
    with ProcessPoolExecutor(processes) as pool:
        futures = {pool.submit(run, job, digest): job for job in left}
        for number, future in enumerate(as_completed(futures), 1):
            job, line = futures[future], future.result()
            with (folder / f"{job.setting.family}.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            said = line.get("outcome", f"exit {line.get('exit')}")
            minutes = (time.perf_counter() - start) / 60
            fault = f"{job.fault.name} {job.fault.strength}"
            print(
                f"{number}/{len(left)} {minutes:.1f} min: {job.setting.name}: {fault}: {said}",
                flush=True,
            )


if __name__ == "__main__":
    main()
