from __future__ import annotations

import os
import signal
import time

import pytest

from fastgan.train import checkpoint
from fastgan.train.signals import watch_signals


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_first_signal_is_noted(number, error):
    before = signal.getsignal(number)
    with watch_signals() as interruption:
        assert not interruption
        interruption.leave()
        os.kill(os.getpid(), number)
        assert interruption and interruption.signal == number
    assert signal.getsignal(number) is before
    with pytest.raises(error) as caught:
        interruption.leave()
    if number == signal.SIGTERM:
        assert caught.value.code == 143


def test_second_signal_ends_at_once():
    pid = os.fork()
    if pid == 0:
        with watch_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130


def test_in_the_loop_the_step_is_finished_and_saved(tiny, tmp_path, quiet):
    from fastgan.train import fit

    class Signalling(tiny.TinyVariant):
        def phases(self, step, next_batch, draws):
            if step == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            yield from super().phases(step, next_batch, draws)

    config = tiny.tiny_config(steps=100, checkpoint_every=50)
    with pytest.raises(SystemExit) as caught:
        fit(Signalling(), tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    assert caught.value.code == 143
    (run,) = tmp_path.iterdir()
    assert checkpoint.newest(run).step == 5
    assert len(tiny.rows(run)) == 5
    assert "stopped by signal 15 after 5 steps" in quiet._stream.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signalled_process_saves(tiny, tmp_path, fork, number, code):
    child = fork(lambda: tiny.train(tmp_path, 5000, slow=0.01))
    while not any(file.stat().st_size for file in tmp_path.glob("*/metrics.jsonl")):
        time.sleep(0.005)
    os.kill(child, number)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
    (run,) = tmp_path.iterdir()
    assert checkpoint.newest(run).step == tiny.rows(run)[-1]["step"]
