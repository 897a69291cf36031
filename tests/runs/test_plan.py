"""What `plan` proposes on machines that are pretended, and what it trades."""

from __future__ import annotations

import math

import pytest

from fastgan.config import Config, parse
from fastgan.errors import ConfigError, ResourceLimit
from fastgan.runs.estimates import Measure, along_line
from fastgan.runs.plan import plan_for
from fastgan.runs.prediction import predict
from fastgan.runs.probe import Measurement
from fastgan.runs.trades import trades_for
from tests.runs.pretended import GB, Machine, at_once, made_up


def wish(**sections: dict) -> Config:
    data = {"source": "folder", "shape": [64, 64, 64], "spacing": [1.0, 1.0, 1.0]}
    rest = {name: keys for name, keys in sections.items() if name != "data"}
    return parse({"data": data | sections.get("data", {}), "train": {"device": "cpu"}} | rest)


def planned(config: Config, machine: Machine, hours: float = 8.0, **more):
    return plan_for(config, hours=hours, **({"memory": 100 * GB} | more), measured_by=machine)


@pytest.fixture(autouse=True)
def _plain_machine(monkeypatch):
    """The same choices on every machine: without matrix units, with memory."""
    monkeypatch.setattr("fastgan.train.precision._cpu_flags", set)
    monkeypatch.setattr("fastgan.runs.plan.free_memory", lambda device: 200 * GB)


def test_arithmetic_of_a_prediction():
    train = {"steps": 1000, "checkpoint_every": 100, "sample_every": 250}
    train |= {"batch_size": 4, "keep_checkpoints": 2}
    config = wish(train=train, gan={"critic_steps": 2})
    found = predict(config, made_up(), count=7)
    # Data, the first checkpoint, the last with its picture, steps, ten checkpoints, four pictures.
    assert found.train_seconds == pytest.approx(40 * 0.25 + 2 * 2 + 3 + 1000 + 10 * 2 + 4 * 3)
    assert found.prepare_seconds == pytest.approx(10.0)
    assert found.volumes_per_second == pytest.approx(8.0)
    assert found.checkpoints_bytes == 3000 and found.pictures_bytes == 40
    assert found.cache_bytes == 50 * 2000
    assert found.generate_seconds == pytest.approx(3.5) and found.generated_bytes == 700
    assert found.disk_bytes == 3000 + 40 + 100_000 + 700
    assert found.host_bytes == pytest.approx(GB + 39 * 2000, abs=2)


def test_archives_are_read_once_and_kept_in_no_cache():
    found = predict(wish(train={"steps": 10}), made_up(prepared=False))
    assert found.prepare_seconds == 0.25 and found.cache_bytes == 0 and found.host_bytes == GB


def test_an_audit_is_counted_by_volumes_and_voxels():
    config = wish(data={"shape": [10, 10, 10]})
    small = predict(config, made_up(volumes=80, heldout=20), count=100)
    assert small.audit_seconds == pytest.approx(5.0 + 0.15e-6 * 200 * 1000)
    many = made_up(volumes=800, heldout=200)
    large = predict(config, many, count=100).audit_seconds
    assert large == pytest.approx(5.0 + 0.15e-6 * 1100 * 1000 + 0.05 * 1100)
    config.data.conditional = True
    labelled = predict(config, many, count=100).audit_seconds
    assert labelled - large == pytest.approx(1.2e-6 * 1100 * 1000)


def test_few_steps_touch_few_volumes():
    measured = made_up(volumes=1000, stored_bytes=10**6)
    few = predict(wish(train={"steps": 1, "batch_size": 2}, gan={"critic_steps": 1}), measured)
    assert GB < few.host_bytes <= GB + 10**6
    many = predict(wish(train={"steps": 10_000, "batch_size": 2}), measured)
    assert many.host_bytes == pytest.approx(GB + 999 * 10**6, rel=1e-3)


@pytest.mark.parametrize(
    ("batches", "values", "size", "expected"),
    [
        ([2, 4], [3.0, 5.0], 16, 17.0),
        ([2, 4], [5.0, 5.0], 16, 5.0),
        # A hiccup made the smaller one slower: no line falls.
        ([2, 4], [6.0, 5.0], 16, 5.0),
        # A line that would start below zero: in proportion.
        ([2, 4], [1.0, 5.0], 8, 10.0),
        ([2], [3.0], 8, 12.0),
        ([2, 4], [3.0, 5.0], 2, 3.0),
    ],
)
def test_along_line(batches, values, size, expected):
    assert along_line(batches, values, size) == pytest.approx(expected)


def test_what_fits_is_left_as_it_is():
    machine = Machine(voxels_per_second=1e9)
    plan = planned(wish(), machine)
    assert plan.config == wish() and plan.traded == ()
    assert plan.config is not machine.asked[0]
    assert plan.prediction.train_seconds < 8 * 3600
    # Two small batches, then the thing itself.
    assert [c.train.batch_size for c in machine.asked] == [2, 4, 16]
    assert [c.gan.critic_steps for c in machine.asked] == [1, 1, 5]


def test_the_wish_is_not_changed():
    config = wish()
    before = config.model_copy(deep=True)
    planned(config, Machine(voxels_per_second=1e5))
    assert config == before


def test_a_slow_machine_trades_in_order_and_says_so():
    plan = planned(wish(), Machine(voxels_per_second=3e5))
    assert plan.prediction.train_seconds <= 8 * 3600
    assert plan.config.model.fold == (2, 2, 2)
    assert plan.config.data == wish().data
    changes = [said.partition(":")[0] for said in plan.traded]
    assert changes == [
        "model.fold 1 -> 2",
        "gan.critic_steps 5 -> 2",
        "train.batch_size 16 -> 8",
        f"train.steps 10000 -> {plan.config.train.steps}",
    ]
    assert plan.config.train.steps >= 3000


def test_slower_still_the_volumes_become_coarser():
    plan = planned(wish(), Machine(voxels_per_second=2e4), hours=8.0)
    assert plan.prediction.train_seconds <= 8 * 3600
    assert max(plan.config.data.shape) < 64 and plan.config.data.sampling == "whole"
    extent = [n * s for n, s in zip(plan.config.data.shape, plan.config.data.spacing, strict=True)]
    assert extent == pytest.approx([64.0] * 3, rel=1e-3)
    assert any("whole volumes, coarser" in said for said in plan.traded)


def test_patches_shrink_where_they_are_asked_for():
    config = wish(data={"sampling": "patch"})
    plan = planned(config, Machine(voxels_per_second=2e4))
    assert plan.config.data.sampling == "patch" and max(plan.config.data.shape) < 64
    assert plan.config.data.spacing == (1.0, 1.0, 1.0)


def test_short_memory_gives_up_only_what_saves_memory():
    machine = Machine(voxels_per_second=1e9, bytes_per_voxel=1e3)
    plan = planned(wish(), machine, memory=int(0.6 * GB))
    assert plan.prediction.host_bytes <= 0.6 * GB
    assert plan.config.gan.critic_steps == 5 and plan.config.train.steps == 10_000
    assert plan.config.model.fold == (2, 2, 2) or plan.config.train.batch_size < 16


def test_a_wrong_estimate_is_corrected_by_the_measurement():
    class Cliff(Machine):
        def __call__(self, config):
            self.slower = 6.0 if config.train.batch_size > 4 else 1.0
            return super().__call__(config)

    plan = planned(wish(), Cliff(voxels_per_second=2e6))
    assert plan.prediction.train_seconds <= 8 * 3600
    assert plan.prediction.step_seconds == Cliff(2e6)(plan.config).step_seconds


def test_memory_that_runs_out_in_a_trial_is_survived():
    class Small(Machine):
        def __call__(self, config):
            if at_once(config) > 8:
                raise ResourceLimit("a trial of a few steps ran out of memory")
            return super().__call__(config)

    plan = planned(wish(), Small(voxels_per_second=1e9))
    assert plan.config.train.batch_size == 16 and plan.config.train.micro_batch == 8


def test_short_memory_is_answered_by_parts_of_the_batch_before_anything_is_given_up():
    machine = Machine(voxels_per_second=1e9, bytes_per_voxel=1e3)
    plan = planned(wish(), machine, memory=int(2.0 * GB))
    assert plan.config.train.micro_batch == 4 and plan.config.train.batch_size == 16
    (said,) = plan.traded
    assert said.startswith("train.micro_batch 16 -> 4: the same updates")
    kept = planned(wish(), machine, memory=int(2.0 * GB), keep=["train.micro_batch"])
    assert kept.config.train.micro_batch is None
    # Time that is short is not won by them.
    slow = planned(wish(), Machine(voxels_per_second=2e5), keep=["train.steps"], hours=1e4)
    assert slow.config.train.micro_batch is None


def test_groups_that_stay_together_bound_the_parts():
    config = wish(model={"minibatch_stddev": 4}, train={"device": "cpu", "batch_size": 16})
    plan = planned(config, Machine(voxels_per_second=1e9), memory=int(2.0 * GB))
    assert plan.config.train.micro_batch == 4


def test_what_is_computed_again_is_tried_before_size_is_given_up():
    class Repeating(Machine):
        def __call__(self, config):
            self.bytes = 3e2 if config.train.recompute else 1e3
            return super().__call__(config)

    plan = planned(wish(), Repeating(voxels_per_second=1e9), memory=int(0.5 * GB))
    assert plan.config.train.recompute and plan.config.train.micro_batch == 1
    assert plan.config.data == wish().data and plan.config.train.batch_size == 16
    assert any(said.startswith("train.recompute off -> on") for said in plan.traded)


def test_networks_that_do_not_run_at_all_are_made_smaller_not_trained_differently():
    class Tiny(Machine):
        def __call__(self, config):
            if math.prod(config.data.shape) > 50**3:
                raise ResourceLimit("a trial of a few steps ran out of memory")
            return super().__call__(config)

    plan = planned(wish(), Tiny(voxels_per_second=1e9))
    assert plan.config.data.shape == (48, 48, 48)
    assert plan.config.train.batch_size == 16 and plan.config.gan.critic_steps == 5


def test_kept_keys_stay():
    machine = Machine(voxels_per_second=2e6)
    plan = planned(wish(), machine, keep=["model.fold", "gan.critic_steps"], hours=100.0)
    assert plan.config.model.fold == (1, 1, 1) and plan.config.gan.critic_steps == 5
    plan = planned(wish(train={"device": "cpu", "steps": 9000}), machine, keep=["train.steps"])
    assert plan.config.train.steps == 9000


def test_minibatch_groups_stay_whole():
    config = wish(model={"minibatch_stddev": 8}, train={"device": "cpu", "batch_size": 32})
    machine = Machine(voxels_per_second=1e5)
    plan = planned(config, machine)
    assert all(c.train.batch_size % 8 == 0 for c in machine.asked)
    assert plan.config.train.batch_size == 8


def test_a_budget_too_small_says_what_the_smallest_takes():
    with pytest.raises(ResourceLimit, match=r"nothing fits into 0.001 h.*16 x 16 x 16.* h and "):
        planned(wish(), Machine(voxels_per_second=1e5), hours=0.001)
    with pytest.raises(ResourceLimit, match=r"nothing fits.*0.001 GB"):
        planned(wish(), Machine(), memory=10**6)


def test_where_nothing_runs_its_reason_is_named():
    def never(config: Config) -> Measurement:
        raise ResourceLimit("a trial of a few steps ran out of memory")

    with pytest.raises(ResourceLimit, match=r"nothing fits.*ran out of memory"):
        planned(wish(), never)


@pytest.mark.parametrize("hours", [0.0, -1.0, math.nan, math.inf])
def test_rejects_hours(hours):
    with pytest.raises(ConfigError, match="hours"):
        planned(wish(), Machine(), hours=hours)


def test_rejects_other_arguments():
    for more, said in (({"memory": 0}, "memory"), ({"count": 0}, "count"), ({"keep": ["x"]}, "x")):
        with pytest.raises(ConfigError, match=said):
            planned(wish(), Machine(), **more)


def test_rejects_a_device_that_is_not_there():
    with pytest.raises(ConfigError, match="CUDA devices"):
        planned(wish(train={"device": "cuda:63"}), Machine())


def test_a_busy_machine_is_named():
    def busy(config: Config) -> Measurement:
        return made_up(load=99.0)

    notes = plan_for(wish(train={"device": "cpu"}), measured_by=busy).notes
    assert any("busy" in note and "2.0 of" in note for note in notes)
    with pytest.raises(ResourceLimit, match=r"nothing fits.*busy"):
        plan_for(wish(), hours=1e-6, measured_by=busy)


def test_where_only_other_work_is_in_the_way_the_smallest_is_proposed(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)

    def machine(cores: float, load: float) -> Measure:
        return lambda config: made_up(step_seconds=4.0, load=load, cores=cores)

    plan = plan_for(wish(), hours=0.5, measured_by=machine(cores=0.3, load=12.0))
    assert plan.config.train.steps == 1000 and plan.config.train.batch_size == 1
    assert plan.prediction.train_seconds > 1800.0
    assert any("longer than 0.5 h" in note for note in plan.notes)
    for cores, load in ((2.0, 12.0), (0.3, 0.0)):
        with pytest.raises(ResourceLimit, match="nothing fits"):
            plan_for(wish(), hours=0.5, measured_by=machine(cores, load))


def test_a_cyclegan_keeps_what_it_has_not():
    config = wish(
        data={"source_b": "other"},
        gan={"variant": "cyclegan", "critic_steps": 5},
        train={"device": "cpu", "batch_size": 4},
    )
    machine = Machine(voxels_per_second=5e6)
    plan = planned(config, machine, hours=4.0)
    assert all(c.gan.critic_steps == 5 for c in machine.asked)
    assert not any("critic_steps" in said for said in plan.traded)


def test_slabs_are_offered_nothing_that_they_refuse() -> None:
    config = Config()
    config.train.split = (2, 1, 1)
    for trade in trades_for("cpu"):
        changed = config.model_copy(deep=True)
        trade.change(changed)
        assert changed.train.micro_batch is None and not changed.train.recompute
