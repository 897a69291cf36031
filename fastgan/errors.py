"""Every error fastgan raises on purpose, with the exit code the command line gives it."""

from __future__ import annotations

__all__ = [
    "AuditError",
    "BadFile",
    "ConfigError",
    "CorruptFile",
    "DeviceError",
    "FastganError",
    "NotAsked",
    "NumericsError",
    "RankError",
    "ResourceLimit",
    "StateError",
    "UnsafeFile",
]


class FastganError(Exception):
    """Base of all errors that name a cause the user can act on."""

    exit_code = 1


class ConfigError(FastganError, ValueError):
    """A setting, argument or combination of settings that cannot work."""

    exit_code = 2


class BadFile(FastganError, ValueError):
    """A file that is missing, unreadable, or not what its place asks for."""

    exit_code = 10


class CorruptFile(BadFile):
    """A file whose content is cut, altered or contradicts its own header."""

    exit_code = 11


class UnsafeFile(BadFile):
    """A file refused unread because reading it could run code or leave the project."""

    exit_code = 12


class ResourceLimit(FastganError, RuntimeError):
    """Not enough memory, disk or file handles for what was asked."""

    exit_code = 13


class NumericsError(FastganError, ArithmeticError):
    """NaN or infinity where the computation must not go on."""

    exit_code = 14


class StateError(FastganError, RuntimeError):
    """A run folder or checkpoint that does not fit what is being resumed or loaded."""

    exit_code = 15


class AuditError(FastganError, RuntimeError):
    """A judgement that cannot be made on the data given."""

    exit_code = 16


class NotAsked(AuditError):
    """A question that does not apply to the data given, however many there were of them."""


class DeviceError(FastganError, RuntimeError):
    """A GPU, its driver or this build of the extension that cannot run what was asked."""

    exit_code = 17


class RankError(FastganError, RuntimeError):
    """A process of a training by several that was lost, hangs, never came, or differs."""

    exit_code = 18
