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


@pytest.mark.parametrize(("labels", "num_classes"), [([1, 0], 2), ([2, 2], 3), (None, 0), ([], 2)])
def test_accepts_labels_and_leaves_them_alone(labels: list[int] | None, num_classes: int) -> None:
    """The first and the last class, no classes, and an empty batch."""
    given = None if labels is None else torch.tensor(labels, dtype=torch.int64)
    batch = 2 if labels is None else len(labels)
    assert check_labels("critic", given, num_classes, batch) is None  # type: ignore[func-returns-value]
    assert given is None or given.tolist() == labels
