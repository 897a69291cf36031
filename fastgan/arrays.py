"""This module names arrays by what they hold; how they are shaped is said where they are used."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bools", "Bytes", "Column", "Floats", "Integers", "Texts"]

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]
"""Numbers, positions, counts and classes."""
Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
Texts = NDArray[np.str_]
"""Names of subjects, sites and files."""
Column = NDArray[Any]
"""One entry for each volume, whether it is a name or a number."""
