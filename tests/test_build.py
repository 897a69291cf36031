"""Configuration of the build: what the environment asks for, without compiling anything."""

from __future__ import annotations

import importlib.util
import stat
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
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


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
def test_cuda_mode(build: ModuleType, value: str) -> None:
    assert build.cuda_mode({"FASTGAN_CUDA": value}) == value
    assert build.cuda_mode({}) == "auto"


@pytest.mark.parametrize("value", ["", "yes", "ON", "2"])
def test_rejects_cuda_mode(build: ModuleType, value: str) -> None:
    with pytest.raises(build.BuildError, match="FASTGAN_CUDA must be auto, 0 or 1"):
        build.cuda_mode({"FASTGAN_CUDA": value})


def test_default_archs_are_those_the_compiler_has(build: ModuleType) -> None:
    assert build.parse_cuda_archs({}, AVAILABLE) == ["80", "90a", "100"]
    assert build.parse_cuda_archs({}, ("80", "90")) == ["80", "90a"]
    with pytest.raises(build.BuildError, match="nvcc has none of"):
        build.parse_cuda_archs({}, ("70",))


def test_archs_are_sorted_and_unique(build: ModuleType) -> None:
    environ = {"FASTGAN_CUDA_ARCHS": "100; 80;90a;80"}
    assert build.parse_cuda_archs(environ, AVAILABLE) == ["80", "90a", "100"]


@pytest.mark.parametrize("text", ["", ";", "sm_90", "9.0", "90b", "native;80"])
def test_rejects_malformed_archs(build: ModuleType, text: str) -> None:
    with pytest.raises(build.BuildError, match="FASTGAN_CUDA_ARCHS must be"):
        build.parse_cuda_archs({"FASTGAN_CUDA_ARCHS": text}, AVAILABLE)


def test_rejects_archs_the_compiler_lacks(build: ModuleType) -> None:
    with pytest.raises(build.BuildError, match=r"nvcc has no \['130'\]"):
        build.parse_cuda_archs({"FASTGAN_CUDA_ARCHS": "80;130"}, AVAILABLE)


def test_native_archs_ask_the_driver(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "native_cuda_archs", lambda: ["90a"])
    assert build.parse_cuda_archs({"FASTGAN_CUDA_ARCHS": "native"}, AVAILABLE) == ["90a"]


def test_gencode_ends_with_ptx_of_the_newest(build: ModuleType) -> None:
    assert build.gencode_flags(["80", "90a"]) == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90a,code=sm_90a",
        "-gencode=arch=compute_90,code=compute_90",
    ]


def test_toolkit_root_is_read_from_the_dry_run(build: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    assert build.parse_toolkit_root(DRYRUN.format(top=tmp_path)) == tmp_path.resolve()
    with pytest.raises(build.BuildError, match="TOP="):
        build.parse_toolkit_root("nvcc fatal\n")


def test_toolkit_is_found_through_a_wrapper(build: ModuleType, tmp_path: Path) -> None:
    root = fake_nvcc(tmp_path)
    wrapper = tmp_path / "wrapper" / "nvcc"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {root}/bin/nvcc "$@"\n')
    wrapper.chmod(0o755)
    toolkit = build.find_cuda_toolkit({"PATH": str(wrapper.parent)})
    assert (toolkit.nvcc, toolkit.root, toolkit.version) == (wrapper, root.resolve(), "13.0")
    assert toolkit.archs == ("80", "90", "100")
    assert toolkit.library_dir == root / "lib64"


def test_cuda_home_comes_before_the_path(build: ModuleType, tmp_path: Path) -> None:
    root = fake_nvcc(tmp_path)
    toolkit = build.find_cuda_toolkit({"CUDA_HOME": str(root), "PATH": "/nowhere"})
    assert toolkit.nvcc == root / "bin" / "nvcc"
    with pytest.raises(build.BuildError, match="does not exist"):
        build.find_cuda_toolkit({"CUDA_HOME": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("options", "message"),
    [({"release": "11.8"}, "CUDA 12.0 or newer"), ({"compiles": False}, "no host compiler")],
)
def test_rejects_a_toolkit_that_cannot_compile(
    build: ModuleType, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    root = fake_nvcc(tmp_path, **options)  # type: ignore[arg-type]
    with pytest.raises(build.BuildError, match=message):
        build.find_cuda_toolkit({"CUDA_HOME": str(root)})


def test_auto_keeps_the_reason_and_one_fails_with_it(build: ModuleType) -> None:
    toolkit, archs, reason = build.cuda_configuration({"PATH": "/nowhere"})
    assert (toolkit, archs) == (None, [])
    assert reason == "nvcc not found: CUDA_HOME is unset and nvcc is not on PATH"
    with pytest.raises(build.BuildError, match=r"FASTGAN_CUDA=1, but .* nvcc not found"):
        build.cuda_configuration({"PATH": "/nowhere", "FASTGAN_CUDA": "1"})
    off = build.cuda_configuration({"FASTGAN_CUDA": "0"})
    assert off == (None, [], "switched off by FASTGAN_CUDA=0")


def test_isa_levels(build: ModuleType) -> None:
    assert build.isa_levels("x86_64") == ["baseline", "avx2", "avx512"]
    assert build.isa_levels("aarch64") == ["baseline"]


def test_every_source_is_built_once_per_level(build: ModuleType) -> None:
    text = build.ninja_file("c++", ["baseline", "avx2"], True, None, [], ["/include"], "_C.so")
    kernels = sorted((ROOT / "csrc" / "cpu").glob("*_kernels.cpp"))
    assert kernels
    for source in kernels:
        assert f"build cpu/{source.stem}.baseline.o: cxx " in text
        assert f"build cpu/{source.stem}.avx2.o: cxx " in text
    assert "rule nvcc" not in text
    assert "-mavx" not in text.replace("-mavx2 -mfma -mf16c", "")


def test_failed_command_shows_its_output(build: ModuleType) -> None:
    with pytest.raises(build.BuildError, match=r"failed \(3\):\nwhy"):
        build.run("sh", "-c", "echo why; exit 3")
    with pytest.raises(build.BuildError, match="cannot be run"):
        build.run("/nowhere/compiler")
