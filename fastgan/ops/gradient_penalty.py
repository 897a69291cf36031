"""The penalty on the slope of a critic: WGAN-GP, one-sided, R1 and R2."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fastgan.errors import ConfigError
from fastgan.ops.checks import accumulator, floating, require
from fastgan.ops.constants import constant
from fastgan.ops.slope_penalty import slope_penalty_fwd, slope_penalty_mix
from fastgan.random import placed

__all__ = ["GradientPenalty", "gradient_penalty"]


class GradientPenalty(NamedTuple):
    """A penalty and what it was computed from."""

    value: Tensor  # scalar, differentiable in the critic's parameters
    norms: Tensor  # [B] slope at every sample, detached


def gradient_penalty(
    critic: Callable[..., Tensor],
    real: Tensor,
    fake: Tensor,
    *,
    labels: Tensor | None = None,
    target: float = 1.0,
    one_sided: bool = False,
    generator: torch.Generator | None = None,
    share: Tensor | None = None,
    summed: Callable[[Tensor], Tensor] | None = None,
) -> GradientPenalty:
    """Mean over samples of (|d critic(x) / d x| - target)^2, at random mixes x of real and fake.

    x = a real + (1 - a) fake with one a, uniform in [0, 1), a sample. Where `fake` is the very
    object `real`, x is real: with target 0 that is R1 (and R2 for generated volumes).

    Args:
        critic: x -> scores [B], or (x, labels) -> scores [B]; no sample may see another.
        real: [B, C, ...] floating.
        fake: like real. Both are detached: the penalty trains the critic alone.
        labels: [B, ...] handed to the critic; None: it is called with x alone.
        target: slope without penalty, >= 0; unit: score per unit of Euclidean distance.
        one_sided: only slopes above the target are penalised.
        generator: draws a; None: PyTorch's default generator of the device.
        share: [B] a itself, drawn before; float32 (float64 for float64 real), on their device.
        summed: where real and fake are parts of volumes: from squared slopes [B] over the part to
            those over the whole volume, differentiable. None: they are whole.

    Returns:
        value: scalar, float32 (float64 for float64 input). Add it, weighted, to the loss.
        norms: [B], the slopes, detached.

    Raises:
        ConfigError: shapes, dtypes or devices that differ; no sample; scores that are not [B]
            (also [B, 1]) or do not depend on x.

    Derivatives: as the operators in the critic; exact for those of fastgan.ops and of PyTorch. A
        slope of zero contributes a gradient of zero. Under torch.compile pass no `generator`.
    Deterministic: given the generator's state, as the critic.
    Cost: of L convolutions, 4 L - 1 passes, and 2 (L - 1) - 1 more where a norm follows all but
        the last; no host synchronisation.
    Source: Gulrajani et al., Improved Training of Wasserstein GANs, 2017, equation 3; Mescheder
        et al., Which Training Methods for GANs do actually Converge?, 2018, equations 9 and 10.

    >>> x = torch.ones(2, 1, 2, 2, 2)
    >>> gradient_penalty(lambda x: 3 * x[:, 0, 0, 0, 0], x, -x)
    GradientPenalty(value=tensor(4.), norms=tensor([3., 3.]))
    """
    op = "gradient_penalty"
    require(real.dim() >= 2, op, "real must be [B, C, ...]", list(real.shape))
    require(real.shape[0] > 0, op, "real must hold at least one sample", list(real.shape))
    floating(op, "real", real)
    require(target >= 0, op, "target must be >= 0", target)
    if fake is not real:
        require(
            fake.shape == real.shape,
            op,
            f"fake must be {list(real.shape)} like real",
            list(fake.shape),
        )
        require(fake.dtype == real.dtype, op, f"fake must be {real.dtype} like real", fake.dtype)
        require(
            fake.device == real.device, op, f"fake must be on {real.device} like real", fake.device
        )
    if labels is not None:
        fits = labels.dim() >= 1 and labels.shape[0] == real.shape[0]
        require(fits, op, f"labels must be [{real.shape[0]}, ...]", list(labels.shape))

    if share is not None:
        wanted = f"share must be {accumulator(real)} [{real.shape[0]}] on {real.device}"
        fits = share.shape == real.shape[:1] and share.dtype == accumulator(real)
        got = f"{share.dtype} {list(share.shape)} on {share.device}"
        require(fits and share.device == real.device, op, wanted, got)

    if fake is real:
        x = real.detach()
    else:
        share = _drawn_share(real, generator) if share is None else share
        x = slope_penalty_mix(real.detach(), fake.detach(), share)
    slope = _slope(critic, x, labels)
    if summed is not None:
        return _of_parts(slope, float(target), one_sided, summed)
    value, norms = slope_penalty_fwd(slope, float(target), one_sided)
    return GradientPenalty(value, norms)


def _of_parts(
    slope: Tensor, target: float, one_sided: bool, summed: Callable[[Tensor], Tensor]
) -> GradientPenalty:
    """The penalty of a slope [B, C, ...] that is spread over several parts of a volume."""
    squares = summed(slope.flatten(1).to(accumulator(slope)).square().sum(1))
    # The root has no slope at 0, where the penalty's is to be 0.
    flat = squares == 0
    norms = torch.where(flat, 0, torch.where(flat, 1, squares).sqrt())
    excess = norms - target
    if one_sided:
        excess = excess.clamp_min(0)
    return GradientPenalty(excess.square().mean(), norms.detach())


def _drawn_share(real: Tensor, generator: torch.Generator | None) -> Tensor:
    device = real.device if generator is None else generator.device
    share = torch.rand(real.shape[0], dtype=accumulator(real), device=device, generator=generator)
    return placed(share, real.device)


def _slope(critic: Callable[..., Tensor], x: Tensor, labels: Tensor | None) -> Tensor:
    """Derivative of sum(scores) in x, with a graph of its own."""

    def scored(x: Tensor) -> Tensor:
        scores = critic(x) if labels is None else critic(x, labels)
        shape = list(scores.shape)
        rule = f"the critic must return [{x.shape[0]}]"
        if shape == [x.shape[0], 1]:
            rule += "; add squeeze(1) to its scores"
        require(shape == [x.shape[0]], "gradient_penalty", rule, shape)
        return scores

    # What a critic computes outside autocast has its derivative there; the rest keeps its dtypes.
    outside = torch.autocast(x.device.type, enabled=False)
    # Dynamo traces torch.func.vjp as it is, torch.autograd.grad only by an option of its own.
    if torch.compiler.is_compiling():
        score, pull = torch.func.vjp(scored, x)[:2]
        with outside:
            by_func: Tensor = pull(torch.ones_like(score))[0]
        return by_func
    with torch.enable_grad():
        # A copy of the handle: x may be the caller's own tensor.
        x = x.detach().requires_grad_()
        score = scored(x)
        slope = None
        if score.requires_grad:
            # Of each score 1, which stays in memory: a sum would be two launches more.
            ones = constant(score.dtype, score.device, (1.0, 1)).expand(score.shape)
            with outside:
                (slope,) = torch.autograd.grad(score, x, ones, create_graph=True, allow_unused=True)
    if slope is None:
        raise ConfigError("gradient_penalty: the critic's scores must depend on x")
    if type(slope.grad_fn).__name__ == "CompiledFunctionBackwardBackward":
        slope.register_hook(_refuse_compiled)  # type: ignore[no-untyped-call]
    # Spares backward() the gradient of x, the dearest pass of all: see registration.wanted.
    x.requires_grad_(False)
    return slope


def _refuse_compiled(gradient: Tensor) -> None:
    raise ConfigError(
        "gradient_penalty: a critic compiled by itself has no second derivative; give "
        "torch.compile the function that computes the whole loss, penalty included"
    )
