"""Who may import whom: the layers, the rooms of the audit, and what a light import pulls in."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fastgan"

# Each may import itself and what is named here (fastgan/*.py beside fastgan/__init__.py included).
PLAIN = {"arrays", "durable", "errors", "guarded", "random", "spans", "terminal"}
ALLOWED = {
    "reference": PLAIN,
    "kernels": PLAIN,
    "ops.implementations": PLAIN | {"reference", "kernels", "_C"},
    "ops": PLAIN | {"reference", "ops.implementations"},
    "nn": PLAIN | {"ops"},
    "measures": PLAIN | {"ops"},
    "models": PLAIN | {"ops", "nn"},
    "slabs": PLAIN | {"reference", "ops", "nn", "models"},
    "gans": PLAIN | {"ops", "nn", "measures", "models", "slabs"},
    "data": PLAIN | {"config"},
    "pictures": PLAIN,
    "train": PLAIN
    | {"config", "ops", "nn", "measures", "models", "slabs", "gans", "data", "pictures"},
    "audit": PLAIN | {"config", "ops", "nn", "measures", "models", "data", "pictures"},
    "utility": PLAIN
    | {"config", "strict_yaml", "models", "gans", "data", "measures", "pictures", "train", "audit"},
    "runs": PLAIN | {"config", "ops", "nn", "measures", "models", "gans", "data", "pictures"},
    "cli": PLAIN | {"config", "ops", "data", "pictures", "train", "audit", "utility", "runs"},
    "__main__": {"cli"},
    "arrays": set(),
    "strict_yaml": {"errors", "guarded"},
    "config": PLAIN | {"strict_yaml", "gans"},
    "durable": {"errors", "guarded"},
    "guarded": {"errors", "terminal"},
    "terminal": set(),
    "errors": set(),
    "random": set(),
    "spans": set(),
}
ALLOWED["runs"] |= {"train", "audit"}
ALLOWED["cli"] |= {"ops.implementations"}
# Inside a function (or for annotations alone), these may reach further, with the reason.
LAZY: dict[tuple[str, str], str] = {}
STANDARD = sys.stdlib_module_names
HEAVY = [
    "nibabel",
    "nrrd",
    "pydicom",
    "pydantic",
    "tyro",
    "rich",
    "matplotlib",
    "yaml",
    "safetensors",
    "scipy",
    "sklearn",
]


# Rooms of the audit that each of its rooms may import; a wing is a judgement, named as it is.
WINGS = (
    *("memorization", "membership", "labels", "leakage", "shortcuts", "sites", "quality"),
    "translation",
)
BASE = {"rules", "statistics", "evidence", "judgement"}
ROOMS: dict[str, set[str]] = {
    "rules": set(),
    "statistics": {"rules"},
    "likeness": {"rules", "statistics"},
    "evidence": {"rules", "statistics"},
    "judgement": {"rules", "statistics", "evidence"},
    "phantoms": {"evidence"},
    "controls": BASE,
    **{wing: BASE | {"controls", "likeness"} for wing in WINGS},
    "run": {*BASE, *WINGS},
    "report": {*BASE, "run"},
}
MOST_ROOMS = 17


def layer(path: Path) -> str:
    return named(path.relative_to(PACKAGE).with_suffix("").parts)


def named(parts: tuple[str, ...]) -> str:
    """The layer of a module: its folder, or a folder inside that with rules of its own."""
    inner = ".".join(parts[:2])
    return inner if inner in ALLOWED else parts[0]


def imports(path: Path) -> list[tuple[str, bool, int]]:
    """Layers of fastgan that a file imports: (layer, not needed to import the file, line)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.FunctionDef | ast.AsyncFunctionDef) or _for_types_alone(block)
        for node in ast.walk(block)
    }
    return [
        (named(tuple(parts[1:])), id(node) in lazy, node.lineno)
        for parts, node in _imported(path, tree)
        if len(parts) > 1 and parts[1] in ALLOWED | {"_C": set()}
    ]


def rooms_imported(path: Path) -> list[tuple[str, int]]:
    """Rooms of the audit that a file imports, anywhere in it: (room, line)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        (parts[2], node.lineno)
        for parts, node in _imported(path, tree)
        if len(parts) > 2 and parts[1] == "audit"
    ]


def _imported(
    path: Path, tree: ast.Module
) -> Iterator[tuple[list[str], ast.Import | ast.ImportFrom]]:
    """Names of fastgan that a file imports, in parts, and the statement."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "fastgan":
                yield parts, node


def _for_types_alone(block: ast.AST) -> bool:
    return isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"


FILES = [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_layers(path: Path) -> None:
    own = layer(path)
    for other, lazy, line in imports(path):
        if other == own or other in ALLOWED[own] or (lazy and (own, other) in LAZY):
            continue
        raise AssertionError(f"{path.relative_to(ROOT)}:{line}: {own} must not import {other}")


@pytest.mark.parametrize(
    "path", [p for p in FILES if layer(p) == "audit"], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_rooms_of_the_audit(path: Path) -> None:
    own = path.relative_to(PACKAGE / "audit").parts[0].removesuffix(".py")
    for other, line in rooms_imported(path):
        allowed = ROOMS.get(own, set()) | {own}
        assert other in allowed, f"{path}:{line}: audit.{own} must not import audit.{other}"


def test_utility_takes_the_statistics_of_the_audit_alone() -> None:
    for path in sorted((PACKAGE / "utility").glob("*.py")):
        assert {room for room, _ in rooms_imported(path)} <= {"statistics"}, path


def test_every_room_of_the_audit_has_a_rule_and_they_are_few() -> None:
    rooms = {p.name.removesuffix(".py") for p in (PACKAGE / "audit").iterdir()}
    rooms -= {"__init__", "__pycache__"}
    assert rooms == set(ROOMS) and len(rooms) <= MOST_ROOMS


def test_rules_of_the_audit_catch_a_planted_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    bad = tmp_path / "audit" / "quality" / "bad.py"
    bad.parent.mkdir(parents=True)
    for text in (
        "from fastgan.audit.memorization.power import LEVELS",
        "from fastgan.audit import sites",
        "def f():\n    import fastgan.audit.run",
        "from fastgan.audit.report.page import page",
    ):
        bad.write_text(text)
        with pytest.raises(AssertionError, match=r"audit\.quality must not import audit"):
            test_rooms_of_the_audit(bad)


# What a bare `import fastgan` may be used for below the command line.
PACKAGE_FACTS = {"__version__", "__path__", "__file__"}


def faces_used(path: Path) -> list[tuple[str, int]]:
    """Names of the package's face, `fastgan/__init__.py`, that a file uses: (name, line)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    known = set(ALLOWED) | PACKAGE_FACTS | {"_C"}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "fastgan":
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found += [(node.attr, node.lineno)] if node.value.id == "fastgan" else []
    return [(name, line) for name, line in found if name not in known]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_face_of_the_package_is_for_its_users(path: Path) -> None:
    """`fastgan.GAN` and its like load the top layers, so nothing inside the package names them."""
    assert faces_used(path) == []


def test_the_rule_of_the_face_catches_a_planted_use(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    for text in ("from fastgan import GAN", "import fastgan\n\nfastgan.load('runs')"):
        bad.write_text(text)
        assert len(faces_used(bad)) == 1
    bad.write_text("import fastgan\nfrom fastgan import ops\n\nprint(fastgan.__version__)")
    assert faces_used(bad) == []


def test_every_layer_has_a_rule() -> None:
    assert {layer(path) for path in FILES} <= set(ALLOWED)


def test_rules_catch_a_planted_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    bad = tmp_path / "ops" / "bad.py"
    bad.parent.mkdir()
    for text in (
        "from fastgan import train",
        "def f():\n    import fastgan.train.loop",
        "from fastgan.nn.conv import Conv",
    ):
        bad.write_text(text)
        with pytest.raises(AssertionError, match="ops must not import"):
            test_layers(bad)
    inner = tmp_path / "ops" / "implementations" / "cpu" / "bad.py"
    inner.parent.mkdir(parents=True)
    for text in (
        "from fastgan.ops.checks import require",
        "from fastgan.ops import implementation",
    ):
        inner.write_text(text)
        with pytest.raises(AssertionError, match=r"ops\.implementations must not import ops$"):
            test_layers(inner)


def test_package_itself_loads_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import fastgan; assert 'WassersteinGP' in "
        "dir(fastgan); print(sorted(set(sys.modules) - before - {'fastgan', 'typing'}))"
    )
    run = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stderr
    loaded = [name for name in eval(run.stdout) if name.split(".")[0] not in STANDARD]
    assert loaded == []


def test_faces_of_the_package() -> None:
    import fastgan

    for name in fastgan.__all__:
        assert getattr(fastgan, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'WassersteinGO'"):
        fastgan.WassersteinGO  # noqa: B018


@pytest.mark.parametrize(
    "module", ["fastgan", "fastgan.ops", "fastgan.nn", "fastgan.models", "fastgan.gans"]
)
def test_light_import(module: str) -> None:
    code = f"import sys, {module}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


def test_ops_import_without_the_extension() -> None:
    code = (
        "import sys; sys.modules['fastgan._C'] = None; import torch, fastgan.ops as ops; "
        "from fastgan.ops.implementations.dispatch import choose, report; "
        "x = torch.randn(1, 2, 3); "
        "ops.norm_act(x, num_groups=1); print(choose('norm_act', x)); "
        "print([r.reason for r in report() if r[1:3] == ('native', 'cpu')][0])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stderr
    chosen, reason = run.stdout.strip().splitlines()
    assert chosen == "reference" and "fastgan._C cannot be imported" in reason


SOURCES = [
    p for p in sorted((ROOT / "csrc").rglob("*")) if p.suffix in (".h", ".cuh", ".cpp", ".cu")
]


@pytest.mark.skipif(not SOURCES, reason="csrc is not part of this checkout")
def test_csrc_knows_no_torch_header() -> None:
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        includes = re.findall(r'#\s*include\s*[<"](?:torch|ATen|c10|caffe2)/[^>"]*', text)
        assert not includes, f"{path.relative_to(ROOT)}: {includes[0]}"
        if "bindings" not in path.parts:
            assert "pybind11" not in text, f"{path.relative_to(ROOT)}: Python outside bindings"
