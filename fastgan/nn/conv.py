"""torch's 3D convolution modules, computed by `fastgan.ops`.

Subclasses, so that torch's spectral normalisation, state dict names and `isinstance` checks work.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fastgan import ops
from fastgan.errors import ConfigError

__all__ = ["Conv3d", "ConvTranspose3d"]


class Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d` with zero padding given in voxels; forward is `ops.conv3d`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.padding_mode != "zeros" or isinstance(self.padding, str):
            raise ConfigError("Conv3d: padding must be a number of voxels, filled with zeros")
        self.padding_voxels = self.padding

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, C, D, H, W] -> [B, C', D', H', W']."""
        return ops.conv3d(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding_voxels,
            dilation=self.dilation,
            groups=self.groups,
        )


class ConvTranspose3d(nn.ConvTranspose3d):
    """`torch.nn.ConvTranspose3d` of one group, undilated; forward is `ops.conv_transpose3d`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.groups != 1 or any(d != 1 for d in self.dilation):
            raise ConfigError("ConvTranspose3d: groups and dilation must be 1")
        if isinstance(self.padding, str):
            raise ConfigError("ConvTranspose3d: padding must be a number of voxels")
        self.padding_voxels = self.padding

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """x: [B, C, D, H, W] -> [B, C', D', H', W'], of `output_size` D', H', W' where given."""
        extra = self.output_padding
        if output_size is not None:
            if len(output_size) != 3:
                raise ConfigError(
                    f"ConvTranspose3d: output_size must be D, H, W, got {list(output_size)}"
                )
            least = self._least_size(x)
            extra = tuple(n - m for n, m in zip(output_size, least, strict=True))
            if any(not 0 <= e < s for e, s in zip(extra, self.stride, strict=True)):
                raise ConfigError(
                    f"ConvTranspose3d: output_size {list(output_size)} is not {least} or up to "
                    f"stride - 1 voxels more"
                )
        return ops.conv_transpose3d(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding_voxels,
            output_padding=extra,
        )

    def _least_size(self, x: Tensor) -> list[int]:
        """D', H', W' without output padding."""
        geometry = zip(x.shape[2:], self.stride, self.padding_voxels, self.kernel_size, strict=True)
        return [(n - 1) * s - 2 * p + k for n, s, p, k in geometry]
