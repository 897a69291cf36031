"""Ranks that differ, never come, die or hang: all end, and one of them says why."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fastgan
from fastgan.cli import main as command
from fastgan.errors import ConfigError
from fastgan.train import checkpoint
from fastgan.train.checkpoint import steps
from fastgan.train.ranks import joined, meeting, require_divisible, require_separable
from fastgan.train.ranks.launch import launched
from tests.train.test_ranks_run import trained
from tests.train.together import Ended, Volumes, game, together

LOST = 18


def told(ended: list[Ended]) -> str:
    """What the one rank that says anything says, in one line."""
    lines = [one.stderr.splitlines()[0] for one in ended if one.stderr]
    assert len(lines) == 1, [one.stderr for one in ended]
    return lines[0]


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (
            {"batch_size": 5},
            2,
            "5 volumes cannot be shared evenly by 2 ranks; give",
        ),
        ({"device": "cuda:0"}, 2, "'cuda:0' is one device for 2 ranks"),
    ],
)
def test_settings_that_ranks_cannot_share(
    tmp_path: Path, change: dict[str, Any], code: int, message: str
) -> None:
    ended = together(2, lambda rank: trained(tmp_path / "runs", **change), tmp_path / "ranks")
    assert [one.code for one in ended] == [code, code]
    assert message in told(ended) and not (tmp_path / "runs").exists()


def test_modules_that_ranks_cannot_share() -> None:
    with pytest.raises(ConfigError, match=r"12 .* 5 ranks; .* one of 1, 2, 3, 4, 6 processes"):
        require_divisible(12, 5)
    grouped = game({"minibatch_stddev": 4})
    require_separable(grouped, 16, 4)
    with pytest.raises(ConfigError, match=r"groups of 4 .* ranks of 2 .* multiple of 16"):
        require_separable(grouped, 8, 4)
    require_separable(grouped, 6, 1)
    coupled = game({})
    coupled.modules["critic"].extra = nn.Sequential(nn.BatchNorm3d(4))
    with pytest.raises(ConfigError, match=r"critic.extra.0: BatchNorm3d"):
        require_separable(coupled, 8, 2)
    coupled = game({})
    coupled.sharded = False
    with pytest.raises(ConfigError, match=r"AdversarialGAN cannot be trained by 2 ranks"):
        require_separable(coupled, 8, 2)


def other_settings(rank: int, out: Path) -> Path:
    return trained(out, log_every=1 + rank)


def other_files(rank: int, out: Path) -> Path:
    data = Volumes()
    data.fingerprint = "01"[rank] * 64
    return trained(out, data)


def other_version(rank: int, out: Path) -> Path:
    fastgan.__version__ = f"9.{rank}"
    return trained(out)


@pytest.mark.parametrize(
    ("work", "key"),
    [
        (other_settings, "train.log_every: 2, 1"),
        (other_files, "data: fingerprint: '\"1111"),
        (other_version, "fastgan: '9.1', '9.0'"),
    ],
)
def test_a_rank_that_differs_is_refused(
    tmp_path: Path, work: Callable[[int, Path], Path], key: str
) -> None:
    ended = together(2, lambda rank: work(rank, tmp_path / "runs"), tmp_path / "ranks")
    assert [one.code for one in ended] == [LOST, LOST]
    assert f"rank 1 differs from rank 0 in {key}" in told(ended)
    assert not (tmp_path / "runs").exists()


class Faulty(Volumes):
    """Volumes of which the seventh batch, of step 4, does something to some ranks."""

    def __init__(self, ranks: tuple[int, ...], fault: Callable[[], object]) -> None:
        super().__init__()
        self.ranks, self.fault, self.drawn = ranks, fault, 0

    def sample(self, batch_size: int, rng: Any) -> Any:
        self.drawn += 1
        if self.drawn == 7 and int(os.environ["RANK"]) in self.ranks:
            self.fault()
        return super().sample(batch_size, rng)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def faulty(out: Path, ranks: tuple[int, ...], fault: Callable[[], object]) -> Path:
    return trained(out, Faulty(ranks, fault), sample_every=50)


@pytest.mark.parametrize(("count", "victim"), [(2, 1), (2, 0), (4, 2)])
def test_a_killed_rank_ends_all_and_is_named(tmp_path: Path, count: int, victim: int) -> None:
    out, began = tmp_path / "runs", time.monotonic()
    ended = together(count, lambda rank: faulty(out, (victim,), killed), tmp_path / "ranks")
    assert time.monotonic() - began < 30.0
    assert [one.code for one in ended] == [
        -signal.SIGKILL if rank == victim else LOST for rank in range(count)
    ]
    line = told(ended)
    assert "step 4, phase critic: all_reduce of gradients failed" in line
    assert f"rank {victim} was killed" in line
    (run,) = out.iterdir()
    assert checkpoint.newest(run).step == 2


def test_a_hung_rank_ends_the_others_in_the_time_stated(tmp_path: Path) -> None:
    out, began = tmp_path / "runs", time.monotonic()
    ended = together(
        2,
        lambda rank: faulty(out, (1,), lambda: time.sleep(600)),
        tmp_path / "ranks",
        left=(1,),
        FASTGAN_RANK_TIMEOUT="3",
    )
    assert ended[0].code == LOST and time.monotonic() - began < 30.0
    assert "step 4, phase critic" in told(ended)
    assert "rank 1 was killed, ran out of memory, or did not answer for 3 s" in told(ended)
    (run,) = out.iterdir()
    assert checkpoint.newest(run).step == 2
    assert '"failed"' in (run / "history.jsonl").read_text()


def test_a_rank_out_of_memory_says_so_for_all(tmp_path: Path) -> None:
    out = tmp_path / "runs"
    ended = together(2, lambda rank: faulty(out, (1,), out_of_memory), tmp_path / "ranks")
    assert [one.code for one in ended] == [13, 13]
    assert "step 4: out of device memory with 2 volumes at once" in told(ended)
    assert ended[1].stderr
    (run,) = out.iterdir()
    last = json.loads((run / "history.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "failed" and "rank 1 ended: ResourceLimit: step 4" in last["reason"]


@pytest.mark.parametrize("number", [1, 3])
def test_the_first_rank_dies_while_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(meeting, "GRACE", 1.0)
    dead = tmp_path / "dead"

    def as_torchrun() -> None:
        """Send SIGTERM to a rank when another has died."""
        while not dead.exists():
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    def work(rank: int) -> Path:
        save, saves = checkpoint.save, []

        def dying(*arguments: Any) -> None:
            saves.append(arguments)
            if len(saves) == number:
                dead.touch()
                killed()
            save(*arguments)

        if rank == 0:
            checkpoint.save = dying
        else:
            threading.Thread(target=as_torchrun, daemon=True).start()
        return trained(tmp_path / "runs")

    ended = together(2, work, tmp_path / "ranks")
    assert [one.code for one in ended] == [-signal.SIGKILL, LOST]
    assert "while rank 0 writes a checkpoint: rank 0 of 2 was killed" in told(ended)
    (run,) = (tmp_path / "runs").iterdir()
    assert steps(run) == ([] if number == 1 else [2, 0])


def test_a_save_that_fails_ends_all(tmp_path: Path) -> None:
    def work(rank: int) -> Path:
        run = tmp_path / "runs"
        if rank == 0:
            checkpoint.prune = lambda *_: (_ for _ in ()).throw(OSError(28, "No space left"))
        return trained(run)

    ended = together(2, work, tmp_path / "ranks")
    assert [one.code for one in ended] == [13, 13] and "No space left" in told(ended)


def test_a_rank_that_never_comes(tmp_path: Path) -> None:
    def work(rank: int) -> None:
        with joined():
            pass

    ended = together(
        1, work, tmp_path, WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", FASTGAN_RANK_TIMEOUT="0.5"
    )
    assert ended[0].code == LOST
    assert "rank 1 of 2 was killed, or did not answer for 2 s" in told(ended)


@pytest.mark.parametrize("agent", ["True", "False"])
def test_no_store_or_a_port_that_is_taken(tmp_path: Path, agent: str) -> None:
    def work(rank: int) -> None:
        with joined():
            pass

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if agent == "False":
            taken.listen()
        place = {"MASTER_PORT": str(taken.getsockname()[1]), "FASTGAN_RANK_TIMEOUT": "1"}
        place |= {"WORLD_SIZE": "2", "TORCHELASTIC_USE_AGENT_STORE": agent}
        ended = together(1, work, tmp_path, **place)
    assert ended[0].code == LOST
    message = next(line for line in ended[0].stderr.splitlines() if "RankError" in line)
    wanted = "no store at 127.0.0.1" if agent == "True" else "another program listens there"
    assert wanted in message


def test_variables_of_torchrun_are_read_strictly(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}
    whole |= {"LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, text in whole.items():
        monkeypatch.setenv(name, text)
    place = launched()
    assert place is not None and (place.rank, place.seconds) == (1, 20.0)
    for name, text in (
        ("RANK", "2"),
        ("RANK", "one"),
        ("LOCAL_RANK", ""),
        ("FASTGAN_RANK_TIMEOUT", "0"),
        ("FASTGAN_RANK_TIMEOUT", "nan"),
    ):
        with monkeypatch.context() as context, pytest.raises(ConfigError, match=name):
            context.setenv(name, text)
            launched()


def test_other_commands_are_no_work_for_ranks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert command.main(["audit", "--run", "r"]) == 2
    assert "audit: torchrun started several processes" in capsys.readouterr().err
