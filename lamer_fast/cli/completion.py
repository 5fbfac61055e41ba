"""`lamer-fast completion SHELL`: completes commands, flags, choices and names in a shell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from lamer_fast.cli.flags import Command, Target
from lamer_fast.config import resolve as recipe

SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True)
class CompletionOptions:
    pass


COMMAND = Command(
    "completion",
    "Print a script that completes commands, flags, choices and names. For bash and zsh, put eval "
    '"$(lamer-fast completion bash)" into the start file; for fish, lamer-fast completion fish | source.',
    CompletionOptions,
    Target("SHELL", ", ".join(SHELLS), words=SHELLS),
)


def run(argv: Sequence[str]) -> int:
    shell, _, _ = COMMAND.parse(argv)
    if shell not in SHELLS:
        raise ValueError(f"no script for {shell!r}; there are: {', '.join(SHELLS)}")
    from lamer_fast.cli import COMMANDS

    commands = {name: import_module(module).COMMAND for name, (module, _) in COMMANDS.items()}
    print(fish(commands) if shell == "fish" else bash(commands, zsh=shell == "zsh"))
    return 0


def bash(commands: Mapping[str, Command], *, zsh: bool) -> str:
    """A function of bash, which zsh runs too; a word without a candidate is completed as a file."""
    cases, choices = [], []
    for name, command in commands.items():
        flags = command.flags()
        words = " ".join([*flags, *_targets(command)])
        cases.append(f'    {name}) words="{words}" ;;')
        for flag, given in flags.items():
            if given:
                choices.append(f'    "{name} {flag}") words="{" ".join(given)}" ;;')
    start = ["autoload -U +X bashcompinit && bashcompinit"] if zsh else []
    return "\n".join(
        [
            *start,
            "_lamer_fast() {",
            '  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" words=""',
            "  COMPREPLY=()",
            '  if [ "$COMP_CWORD" -eq 1 ]; then',
            f'    COMPREPLY=($(compgen -W "{" ".join(commands)}" -- "$word")); return',
            "  fi",
            '  case "${COMP_WORDS[1]} $before" in',
            *choices,
            "  esac",
            '  [ -z "$words" ] && case "${COMP_WORDS[1]}" in',
            *cases,
            "  esac",
            '  COMPREPLY=($(compgen -W "$words" -- "$word"))',
            "}",
            "complete -o default -F _lamer_fast lamer-fast",
        ]
    )


def fish(commands: Mapping[str, Command]) -> str:
    lines = [f"complete -c lamer-fast -n __fish_use_subcommand -a '{' '.join(commands)}'"]
    for name, command in commands.items():
        of = f"complete -c lamer-fast -n '__fish_seen_subcommand_from {name}'"
        lines += [f"{of} -a '{' '.join(targets)}'" for targets in [_targets(command)] if targets]
        for flag, given in command.flags().items():
            values = f" -xa '{' '.join(given)}'" if given else ""
            lines.append(f"{of} -l {flag.removeprefix('--')}{values}")
    return "\n".join(lines)


def _targets(command: Command) -> list[str]:
    recipes = recipe.names() if "RECIPE" in command.target.name else []
    return [*command.target.words, *recipes]
