"""What the layers of fastgan's networks do with a slab instead of a volume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from fastgan import ops
from fastgan.errors import ConfigError
from fastgan.nn import Conv3d, ConvTranspose3d, Linear, NormAct3d, Smooth3d
from fastgan.slabs.exchange import Slabs, halo
from fastgan.slabs.norm_act import norm_act_of_slabs

__all__ = ["LAYERS", "embedding", "linear_in", "linear_out"]

# Kernel, stride and padding along the first axis for which one plane of a neighbour is enough.
ONE_PLANE = {(3, 1, 1), (4, 2, 1)}


def conv3d(module: Conv3d, slabs: Slabs) -> Callable[..., Tensor]:
    """The forward of a convolution: zeros beyond the volume, else the neighbours' planes."""
    geometry = _geometry(module)
    if geometry == (1, 1, 0):
        return lambda x: Conv3d.forward(module, x)
    if geometry not in ONE_PLANE or module.dilation[0] != 1:
        raise _refused("convolution", geometry)
    padding = (0, *module.padding_voxels[1:])

    def forward(x: Tensor) -> Tensor:
        settings: dict[str, Any] = {"dilation": module.dilation, "groups": module.groups}
        return ops.conv3d(
            *(halo(x, slabs), module.weight, module.bias),
            stride=module.stride,
            padding=padding,
            **settings,
        )

    return forward


def conv_transpose3d(module: ConvTranspose3d, slabs: Slabs) -> Callable[..., Tensor]:
    """The forward of a transposed convolution; what the neighbours compute is cut off."""
    geometry = _geometry(module)
    if geometry not in ONE_PLANE or module.output_padding[0] != 0:
        raise _refused("transposed convolution", geometry)
    more = module.stride[0]

    def forward(x: Tensor) -> Tensor:
        # Cut off here: oneDNN (torch 2.13) has read beyond the volume where padding did it.
        y = ops.conv_transpose3d(
            *(halo(x, slabs), module.weight, module.bias),
            stride=module.stride,
            padding=module.padding_voxels,
            output_padding=module.output_padding,
        )
        return y[:, :, more:-more]

    return forward


def norm_act(module: NormAct3d, slabs: Slabs) -> Callable[..., Tensor]:
    """The forward of a norm, by the statistics of all slabs."""

    def forward(x: Tensor, labels: Tensor | None = None) -> Tensor:
        if module.norm == "none":
            return NormAct3d.forward(module, x)
        return norm_act_of_slabs(
            *(x, *module.affine_of(labels), slabs),
            num_groups=module.num_groups,
            eps=module.eps,
            negative_slope=module.negative_slope,
        )

    return forward


def smooth(module: Smooth3d, slabs: Slabs) -> Callable[..., Tensor]:
    """The forward of the binomial filter."""
    return lambda x: ops.smooth(halo(x, slabs, edge=True))[:, :, 1:-1]


LAYERS: dict[Any, Callable[[Any, Slabs], Callable[..., Tensor]]] = {
    Conv3d.forward: conv3d,
    ConvTranspose3d.forward: conv_transpose3d,
    NormAct3d.forward: norm_act,
    Smooth3d.forward: smooth,
}
"""By the forward that they replace."""


def linear_out(module: Linear, slabs: Slabs) -> Callable[..., Tensor]:
    """The forward of a linear layer whose features are planes: this slab's of them."""

    def forward(x: Tensor) -> Tensor:
        weight, bias = module.weight_and_bias(x)
        return functional.linear(
            x, slabs.own(weight, 0), None if bias is None else slabs.own(bias, 0)
        )

    return forward


def linear_in(module: Linear, slabs: Slabs, times: int) -> Callable[..., Tensor]:
    """The forward of a linear layer that reads `times` as many planes: a summand of its value."""

    def forward(x: Tensor) -> Tensor:
        weight, bias = module.weight_and_bias(x)
        # One summand has the bias, and all have it in their graph.
        share = None if bias is None else bias * float(slabs.index == 0)
        return functional.linear(x, slabs.own(weight, 1, times), share)

    return forward


def embedding(module: nn.Embedding, slabs: Slabs, times: int) -> Callable[..., Tensor]:
    """The forward of an embedding whose features are `times` as many planes: this slab's."""
    return lambda labels: functional.embedding(labels, slabs.own(module.weight, 1, times))


def _geometry(module: Conv3d | ConvTranspose3d) -> tuple[int, int, int]:
    return module.kernel_size[0], module.stride[0], int(module.padding_voxels[0])


def _refused(what: str, geometry: tuple[int, int, int]) -> ConfigError:
    kernel, stride, padding = geometry
    return ConfigError(
        f"a {what} of kernel {kernel}, stride {stride} and padding {padding} along the first axis "
        "needs more than one plane of its neighbours"
    )
