"""run.html is true about the state of its run, rebuilt from the folder, and harmless to it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time

import numpy as np
import pytest
import torch

from fastgan.errors import BadFile, NumericsError, ResourceLimit
from fastgan.train import checkpoint, fit, history, lock, views
from fastgan.train.page import write_page
from fastgan.train.views import Views
from tests.train.page_run import headline, page_of, rewrite_config, rows_to

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_finished_run_says_so_and_is_rebuilt_byte_for_byte(finished):
    page = page_of(finished)
    assert headline(finished) == "Finished: all 7 steps done"
    assert [e.kind for e in history.read(finished)] == ["begun", "finished"]
    assert write_page(finished) == finished / "run.html"
    assert page_of(finished) == page


def test_a_running_run_tells_how_far_it_is(copy):
    rewrite_config(copy, train={"steps": 1000})
    begun = {"event": "begun", "step": 0, "at": "2026-01-01T00:00:00+00:00"}
    (copy / "history.jsonl").write_text(json.dumps(begun) + "\n")
    # At 8 volumes a step, as its checkpoint counted.
    rows = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
    rows_to(copy, [row | {"volumes_per_second": 4.0} for row in rows])
    with lock.hold(copy):
        write_page(copy)
    assert headline(copy) == "Running: step 7 of 1,000, about 33 min 6 s left"
    page = page_of(copy)
    assert "Last written" in page and 'http-equiv="refresh"' in page and "width: 0.7%" in page


def test_a_signalled_run_says_which_signal(tiny, tmp_path, quiet):
    class Signalling(tiny.TinyVariant):
        def phases(self, step, next_batch, draws):
            if step == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            yield from super().phases(step, next_batch, draws)

    with pytest.raises(SystemExit):
        fit(
            Signalling(),
            tiny.TinyDataset(),
            tiny.tiny_config(steps=3000),
            out=tmp_path,
            progress=quiet,
        )
    (run,) = tmp_path.iterdir()
    assert headline(run) == "Stopped by signal SIGTERM after step 5 of 3,000"
    assert f"--resume</code> {run}" in page_of(run) or f"--resume {run}" in page_of(run)


def test_a_run_that_failed_gives_the_reason(tiny, tmp_path, quiet):
    data = tiny.TinyDataset(poisoned=3)
    with pytest.raises(NumericsError):
        fit(tiny.TinyVariant(), data, tiny.tiny_config(steps=50), out=tmp_path, progress=quiet)
    (run,) = tmp_path.iterdir()
    assert headline(run).startswith("Ended by an error after step")
    assert "the loss is nan" in page_of(run)


def test_a_killed_run_is_not_called_running_and_a_resumed_one_goes_on(tiny, tmp_path, fork):
    child = fork(lambda: tiny.train(tmp_path, 40, slow=0.02))
    while not any(f.read_text().count("\n") >= 5 for f in tmp_path.glob("*/metrics.jsonl")):
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    (run,) = tmp_path.iterdir()
    assert re.match(r"Running: step \d of 40", headline(run))
    write_page(run)
    assert re.match(r"Ended without a word after step \d+ of 40", headline(run))
    begun = checkpoint.newest(run).step
    tiny.train(tmp_path, 40, resume=run)
    assert headline(run) == "Finished: all 40 steps done"
    assert f"Resumed 1 time, after step {begun}." in page_of(run)
    assert 'class="seam"' in page_of(run)


def test_a_run_from_before_there_were_histories(copy):
    (copy / "history.jsonl").unlink()
    picture = next((copy / "samples").iterdir())
    # As it was written then: without a caption or a layout.
    from fastgan.pictures.slices import write_png

    write_png(picture, np.full((20, 60), 99, np.uint8))
    write_page(copy)
    assert headline(copy) == "Finished: all 7 steps done"
    rewrite_config(copy, train={"steps": 9})
    write_page(copy)
    assert headline(copy) == "Not running: step 7 of 9"


def test_pictures_of_steps_that_were_undone_are_not_shown(copy):
    shutil.copy(copy / "samples/step-0000006.png", copy / "samples/step-0000900.png")
    write_page(copy)
    assert "Newest: step 7." in page_of(copy) and "step 900" not in page_of(copy)


@pytest.mark.parametrize(("steps", "drawn"), [(1, "<circle"), (3, "<polyline")])
def test_a_few_steps_show_what_there_is(tiny, tmp_path, quiet, steps, drawn):
    config = tiny.tiny_config(steps=steps, log_every=20, sample_every=20)
    run = fit(tiny.TinyVariant(), tiny.TinyDataset(), config, out=tmp_path, progress=quiet).path
    assert drawn in page_of(run) and f"Newest: step {steps}." in page_of(run)


def test_before_the_first_row(copy):
    rows_to(copy, [])
    for found in copy.glob("ckpt-*"):
        shutil.rmtree(found)
    (copy / "history.jsonl").unlink()
    write_page(copy)
    assert "No figures yet" in page_of(copy) and "None yet." in page_of(copy)
    assert headline(copy) == "Not running: step 0 of 7"


@pytest.mark.parametrize("error", [OSError("gone"), ResourceLimit("disk full"), ValueError("odd")])
def test_a_page_that_cannot_be_written_ends_nothing(tiny, tmp_path, quiet, monkeypatch, error):
    def fail(path):
        raise error

    monkeypatch.setattr(views, "write_page", fail)
    config = tiny.tiny_config(steps=6)
    run = fit(tiny.TinyVariant(), tiny.TinyDataset(), config, out=tmp_path, progress=quiet)
    assert checkpoint.newest(run.path).step == 6 and not (run.path / "run.html").exists()
    told = quiet._stream.getvalue()
    assert told.count(f"run.html: not written: {error}; the training goes on") == 1


def test_a_folder_in_the_pages_place_ends_nothing(tiny, tmp_path, quiet):
    run = tiny.train(tmp_path, 2)
    (run / "run.html").unlink()
    (run / "run.html").mkdir()
    (run / "run.html" / "precious").touch()
    tiny.train(tmp_path, 6, resume=run)
    assert checkpoint.newest(run).step == 6 and (run / "run.html" / "precious").exists()


def test_writing_draws_nothing_and_changes_only_the_page(copy):
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file() and p.name != "run.html"}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    write_page(copy)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    after = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file() and p.name != "run.html"}
    assert after == before


def test_pages_take_at_most_a_hundredth_of_the_time(monkeypatch, finished):
    now, written = [0.0], []
    monkeypatch.setattr(views.time, "monotonic", lambda: now[0])

    def write(path):
        written.append(now[0])
        now[0] += 0.5

    monkeypatch.setattr(views, "write_page", write)

    class Run:
        run = views.RunFolder(finished)
        steps_done = 1

    kept = Views(Run(), print)
    while now[0] < 1000.0:
        kept.refresh()
        now[0] += 0.1
    assert len(written) == pytest.approx(1000 / 50.5, abs=1.1)
    assert 0.5 * len(written) <= 0.0101 * now[0]


def test_what_is_no_run_folder_is_refused(tmp_path, copy):
    with pytest.raises(BadFile, match="not a run folder"):
        write_page(tmp_path)
    (copy / "metrics.jsonl").unlink()
    with pytest.raises(BadFile, match=r"metrics.jsonl: cannot read"):
        write_page(copy)
