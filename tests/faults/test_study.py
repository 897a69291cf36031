"""The study of faults in its short form: nothing lost, silent, hanging, untyped or crashing.

`make faults` is the long form; what it counted is in docs/reliability.md.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import torch

from bench.studies.faults import syscalls
from bench.studies.faults.__main__ import Study
from bench.studies.faults.calls import Calls
from bench.studies.faults.children import Child, outcome_of
from bench.studies.faults.corruption import Corruption, Kind, damaged
from bench.studies.faults.hostile import Hostile
from fastgan.errors import BadFile
from tests.conftest import NO_STRACE

BAD = ("lost", "other bits", "hangs", "untyped", "untyped faults", "untyped calls", "crashes")
BAD += ("silent", "executions", "writes outside")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    place, threads = tmp_path_factory.mktemp("faults"), torch.get_num_threads()
    yield Study(place, place / "results.json")
    torch.set_num_threads(threads)


def _work_of_many_threads() -> None:
    torch.nn.functional.conv3d(torch.ones(2, 8, 32, 32, 32), torch.ones(8, 8, 3, 3, 3))


def _clean(found: Counter[str]) -> None:
    notes = [key for key in found if key.startswith("NOTE")]
    assert {key: found[key] for key in BAD if found[key]} == {}, notes
    assert notes == []


def test_kills(study: Study) -> None:
    study.run("kills", count=5)
    found = study.counts["kills"]
    _clean(found)
    assert [found[f"runs of {game}"] for game in ("gan", "wgan-gp", "cyclegan")] == [1, 1, 1]


def test_system_calls(study: Study) -> None:
    if not syscalls.available():
        pytest.skip(NO_STRACE)
    study.run("syscalls", count=8)
    found = study.counts["syscalls"]
    _clean(found)
    assert found["faults"] == 8
    assert found["refused"] + found["done"] + found["killed"] == 8


def test_corruption(study: Study) -> None:
    corruption = Corruption(study.stage)
    found: Counter[str] = Counter()
    # Every kind once, the weights aside.
    for number, name in enumerate(dict.fromkeys(corruption.order)):
        corruption.order = [name]
        found.update(corruption.batch(number))
    _clean(found)
    assert found["corruptions"] >= 2000
    answers = found["as if sound"] + found["noticed"] + found["refused"]
    assert answers == found["corruptions"]


def test_hostile(study: Study) -> None:
    hostile = Hostile(study.stage)
    assert len(hostile.trials) >= 200
    hostile.trials = hostile.trials[::5]
    found = hostile.all()
    _clean(found)
    assert found["hostile"] == len(hostile.trials) and found["hostile refused"] > 40


def test_writers(study: Study) -> None:
    study.run("writers", count=2)
    _clean(study.counts["writers"])
    assert study.counts["writers"]["writers"] >= 4


def test_calls() -> None:
    calls, found = Calls(), Counter[str]()
    for number in range(4):
        found.update(calls.batch(number))
    _clean(found)
    assert found["calls answered"] > 100 and found["calls refused"] > 100


def test_a_child_tells_how_it_ended() -> None:
    def typed() -> None:
        raise BadFile("x")

    def untyped() -> None:
        raise KeyError("x")

    assert outcome_of(lambda: "well").text == "well"
    assert outcome_of(typed).kind == "refused"
    assert outcome_of(untyped).kind == "untyped"
    _work_of_many_threads()
    assert outcome_of(_work_of_many_threads, 20.0).kind == "done"
    assert outcome_of(lambda: os.kill(os.getpid(), signal.SIGSEGV)).kind == "crash"
    assert outcome_of(lambda: time.sleep(60), 0.2).kind == "hang"
    child = Child(lambda: time.sleep(60))
    child.kill()
    assert child.outcome(5.0, killed=True).kind == "killed"


def test_damage_is_always_damage() -> None:
    rng, content = random.Random(0), bytes(range(256)) * 4
    assert all(damaged(content, rng) != content for _ in range(3000))
    assert damaged(b"", rng) != b""


def test_the_study_notices_what_it_looks_for(study: Study) -> None:
    """Readers that believe anything, break or wait: each is counted as what it is."""
    corruption = Corruption.__new__(Corruption)
    path = study.place / "planted"
    path.write_bytes(b"content" * 9)

    def breaks() -> str:
        raise IndexError

    def dies() -> str:
        os.kill(os.getpid(), signal.SIGBUS)
        return ""

    kinds = {
        "silent": Kind((path,), lambda: path.read_bytes().hex()),
        "untyped": Kind((path,), breaks),
        "crashes": Kind((path,), dies),
    }
    for name, kind in kinds.items():
        corruption.kinds, corruption.sound, corruption.order = {name: kind}, {name: "x"}, [name]
        assert corruption.batch(0)[name] > 0
        assert path.read_bytes() == b"content" * 9
