"""The CUDA kernels as compiled for an H100: registers, spills, width of accesses."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Also where a toolkit is found that lacks a tool.
NO_NVCC = "no nvcc, or no cuobjdump beside it or in Triton"


@pytest.fixture(scope="module")
def machine_code() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "fastgan_machine_code", ROOT / "bench" / "tools" / "machine_code.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_kernels_keep_their_budgets(machine_code) -> None:
    try:
        kernels = machine_code.cuda_kernels()
    except machine_code.Missing:
        pytest.skip(NO_NVCC)
    names = {k.name for k in kernels}
    for dtype, wide in (("float", 4), ("double", 2), ("bfloat16", 8)):
        for V in (1, wide):
            assert f"norm_act_bwd_bwd_kernel<{dtype}, {V}>" in names
            assert f"slope_penalty_squares_kernel<{dtype}, {V}>" in names
        for channels in (0, 1, 2):
            assert f"bias_act_fwd_kernel<{dtype}, {channels}>" in names
    for dtype in ("float", "bfloat16"):
        assert f"conv_single_dgrad_kernel<{dtype}>" in names
        for stride in (1, 2):
            assert f"conv_single_fprop_kernel<{dtype}, {stride}>" in names
    assert [(k.name, found) for k in kernels if (found := k.complaints())] == []


LOG = """
ptxas info    : Compiling entry function '_ZN7fastgan4cuda13_GLOBAL__N__1\
19norm_act_bwd_kernelINS_8BFloat16ELi8EEEvNS1_9BwdParamsIT_EE' for 'sm_90a'
    8 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 129 registers, used 1 barriers, 512 bytes smem
"""
CODE = """
\t\tFunction : _ZN7fastgan4cuda13_GLOBAL__N__1\
19norm_act_bwd_kernelINS_8BFloat16ELi8EEEvNS1_9BwdParamsIT_EE
        /*0000*/   LDG.E.64.CONSTANT R4, desc[UR4][R2.64] ;
        /*0010*/   LDG.E R4, desc[UR4][R2.64] ;
        /*0020*/   STG.E.U16 desc[UR4][R2.64], R4 ;
"""


def test_a_planted_kernel_breaks_its_budget(machine_code) -> None:
    (kernel,) = machine_code.parse(LOG, CODE)
    assert kernel.name == "norm_act_bwd_kernel<bfloat16, 8>" and kernel.shared_bytes == 512
    assert kernel.complaints() == [
        "129 registers, budget 128",
        "12 bytes of spills",
        "widest load 64 bits, not 128",
        "widest store 16 bits, not 128",
        "1 LDG of 32 bits in a hot loop, not 128",
        "1 LDG of 64 bits in a hot loop, not 128",
        "1 STG of 16 bits in a hot loop, not 128",
        "0 KB in flight, not 36",
    ]


SPLIT = """
        /*0000*/   LDG.E R9, desc[UR4][R2.64] ;
        /*0010*/   LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;
        /*0020*/   STG.E.128 desc[UR4][R2.64], R4 ;
        /*0030*/   STG.E desc[UR4][R2.64+0x10], R4 ;
        /*0040*/   @P0 BRA 0x10 ;
        /*0050*/   STG.E.64 desc[UR4][R2.64+0x20], R4 ;
        /*0060*/   @P0 BRA 0x0 ;
"""


def test_counts_every_access_of_the_hot_loop(machine_code) -> None:
    from loops import hot_accesses

    # not the loop around it, nor what stands before
    assert hot_accesses(SPLIT) == {("LDG", 128): 1, ("STG", 128): 1, ("STG", 32): 1}
    straight = SPLIT.replace("BRA 0x10 ", "EXIT").replace("BRA 0x0 ", "EXIT")
    assert hot_accesses(straight)["STG", 64] == 1


LOOP = """
        /*0000*/   LDG.E.128 R20, desc[UR4][R2.64] ;
        /*0010*/   LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;
        /*0020*/   {second} ;
        /*0030*/   FADD R12, R7, R12 ;
        /*0040*/   @P0 BRA 0x10 ;
"""


def test_counts_what_a_loop_reads_at_once(machine_code) -> None:
    from reads_in_flight import in_flight, reads_together

    before_use = LOOP.format(second="LDG.E.128 R8, desc[UR4][R2.64+0x10]")
    assert reads_together(before_use) == 2
    assert reads_together(LOOP.format(second="FADD R13, R5, R13")) == 1
    assert reads_together(LOOP.format(second="LDG.E R8, desc[UR4][R2.64+0x10]")) == 1
    # without a loop: all of it
    assert reads_together(before_use.replace("0x10 ", "0x50 ")) == 3
    # 80 registers: three blocks of 256 threads
    assert in_flight(before_use, 80, 256) == 2 * 16 * 256 * 3
    assert in_flight(before_use, 16, 256) == 2 * 16 * 256 * 8


def test_names_a_missing_tool(machine_code, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_HOME", "/nowhere")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(machine_code.Missing, match="no nvcc: neither in CUDA_HOME"):
        machine_code.find_tool("nvcc")
