"""The command `fastgan`: finds the verb, and turns errors into one line and an exit code.

Only the standard library is imported here, so that help and mistakes answer at once.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence

import fastgan
from fastgan.errors import ConfigError, FastganError
from fastgan.guarded import typed
from fastgan.terminal import escaped, escaping

__all__ = ["VERBS", "Parser", "main"]

VERBS = {
    "doctor": "what works on this machine, and why the rest does not",
    "demo": "train, generate and judge on the bundled data, in minutes",
    "inspect": "look at a data set and propose a configuration",
    "plan": "measure what a configuration costs here, and fit it into a budget",
    "profile": "time and count the parts of a training step",
    "train": "train a GAN, or resume a run",
    "generate": "write volumes from a trained generator",
    "verify": "say of every volume of a folder whether it is as it was generated",
    "replay": "generate volumes of a folder again and compare bits",
    "export": "write a generator for programs without fastgan",
    "translate": "bring volumes of one domain of a cyclegan to the other",
    "audit": "judge whether generated volumes may be used",
    "utility": "measure whether generated volumes help a classifier, and whom they harm",
    "bench": "time the operators on this machine, or certify their GPU kernels",
    "completion": "print what lets bash or zsh complete commands and flags",
}
SHARED = ("train", "generate")
"""Verbs that several processes of torchrun share."""
UNEXPECTED = 70
"""EX_SOFTWARE: an error nobody foresaw, so a fault of fastgan."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes are ConfigErrors that name the nearest flag."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Raise what argparse would print."""
        verb = self.prog.removeprefix("fastgan ")
        raise ConfigError(f"{verb}: {message}; see {self.prog} --help")

    def flags(self) -> list[str]:
        """Every flag this parser knows."""
        return [flag for action in self._actions for flag in action.option_strings]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Exit codes: 0 done; 2 usage or configuration; 10 to 16 see `fastgan.errors`; 70 unexpected;
    130 and 143 stopped by SIGINT and SIGTERM, state saved.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    if debug:
        arguments.remove("--debug")
    try:
        with escaping(), typed("fastgan"):
            return _run(arguments)
    except FastganError as error:
        if debug:
            raise
        print(f"fastgan: {escaped(str(error))}", file=sys.stderr)
        return error.exit_code
    except SystemExit as error:
        # argparse and tyro after help or a mistake, and a run stopped by SIGTERM.
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except KeyboardInterrupt:
        print("fastgan: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has left; the interpreter's last flush must not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if debug:
            raise
        text = escaped(" ".join(str(error).split()))
        print(
            f"fastgan: unexpected {type(error).__name__}: {text}\n"
            "fastgan: run the same command with --debug for the traceback",
            file=sys.stderr,
        )
        return UNEXPECTED


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"fastgan {fastgan.__version__}")
        return 0
    verb = arguments[0]
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(VERBS)}"
        raise ConfigError(f"unknown command {verb!r}; {hint}")
    several = "TORCHELASTIC_RUN_ID" in os.environ and os.environ["WORLD_SIZE"] != "1"
    if several and verb not in SHARED:
        able = " and ".join(SHARED)
        raise ConfigError(f"{verb}: torchrun started several processes, which {able} can use")
    module = importlib.import_module(f"fastgan.cli.{verb}")
    parser = Parser(prog=f"fastgan {verb}", description=VERBS[verb], allow_abbrev=False)
    # A verb that takes the configuration's keys as flags reads the rest, its help included.
    takes_rest: bool = getattr(module, "TAKES_CONFIG_FLAGS", False)
    if takes_rest:
        parser = Parser(
            prog=parser.prog, usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False
        )
    module.add_arguments(parser)
    options, rest = parser.parse_known_args(arguments[1:])
    if takes_rest:
        options.parser, options.rest = parser, rest
    elif rest:
        raise ConfigError(f"{verb}: unknown argument {rest[0]!r}{nearest(rest[0], parser.flags())}")
    code: int = module.run(options)
    return code


def nearest(flag: str, known: Sequence[str]) -> str:
    """`; did you mean '--steps'?`, or nothing where no known flag is near."""
    near = difflib.get_close_matches(flag.partition("=")[0], known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {text}" for verb, text in VERBS.items())
    return (
        "usage: fastgan COMMAND [...]\n\n"
        "Train 3D GANs on CT and MRI volumes, and judge whether their volumes may be used.\n\n"
        f"commands:\n{verbs}\n\n"
        "options:\n"
        "  --help     after a command: its options\n"
        "  --version  print the version\n"
        "  --debug    show tracebacks of errors"
    )
