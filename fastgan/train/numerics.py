"""NaN and infinity: found on the device, never applied, reported when the host looks."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastgan.errors import NumericsError

__all__ = ["LARGEST", "Watch", "require_bounded"]

IN_A_ROW = 10
RECENT, SHARE = 40, 0.5
"""Of so many updates of a phase, the share left out from which a training is no training."""
LARGEST = 1e12
"""Of a weight. Of networks that generate anything the largest are near 10."""
RATES = "lower train.lr_generator and train.lr_critic, or set train.precision float32"


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
            they were when `settle` raises. `skip` ends, too, where ten updates of a phase in a
            row, or half of its last 40, were left out: nothing is learnt any more.
        sound: whether the volumes of (step, purpose) are finite, for the message; asked once.
    """

    def __init__(self, policy: str, sound: Callable[[int, str], bool] | None = None) -> None:
        self.policy, self._sound = policy, sound
        self._recent: defaultdict[str, deque[bool]] = defaultdict(lambda: deque(maxlen=RECENT))
        self.skipped: Counter[str] = Counter()
        """Phase to number of updates left out, up to the last `settle`."""
        self._pending: list[_Check] = []
        self.stopped: Tensor | None = None
        """Under `stop` a scalar, NaN from the first update that was not finite on, else 0."""

    def judge(self, loss: Tensor, gradients: Sequence[Tensor]) -> Tensor:
        """A float32 scalar on the loss's device: 1 where the update must be left out, else 0.

        Left out is what is not finite, or larger than 1e19: Adam's moments hold squares.

        Args:
            loss: scalar.
            gradients: of the parameters the update would change.

        Cost: one read of the gradients; the host does not wait.
        """
        loss = loss.detach().float()
        # Of squares, which Adam needs finite too; the largest value takes ten times as long.
        norms = [norm.to(loss.device) for norm in torch._foreach_norm([loss, *gradients])]
        if self.stopped is not None:
            norms.append(self.stopped)
        norm = torch.linalg.vector_norm(torch.stack(norms))
        # Infinity less itself is NaN, as NaN is; all else is 0.
        bad = norm - norm
        skip = torch.nan_to_num(bad, nan=1.0).float()
        if self.policy == "stop":
            self.stopped = bad
        return skip

    def note(
        self, step: int, phase: str, loss: Tensor, skip: Tensor, batches: Mapping[str, Tensor]
    ) -> None:
        """Remember a judgement until `settle`.

        Args:
            step: steps counted from 1, as in the metrics.
            phase: the variant's name of it.
            loss: what was judged.
            skip: the judgement.
            batches: purpose to positions in the data set of the volumes this update saw.
        """
        self._pending.append(_Check(step, phase, loss.detach().float(), skip, dict(batches)))

    def settle(self) -> None:
        """Read all judgements since the last call; the host waits for the device once.

        Raises:
            NumericsError: policy `stop` and an update was not finite, or `skip` and too many were
                not; names step, phase, batches, and whether volumes or rates are to blame.
        """
        pending, self._pending = self._pending, []
        if not pending:
            return
        flags = torch.stack([check.skip for check in pending]).tolist()
        for check, flag in zip(pending, flags, strict=True):
            if flag and self.policy == "stop":
                raise NumericsError(self._explain(check))
            self.skipped[check.phase] += int(flag)
            recent = self._recent[check.phase]
            recent.append(bool(flag))
            row = len(recent) >= IN_A_ROW and all([*recent][-IN_A_ROW:])
            if row or (len(recent) == RECENT and sum(recent) > SHARE * RECENT):
                raise NumericsError(
                    f"{sum(recent)} of the last {len(recent)} updates of phase {check.phase} were "
                    f"left out (train.non_finite skip), so nothing is learnt any more; the last: "
                    f"{self._explain(check)}"
                )

    def _explain(self, check: _Check) -> str:
        loss = check.loss.item()
        bad = loss - loss != 0.0
        what = f"the loss is {loss}" if bad else "a gradient or its square is NaN or infinite"
        seen = "; ".join(f"{purpose} {index.tolist()}" for purpose, index in check.batches.items())
        return (
            f"step {check.step}, phase {check.phase}: {what}; {self._blame(check)}; volumes by "
            f"position in the data set: {seen or 'none'}; no weight was changed by this step's "
            "phase or after it"
        )

    def _blame(self, check: _Check) -> str:
        sound = self._sound
        if sound is None:
            return RATES
        broken = [p for p in check.batches if not sound(check.step - 1, p)]
        if broken:
            return f"NaN or infinity in volumes of {', '.join(broken)}: see fastgan inspect"
        return f"the volumes are finite, so the training has diverged: {RATES}"


def require_bounded(parts: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Refuse weights that are finite and mean nothing.

    Args:
        parts: weights and buffers by module; every one is read.

    Raises:
        NumericsError: one is larger than 1e12 or not finite; names up to four.
    """
    bad = [
        f"{part}/{name}"
        for part, tensors in parts.items()
        for name, tensor in tensors.items()
        if tensor.is_floating_point()
        and tensor.numel()
        and not bool(torch.linalg.vector_norm(tensor.float(), float("inf")) <= LARGEST)
    ]
    if bad:
        raise NumericsError(
            f"weights above {LARGEST:g} in {', '.join(bad[:4])}: the training has diverged, and "
            f"this state is not saved; {RATES}"
        )
