"""Whether the extension's CUDA kernels run on a GPU, and what to install or set where not."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from fastgan.ops.implementations import extension

__all__ = ["obstacle", "too_old", "unfit"]


def unfit(op: str, dtypes: tuple[torch.dtype, ...], x: Tensor) -> str | None:
    """Why CUDA kernels of these dtypes cannot take `x`, and what to do: None when they can.

    Args:
        op: name of an operator, such as "norm_act".
        dtypes: of what the kernels read.
        x: the operator's main input.
    """
    return extension.unfit(op, "cuda", dtypes, x) or _unusable(x.device.index or 0)


@cache
def _unusable(index: int) -> str | None:
    """Why the extension's kernels do not run on a device: None when they do."""
    versions = tuple(extension.loaded().cuda_versions())
    return obstacle(extension.build_info(), versions, torch.cuda.get_device_capability(index))


def obstacle(
    info: dict[str, Any], versions: tuple[int, ...], capability: tuple[int, int]
) -> str | None:
    """The reason in what was built and what is installed, or None. Starts no CUDA context.

    Args:
        info: as `extension.build_info` returns it.
        versions: CUDA that the driver takes and that the extension brings, as 1000 * major + 10 *
            minor.
        capability: compute capability of the device in question.
    """
    if info["cuda"] is None:
        return (
            f"the extension was built without CUDA ({info['cuda_reason']}): "
            "install it anew with FASTGAN_CUDA=1"
        )
    driver, runtime = versions
    if (old := too_old(driver, runtime)) is not None:
        return old
    archs, wanted = info["cuda_archs"], "{}{}".format(*capability)
    if any(_runs(arch, capability) for arch in archs):
        return None
    newest = divmod(int(archs[-1].rstrip("af")), 10)
    if capability < newest:
        return (
            f"the extension has code for {';'.join(archs)}, which does not run on sm_{wanted}: "
            f'install it anew with FASTGAN_CUDA_ARCHS="{wanted}"'
        )
    if driver < runtime:
        return (
            f"the driver takes CUDA {_version(driver)} and cannot compile the PTX of "
            f"{_version(runtime)} that sm_{wanted} needs: update the driver, or install the "
            f'extension anew with FASTGAN_CUDA_ARCHS="{wanted}"'
        )
    return None


def too_old(driver: int, runtime: int) -> str | None:
    """What to do about a driver that runs nothing of the extension; None where it does.

    Both are versions as in `obstacle`.
    """
    # a driver runs machine code of any toolkit of its major version, and compiles PTX of its own
    if driver // 1000 >= runtime // 1000:
        return None
    return (
        f"the driver takes CUDA {_version(driver)} and the extension brings "
        f"{_version(runtime)}: update the driver, or build the extension with an older toolkit"
    )


def _runs(arch: str, capability: tuple[int, int]) -> bool:
    """Whether machine code runs on a device."""
    built = divmod(int(arch.rstrip("af")), 10)
    if arch.endswith("a"):  # of exactly this chip
        return capability == built
    return capability[0] == built[0] and capability >= built


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}" if number else "none"
