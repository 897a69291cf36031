"""What Triton's compiler made of the kernels for an H100: speed that needs no clock and no GPU."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
import triton

from tests.conftest import OTHER_TRITON

of_triton = pytest.mark.skipif(not triton.__version__.startswith("3.9."), reason=OTHER_TRITON)
PATH = Path(__file__).resolve().parents[2] / "bench" / "tools" / "machine_code_triton.py"


@pytest.fixture(scope="module")
def machine_code() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fastgan_machine_code_triton", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@of_triton
def test_kernels_keep_their_budgets(machine_code) -> None:
    found = machine_code.rows("bfloat16 NDHWC")
    assert {row.kernel for row in found} == {
        name for name in machine_code.REGISTERS if "norm_act" in name
    }
    assert {row.kernel: row.complaints() for row in found if row.complaints()} == {}
    # Every access of a kernel over voxels is of 16 bytes, but for what stands before its loop.
    for row in found:
        if row.kernel.endswith("sums_kernel") or "statistics_kernel" in row.kernel:
            assert row.narrow_loads == 0, row
        if row.kernel.endswith("_act_apply_kernel"):
            assert (row.narrow_loads, row.narrow_stores) == (0, 0), row


@of_triton
def test_search_keeps_its_budgets(machine_code) -> None:
    found = machine_code.rows("float32 rows", "bfloat16 rows", "int16 rows")
    assert len(found) == 8 and all(row.budget_registers for row in found)
    assert {(row.kernel, row.use): row.complaints() for row in found if row.complaints()} == {}
    for row in found:
        if row.kernel == "nearest_all_pairs_kernel":
            assert row.narrow_loads == 0, row


@of_triton
@pytest.mark.parametrize(("dtype", "gathers", "weights"), [("bfloat16", 3, 3), ("float32", 1, 1)])
def test_convolutions_run_on_tensor_cores(machine_code, dtype, gathers, weights) -> None:
    found = machine_code.rows(f"{dtype} convolution")
    counts = Counter(row.kernel for row in found)
    assert counts["conv3d_gather_kernel"] == gathers and counts["conv3d_wgrad_kernel"] == weights
    merges = {"conv3d_statistics_merge_kernel", "conv3d_wgrad_merge_kernel"}
    assert set(counts) - merges == {"conv3d_gather_kernel", "conv3d_wgrad_kernel"}
    assert [(row.kernel, row.complaints()) for row in found if row.complaints()] == []


def test_a_planted_row_breaks_its_budget(machine_code) -> None:
    good = machine_code.Row("norm_act_apply_kernel", "", 44, 0, 0, 10, 0, 2, 0, 0, 64, 56)
    assert good.complaints() == []
    bad = good._replace(registers=57, spills=8, wide_loads=0, wide_stores=0)
    assert len(bad.complaints()) == 4
    sums = good._replace(kernel="norm_act_bwd_sums_kernel", in_flight=35 << 10)
    assert sums.complaints() == ["35 KB in flight"]
    share = good._replace(kernel="nearest_chosen_pairs_kernel", wide_loads=0)
    assert share.complaints() == ["no load of 16 bytes"]
    assert share._replace(use="bfloat16 rows").complaints() == []
    gather = good._replace(kernel="conv3d_gather_kernel", wide_loads=0)
    assert gather.complaints() == ["no instruction of the tensor cores", "no copy of 16 bytes"]
    gather = gather._replace(tensor_core=6, wide_copies=8)
    assert gather.complaints() == []
    assert len(gather._replace(shared=232449).complaints()) == 1
