"""`fastgan completion`: a script with which a shell completes commands, flags and their values."""

from __future__ import annotations

import argparse
import importlib

from fastgan.cli.main import VERBS, Parser

__all__ = ["add_arguments", "run", "script"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the verb."""
    parser.add_argument(
        "shell",
        choices=("bash", "zsh"),
        help='put `eval "$(fastgan completion bash)"` into ~/.bashrc, or the same with zsh into '
        "~/.zshrc, after compinit",
    )


def run(options: argparse.Namespace) -> int:
    """Print the script; returns 0."""
    print(script(options.shell), end="")
    return 0


def script(shell: str) -> str:
    """The completion script for `bash` or `zsh`, of every verb as it is now."""
    parsers = {verb: _parser(verb) for verb in VERBS}
    flags = {verb: _flags(verb, parser) for verb, parser in parsers.items()}
    values = {
        f"{verb} {flag}": [str(choice) for choice in action.choices]
        for verb, parser in parsers.items()
        for action in parser._actions
        if action.choices is not None
        for flag in action.option_strings or [verb]
    }
    return (_bash if shell == "bash" else _zsh)(flags, values)


def _parser(verb: str) -> Parser:
    parser = Parser(prog=f"fastgan {verb}", allow_abbrev=False)
    importlib.import_module(f"fastgan.cli.{verb}").add_arguments(parser)
    return parser


def _flags(verb: str, parser: Parser) -> list[str]:
    """Every long flag of a verb, keys of the configuration included where it takes them."""
    flags = [flag for flag in parser.flags() if flag.startswith("--")] + ["--debug"]
    if getattr(importlib.import_module(f"fastgan.cli.{verb}"), "TAKES_CONFIG_FLAGS", False):
        from fastgan.config import known_keys

        flags += [f"--{key.rpartition('.')[2].replace('_', '-')}" for key in known_keys()]
    return sorted(set(flags))


def _bash(flags: dict[str, list[str]], values: dict[str, list[str]]) -> str:
    lines = [
        "_fastgan() {",
        '    local current="${COMP_WORDS[COMP_CWORD]}" verb="${COMP_WORDS[1]}" words=""',
        "    COMPREPLY=()",
        '    if [ "$COMP_CWORD" -eq 1 ]; then',
        f'        words="{" ".join([*VERBS, "--help", "--version"])}"',
        "    else",
        '        case "$verb ${COMP_WORDS[COMP_CWORD-1]}" in',
        *(f'            "{key}") words="{" ".join(found)}" ;;' for key, found in values.items()),
        "        esac",
        '        if [ -z "$words" ] && [[ "$current" == -* ]]; then',
        '            case "$verb" in',
        *(f'                {verb}) words="{" ".join(found)}" ;;' for verb, found in flags.items()),
        "            esac",
        "        fi",
        "    fi",
        "    # Without words of ours the shell offers files.",
        '    if [ -n "$words" ]; then COMPREPLY=($(compgen -W "$words" -- "$current")); fi',
        "}",
        "complete -o default -F _fastgan fastgan",
    ]
    return "\n".join(lines) + "\n"


def _zsh(flags: dict[str, list[str]], values: dict[str, list[str]]) -> str:
    verbs = [f"        '{verb}:{text}'" for verb, text in VERBS.items()]
    lines = [
        "_fastgan() {",
        "    local -a verbs found",
        "    verbs=(",
        *verbs,
        "    )",
        "    if (( CURRENT == 2 )); then _describe command verbs; return; fi",
        '    case "$words[2] $words[CURRENT-1]" in',
        *(f'        "{key}") found=({" ".join(choices)}) ;;' for key, choices in values.items()),
        "    esac",
        '    if (( ! $#found )) && [[ "$PREFIX" == -* ]]; then',
        '        case "$words[2]" in',
        *(f"            {verb}) found=({' '.join(known)}) ;;" for verb, known in flags.items()),
        "        esac",
        "    fi",
        "    if (( $#found )); then compadd -- $found; else _files; fi",
        "}",
        "compdef _fastgan fastgan",
    ]
    return "\n".join(lines) + "\n"
