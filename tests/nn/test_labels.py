"""check_labels refuses what does not fit."""

from __future__ import annotations

import pytest
import torch

from fastgan.errors import ConfigError
from fastgan.nn import check_labels

WRONG = [
    (torch.tensor([0, 1]), 0, "without classes"),
    (None, 2, "labels are missing"),
    (torch.tensor([0, 2]), 2, "label 2 is not in 0..1"),
    (torch.tensor([0, -1]), 2, "label -1 is not in 0..1"),
    (torch.tensor([0, 1, 1]), 2, r"shape \[2\], got torch.int64 of shape \[3\]"),
    (torch.tensor([0.0, 1.0]), 2, "got torch.float32"),
]


@pytest.mark.parametrize(("labels", "num_classes", "message"), WRONG)
def test_rejects_labels(labels: torch.Tensor | None, num_classes: int, message: str) -> None:
    with pytest.raises(ConfigError, match=f"critic: .*{message}"):
        check_labels("critic", labels, num_classes, 2)


def test_accepts_labels() -> None:
    check_labels("critic", torch.tensor([1, 0]), 2, 2)
    check_labels("critic", None, 0, 2)
