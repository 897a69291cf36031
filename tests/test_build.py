"""Configuration of the build: what the environment asks for, without compiling anything."""

from __future__ import annotations

import importlib.util
import re
import stat
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
AVAILABLE = ("75", "80", "86", "89", "90", "100", "120")
DRYRUN = "#$ _CUDART_=cudart\n#$ TOP={top}/bin/..\n#$ gcc -E x.cu\n"


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fastgan_setup", ROOT / "setup.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def toolchain(build: ModuleType) -> ModuleType:
    """What setup.py asks about compilers, csrc/toolchain.py."""
    return sys.modules["toolchain"]


def fake_nvcc(folder: Path, *, release: str = "13.0", compiles: bool = True) -> Path:
    """A toolkit whose nvcc answers the questions of setup.py and compiles nothing."""
    root = folder / "cuda"
    (root / "bin").mkdir(parents=True)
    (root / "lib64").mkdir()
    (root / "lib64" / "libcudart_static.a").touch()
    nvcc = root / "bin" / "nvcc"
    nvcc.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f'  *--version*) echo "Cuda compilation tools, release {release}, V{release}.88" ;;\n'
        f'  *--dryrun*) echo "#\\$ TOP={root}/bin/.." ;;\n'
        '  *--list-gpu-code*) echo "sm_80 sm_90 sm_100" ;;\n'
        f"  *) {'exit 0' if compiles else 'echo no host compiler; exit 1'} ;;\n"
        "esac\n"
    )
    nvcc.chmod(nvcc.stat().st_mode | stat.S_IXUSR)
    return root


@pytest.mark.parametrize("value", ["auto", "0", "1"])
def test_cuda_mode(toolchain: ModuleType, value: str) -> None:
    assert toolchain.cuda_mode({"FASTGAN_CUDA": value}) == value
    assert toolchain.cuda_mode({}) == "auto"


@pytest.mark.parametrize("value", ["", "yes", "ON", "2"])
def test_rejects_cuda_mode(toolchain: ModuleType, value: str) -> None:
    with pytest.raises(toolchain.BuildError, match="FASTGAN_CUDA must be auto, 0 or 1"):
        toolchain.cuda_mode({"FASTGAN_CUDA": value})


def test_default_archs_are_those_the_compiler_has(toolchain: ModuleType) -> None:
    assert toolchain.parse_cuda_archs({}, AVAILABLE) == ["80", "90a", "100", "120"]
    assert toolchain.parse_cuda_archs({}, ("80", "90")) == ["80", "90a"]
    with pytest.raises(toolchain.BuildError, match="nvcc has none of"):
        toolchain.parse_cuda_archs({}, ("70",))


def test_archs_are_sorted_and_unique(toolchain: ModuleType) -> None:
    environ = {"FASTGAN_CUDA_ARCHS": "100; 80;90a;80"}
    assert toolchain.parse_cuda_archs(environ, AVAILABLE) == ["80", "90a", "100"]


@pytest.mark.parametrize("text", ["", ";", "sm_90", "9.0", "90b", "native;80"])
def test_rejects_malformed_archs(toolchain: ModuleType, text: str) -> None:
    with pytest.raises(toolchain.BuildError, match="FASTGAN_CUDA_ARCHS must be"):
        toolchain.parse_cuda_archs({"FASTGAN_CUDA_ARCHS": text}, AVAILABLE)


def test_rejects_archs_the_compiler_lacks(toolchain: ModuleType) -> None:
    with pytest.raises(toolchain.BuildError, match=r"nvcc has no \['130'\]"):
        toolchain.parse_cuda_archs({"FASTGAN_CUDA_ARCHS": "80;130"}, AVAILABLE)


def test_native_archs_ask_the_driver(
    toolchain: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolchain, "native_cuda_archs", lambda: ["90a"])
    assert toolchain.parse_cuda_archs({"FASTGAN_CUDA_ARCHS": "native"}, AVAILABLE) == ["90a"]


def test_gencode_ends_with_ptx_of_the_newest(toolchain: ModuleType) -> None:
    assert toolchain.gencode_flags(["80", "90a"]) == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90a,code=sm_90a",
        "-gencode=arch=compute_90,code=compute_90",
    ]


def test_toolkit_root_is_read_from_the_dry_run(toolchain: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    assert toolchain.parse_toolkit_root(DRYRUN.format(top=tmp_path)) == tmp_path.resolve()
    with pytest.raises(toolchain.BuildError, match="TOP="):
        toolchain.parse_toolkit_root("nvcc fatal\n")


def test_toolkit_is_found_through_a_wrapper(toolchain: ModuleType, tmp_path: Path) -> None:
    root = fake_nvcc(tmp_path)
    wrapper = tmp_path / "wrapper" / "nvcc"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {root}/bin/nvcc "$@"\n')
    wrapper.chmod(0o755)
    toolkit = toolchain.find_cuda_toolkit({"PATH": str(wrapper.parent)})
    assert (toolkit.nvcc, toolkit.root, toolkit.version) == (wrapper, root.resolve(), "13.0")
    assert toolkit.archs == ("80", "90", "100")
    assert toolkit.library_dir == root / "lib64"


def test_cuda_home_comes_before_the_path(toolchain: ModuleType, tmp_path: Path) -> None:
    root = fake_nvcc(tmp_path)
    toolkit = toolchain.find_cuda_toolkit({"CUDA_HOME": str(root), "PATH": "/nowhere"})
    assert toolkit.nvcc == root / "bin" / "nvcc"
    with pytest.raises(toolchain.BuildError, match="does not exist"):
        toolchain.find_cuda_toolkit({"CUDA_HOME": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("options", "message"),
    [({"release": "11.8"}, "CUDA 12.0 or newer"), ({"compiles": False}, "no host compiler")],
)
def test_rejects_a_toolkit_that_cannot_compile(
    toolchain: ModuleType, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    root = fake_nvcc(tmp_path, **options)  # type: ignore[arg-type]
    with pytest.raises(toolchain.BuildError, match=message):
        toolchain.find_cuda_toolkit({"CUDA_HOME": str(root)})


def test_auto_keeps_the_reason_and_one_fails_with_it(toolchain: ModuleType) -> None:
    toolkit, archs, reason = toolchain.cuda_configuration({"PATH": "/nowhere"})
    assert (toolkit, archs) == (None, [])
    assert reason == "nvcc not found: CUDA_HOME is unset and nvcc is not on PATH"
    with pytest.raises(toolchain.BuildError, match=r"FASTGAN_CUDA=1, but .* nvcc not found"):
        toolchain.cuda_configuration({"PATH": "/nowhere", "FASTGAN_CUDA": "1"})
    off = toolchain.cuda_configuration({"FASTGAN_CUDA": "0"})
    assert off == (None, [], "switched off by FASTGAN_CUDA=0")


def test_isa_levels(build: ModuleType) -> None:
    assert build.isa_levels("x86_64") == ["baseline", "avx2", "avx512"]
    assert build.isa_levels("aarch64") == ["baseline"]


def test_every_source_is_built_once_per_level(build: ModuleType) -> None:
    text = build.ninja_file("c++", ["baseline", "avx2"], True, None, [], ["/include"], "_C.so")
    cpu = ROOT / "csrc" / "cpu"
    kernels = [path.relative_to(cpu).with_suffix("") for path in cpu.rglob("*kernels.cpp")]
    assert {str(name) for name in kernels} > {"norm_act/kernels", "conv3d/packed/wgrad_kernels"}
    for name in kernels:
        assert f"build cpu/{name}.baseline.o: cxx " in text
        assert f"build cpu/{name}.avx2.o: cxx " in text
    assert "rule nvcc" not in text
    assert "-mavx" not in text.replace("-mavx2 -mfma -mf16c", "")


def test_sources_of_one_name_have_objects_of_their_own(
    build: ModuleType, toolchain: ModuleType, tmp_path: Path
) -> None:
    toolkit = toolchain.find_cuda_toolkit({"CUDA_HOME": str(fake_nvcc(tmp_path))})
    text = build.ninja_file("c++", ["baseline"], True, toolkit, ["80"], ["/include"], "_C.so")
    objects = re.findall(r"^build (\S+\.o): (\w+) (\S+)$", text, re.MULTILINE)
    targets, _, sources = zip(*objects, strict=True)
    assert len(set(targets)) == len(set(sources)) == len(objects)
    assert {"cpu/norm_act/fwd.o", "cuda/norm_act/fwd.o"} <= set(targets)
    csrc = ROOT / "csrc"
    of_folders = [p for d in ("cpu", "bindings") for p in (csrc / d).rglob("*.cpp")]
    assert set(sources) == {str(p) for p in [*of_folders, *(csrc / "cuda").rglob("*.cu")]}


def test_digest_of_the_cuda_sources_walks_folders(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "ROOT", tmp_path)
    for name in ("core/dtype.h", "cuda/launch.cuh", "cuda/norm_act/fwd.cu"):
        path = tmp_path / "csrc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("first")
    digests = {build.cuda_sources()}
    (tmp_path / "csrc/cuda/norm_act/fwd.cu").write_text("second")
    digests.add(build.cuda_sources())
    (tmp_path / "csrc/cuda/norm_act").rename(tmp_path / "csrc/cuda/bias_act")
    digests.add(build.cuda_sources())
    assert len(digests) == 3


def test_failed_command_shows_its_output(toolchain: ModuleType) -> None:
    with pytest.raises(toolchain.BuildError, match=r"failed \(3\):\nwhy"):
        toolchain.run("sh", "-c", "echo why; exit 3")
    with pytest.raises(toolchain.BuildError, match="cannot be run"):
        toolchain.run("/nowhere/compiler")
