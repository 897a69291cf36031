"""Mutants of a Python module: one node of its syntax tree changed at import."""

from __future__ import annotations

import ast
import copy
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

Change = Callable[[], None]

_OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add,
    ast.Pow: ast.Mult,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


# What an audit says, and how a control must come out.
_WORDS = {
    "pass": "fail",
    "warn": "pass",
    "fail": "pass",
    "cannot tell": "pass",
    "not asked": "pass",
    "found": "quiet",
    "quiet": "found",
}


def sites(source: str) -> list[str]:
    """One description, "line: what becomes what", for each mutant of a module."""
    tree = ast.parse(source)
    return [description for description, _ in _changes(tree)]


def mutated(source: str, index: int) -> ast.Module:
    """The syntax tree with mutant `index` of `sites` applied."""
    tree = ast.parse(source)
    list(_changes(tree))[index][1]()
    return ast.fix_missing_locations(tree)


def _changes(tree: ast.Module) -> Iterator[tuple[str, Change]]:
    for node in _code(tree):
        yield from _changes_of(node)


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run: not annotations, defaults of messages, or what guards or words an error."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Raise | ast.Import | ast.ImportFrom | ast.arguments):
            continue
        # Neither changes what is computed.
        if isinstance(child, ast.keyword) and child.arg in ("strict", "frozen"):
            continue
        if isinstance(child, ast.Call) and getattr(child.func, "id", "") == "require":
            yield from _code_from(child.args[0])
            continue
        if isinstance(child, ast.AnnAssign):
            if child.value is not None:
                yield from _code_from(child.value)
            continue
        if isinstance(child, ast.FunctionDef):
            for statement in child.body:
                yield from _code_from(statement)
            continue
        if isinstance(child, ast.Assign) and getattr(child.targets[0], "id", "") == "__all__":
            continue
        yield from _code_from(child)


def _code_from(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    yield from _code(node)


def _changes_of(node: ast.AST) -> Iterator[tuple[str, Change]]:
    line = getattr(node, "lineno", 0)

    def swap(owner: Any, field: str, new: Any) -> tuple[str, Change]:
        before = ast.unparse(node)
        changed = copy.deepcopy(node)
        setattr(changed, field, new)
        return (
            f"{line}: {before} -> {ast.unparse(changed)}",
            lambda: setattr(owner, field, new),
        )

    if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in _OPERATORS:
        if not _is_type(node):
            yield swap(node, "op", _OPERATORS[type(node.op)]())
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield swap(node, "ops", [_OPERATORS[type(node.ops[0])]()])
    elif isinstance(node, ast.Constant) and node.value in _WORDS:
        yield swap(node, "value", _WORDS[node.value])
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield swap(node, "value", not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield swap(node, "value", node.value + 1)
    elif isinstance(node, ast.IfExp | ast.If | ast.While):
        test = ast.UnaryOp(ast.Not(), node.test)
        description = f"{line}: if {ast.unparse(node.test)} -> if {ast.unparse(test)}"
        yield description, lambda: setattr(node, "test", test)
    elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
        # a gradient left out
        for i, element in enumerate(node.value.elts):
            if isinstance(element, ast.Name | ast.IfExp | ast.Call):
                elements = list(node.value.elts)
                elements[i] = ast.Constant(None)
                value = ast.Tuple(elements, ast.Load())
                description = f"{line}: return {ast.unparse(element)} -> None"
                yield description, lambda value=value: setattr(node, "value", value)


def _is_type(node: ast.BinOp | ast.BoolOp) -> bool:
    """Whether this is text, or a union of types."""
    return "'" in ast.unparse(node) and isinstance(node, ast.BinOp)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module with one mutant applied, and others as ever."""

    def __init__(self, module: str, path: Path, index: int) -> None:
        self.module, self.path, self.index = module, path, index

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != self.module:
            return None
        return importlib.machinery.ModuleSpec(name, self, origin=str(self.path))

    def create_module(self, spec: Any) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(self.path)
        tree = mutated(self.path.read_text(), self.index)
        exec(compile(tree, str(self.path), "exec"), module.__dict__)


def install(module: str, path: Path, index: int) -> None:
    """From now on, `module` is imported with the mutant."""
    sys.meta_path.insert(0, Finder(module, path, index))
