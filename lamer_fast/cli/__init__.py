"""The command `lamer-fast`: parses and checks everything before torch is imported."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from lamer_fast import __version__
from lamer_fast.cli.missing import how_to_install
from lamer_fast.run.output import drop, open_standard_files
from lamer_fast.run.stop import INTERRUPTED, Interruptible
from lamer_fast.say import printed
from lamer_fast.text import printable

# command -> (module with `run(argv) -> exit status` and `COMMAND`, help), imported only when it runs
COMMANDS = {
    "demo": ("lamer_fast.cli.demo", "train a small agent on a CPU in minutes and write its report"),
    "train": ("lamer_fast.cli.train", "train an agent by a recipe, or resume its run"),
    "eval": ("lamer_fast.cli.eval", "success@1..K of a run or model on held-out boards"),
    "study": ("lamer_fast.cli.study", "compare ways to train, over seeds, on fixed boards"),
    "warmstart": ("lamer_fast.cli.warmstart", "make a base model from expert trials"),
    "runs": ("lamer_fast.cli.runs", "list runs with their state, iteration and success"),
    "play": ("lamer_fast.cli.play", "watch one trial in the terminal, or play against the policy"),
    "report": ("lamer_fast.cli.report", "write the report page of a run"),
    "export": ("lamer_fast.cli.export", "write recorded trials for another program's viewer"),
    "envs": ("lamer_fast.cli.envs", "list the environments, or test one"),
    "bench": ("lamer_fast.cli.bench", "measure boards, kernels and training, with checked results"),
    "audit": ("lamer_fast.cli.audit", "compare sampler and trainer, distribution by distribution"),
    "completion": (
        "lamer_fast.cli.completion",
        "print a script that completes commands in a shell",
    ),
    "doctor": ("lamer_fast.doctor.command", "check this machine, and name what is missing"),
}


MAX_ERROR = 4000  # characters; it may quote a file, a model or an environment


def main(argv: Sequence[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a text of any language on a terminal of any
    # Read when torch is imported: threads that wait for each other sleep. Where they spin, as they do unless
    # asked, and one of them has no processor, the others burn theirs. No bit of a result depends on it.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        return guarded("--help", lambda: _say(_usage()))
    if arguments[0] in ("-V", "--version"):
        return guarded("--version", lambda: _say(f"lamer-fast {__version__}"))
    command, *rest = arguments
    if command not in COMMANDS:
        from lamer_fast.config.resolve import nearest

        known = ", ".join(COMMANDS)
        print(
            f"lamer-fast: no command {command!r}{nearest(command, COMMANDS)}; there are: {known}",
            file=sys.stderr,
        )
        return 2
    return guarded(command, lambda: int(import_module(COMMANDS[command][0]).run(rest) or 0))


def guarded(command: str, call: Callable[[], int]) -> int:
    """Exit status of `call`. What the user can mend or asked for is a line; all else keeps its traceback."""
    open_standard_files()
    with printed(), Interruptible() as attempt:
        try:
            try:
                return call()
            finally:
                print(end="", flush=True)
        except BrokenPipeError:  # whoever read the output has gone
            drop(sys.stdout)
            return 1
        except ModuleNotFoundError as error:
            if not (told := how_to_install(error.name)):
                raise
            print(f"lamer-fast {command}: {told}", file=sys.stderr)
            return 2
        except (ValueError, OSError) as error:
            if attempt.interrupted:
                raise
            print(f"lamer-fast {command}: {printable(str(error), MAX_ERROR)}", file=sys.stderr)
            return 2
    print(f"lamer-fast {command}: interrupted", file=sys.stderr)
    return INTERRUPTED


def _say(text: str) -> int:
    print(text)
    return 0


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "usage: lamer-fast COMMAND ...\n\n" + "\n".join(lines) + "\n\nMore: lamer-fast COMMAND --help"
