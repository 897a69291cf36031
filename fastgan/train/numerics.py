"""NaN and infinity: found on the device, never applied, reported when the host looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastgan.errors import NumericsError

__all__ = ["Watch"]


@dataclass(frozen=True)
class _Check:
    step: int
    phase: str
    loss: Tensor
    skip: Tensor
    batches: Mapping[str, Tensor]


class Watch:
    """Judges every update and remembers it until `settle`.

    Args:
        policy: `skip` leaves out the updates that are not finite and counts them; `stop` leaves
            out the first such update and every one after it, so weights and moments stay what
            they were when `settle` raises.
    """

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.skipped: Counter[str] = Counter()
        """Phase to number of updates left out, up to the last `settle`."""
        self._pending: list[_Check] = []
        self._stopped: Tensor | None = None

    def judge(
        self,
        step: int,
        phase: str,
        loss: Tensor,
        gradients: Sequence[Tensor],
        batches: Mapping[str, Tensor],
    ) -> Tensor:
        """A float32 scalar on the loss's device: 1 where the update must be left out, else 0.

        Left out is what is not finite, or larger than 1e19: Adam's moments hold squares.

        Args:
            step: steps counted from 1, as in the metrics.
            phase: the variant's name of it.
            loss: scalar.
            gradients: of the parameters the update would change.
            batches: purpose to positions in the data set of the volumes this update saw.

        Cost: one read of the gradients; the host does not wait.
        """
        loss = loss.detach().float()
        # Of squares, which Adam needs finite too; the largest value takes ten times as long.
        norm = torch.nn.utils.get_total_norm([loss, *gradients])
        skip = (~torch.isfinite(norm)).float()
        if self.policy == "stop":
            skip = skip if self._stopped is None else torch.maximum(skip, self._stopped)
            self._stopped = skip
        self._pending.append(_Check(step, phase, loss, skip, dict(batches)))
        return skip

    def settle(self) -> None:
        """Read all judgements since the last call; the host waits for the device once.

        Raises:
            NumericsError: policy `stop` and an update was not finite; names step, phase, batches.
        """
        pending, self._pending = self._pending, []
        if not pending:
            return
        flags = torch.stack([check.skip for check in pending]).tolist()
        for check, flag in zip(pending, flags, strict=True):
            if flag and self.policy == "stop":
                raise NumericsError(_explain(check))
            self.skipped[check.phase] += int(flag)


def _explain(check: _Check) -> str:
    loss = check.loss.item()
    bad = loss - loss != 0.0
    what = f"the loss is {loss}" if bad else "a gradient or its square is NaN or infinite"
    seen = "; ".join(f"{purpose} {index.tolist()}" for purpose, index in check.batches.items())
    return (
        f"step {check.step}, phase {check.phase}: {what}; volumes by position in the data set: "
        f"{seen or 'none'}; no weight was changed by this step's phase or after it"
    )
