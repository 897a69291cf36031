from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def toys() -> ModuleType:
    """The networks of the toy games."""
    spec = importlib.util.spec_from_file_location(
        "fastgan_toy_networks", Path(__file__).with_name("networks.py")
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fastgan_toy_networks"] = module
    spec.loader.exec_module(module)
    return module
