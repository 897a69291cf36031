from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
import torch

import fastgan.ops

# Imported by name: collected as files, the operators would be defined twice.
MODULES = ["fastgan.random", "fastgan.runs.sliding_window", "fastgan.measures.structure"]
MODULES += [f"fastgan.ops.{module.name}" for module in pkgutil.iter_modules(fastgan.ops.__path__)]
RESULTS = {"GradientPenalty", "Neighbours", "Transform"}
PUBLIC = sorted(set(fastgan.ops.__all__) - RESULTS)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name), extraglobs={"torch": torch}).failed == 0


@pytest.mark.parametrize("name", PUBLIC)
def test_public_operator_has_an_example(name: str) -> None:
    function = getattr(fastgan.ops, name)
    assert ">>>" in function.__doc__
    if name != "implementation":
        for section in ("Args:", "Returns:", "Raises:", "Derivatives:", "Deterministic:", "Cost:"):
            assert section in function.__doc__, f"{name} says nothing under {section}"
