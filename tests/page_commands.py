"""The commands that stand on pages, and whether their own parsers take them.

A command stands in a block marked `sh`, or behind `$ ` in one marked `console`. It is run by a test, unless a
comment says what it needs: on its line (`lamer-fast train x  # needs a GPU of 24 GB`) or before the block
(`<!-- needs: two GPUs -->`). What is not run is parsed all the same.
"""

import re
import shlex
import subprocess
import tomllib
from contextlib import chdir
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

from lamer_fast.cli import COMMANDS, bench, completion, envs
from lamer_fast.cli import study as study_command
from lamer_fast.cli.flags import Command
from lamer_fast.config import resolve
from lamer_fast.study.read import load as load_study
from lamer_fast.study.read import names as study_names

ROOT = Path(__file__).parents[1]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
PAGES = [name for name in TRACKED if name.endswith(".md") and not name.endswith("CHANGELOG.md")]
BLOCK = re.compile(
    r"(?:^<!-- needs: (?P<needs>.+?) -->\n+)?^```(?P<kind>\w*)\n(?P<text>.*?)^```", re.M | re.S
)
INLINE = re.compile(r"`([^`]+)`")
LINE_NEEDS = re.compile(r"#.*\bneeds (?!no )(.+)$")
PLACEHOLDERS = {"RECIPE": "minesweeper-tiny", "RUN": "runs/minesweeper-tiny"}
FETCHES = ("make", "pip")  # their first call downloads; `make test` itself runs what they lead to
OF_OTHERS = (
    "alfworld-download",
    "tw-make",
    "cd",
    "for",
    "do",
    "done",
    "eval",
    "source",
    "inspect",
    "uvx",
    "pipx",
    "docker",
)
STARTS = re.compile(r"(?:\$ )?(?:\w+=\S+ )*(lamer-fast|make|pip|python3?|torchrun)( |$)")
RUN_BY_MAKE_TEST = {"--dry-run", "--help", "--list"}  # seconds at most


@dataclass(frozen=True)
class Found:
    page: str
    line: int
    text: str
    needs: str = ""

    @property
    def quick(self) -> bool:
        """`make test` runs it."""
        words = split(self.text)[0]
        small = words[:1] == ["lamer-fast"] and bool(
            RUN_BY_MAKE_TEST & set(words) or words[1:] in (["envs"], ["completion", "bash"])
        )
        return not self.needs and small

    @property
    def slow(self) -> bool:
        """`make test-slow` runs it, with the others of its page."""
        return not self.needs and not self.quick and split(self.text)[0][0] not in FETCHES


def commands(page: str) -> list[Found]:
    """Those of the blocks, in order."""
    text, found = (ROOT / page).read_text(), []
    for block in BLOCK.finditer(text):
        if block["kind"] not in ("sh", "console"):
            continue
        start = text[: block.start("text")].count("\n") + 1
        joined = block["text"].replace("\\\n", "  ")
        for i, line in enumerate(joined.splitlines()):
            if block["kind"] == "console":
                if not line.startswith("$ "):
                    continue
                line = line.removeprefix("$ ")
            if line.strip() and not line.startswith("#"):
                needs = LINE_NEEDS.search(line)
                found.append(Found(page, start + i, line, needs[1] if needs else block["needs"] or ""))
    return found


def unmarked(page: str) -> list[str]:
    """Lines of other blocks, and indented ones, that look like commands: no test would see them."""
    text = (ROOT / page).read_text()
    lines = [
        line for block in BLOCK.finditer(text) if not block["kind"] for line in block["text"].splitlines()
    ]
    lines += re.findall(r"^ {4,}(.*)$", BLOCK.sub("", text), re.MULTILINE)
    return [line for line in lines if STARTS.match(line)]


def mentions(page: str) -> list[str]:
    """Commands in a sentence: they may be parts of one."""
    text = BLOCK.sub("", (ROOT / page).read_text())
    return [name for code in INLINE.findall(text) if STARTS.match(name := " ".join(code.split()))]


@cache
def every_flag() -> frozenset[str]:
    """Of all commands, of the scripts and of pytest as the tests use it."""
    loaded = [import_module(module).COMMAND for module, _ in COMMANDS.values()]
    ours = {flag for command in (*loaded, envs.CHECK, envs.DATA, envs.COMPARE) for flag in flags_of(command)}
    sources = [ROOT / name for name in TRACKED if name.endswith(".py") and not name.startswith("tests/unit")]
    return frozenset(ours | set(re.findall(r'"(--[a-z][\w-]+)"', "\n".join(map(Path.read_text, sources)))))


def unknown_flags(page: str) -> list[str]:
    """Flags that stand alone in a sentence, or in the comment of a command, and that nothing here has."""
    text = (ROOT / page).read_text()
    others = set(" ".join(re.findall(r"<!-- names of others: (.*?) -->", text, re.DOTALL)).split())
    alone = [code.split()[0] for code in INLINE.findall(BLOCK.sub("", text)) if code.startswith("--")]
    comments = " ".join(found.text.partition(" #")[2] for found in commands(page))
    found = {flag_of(word.strip(",;.")) for word in (*alone, *comments.split())} - {""}
    return sorted(found - every_flag() - others)


def split(text: str) -> list[list[str]]:
    """The simple commands of a line, without assignments before them; those inside `$(...)` too."""
    inside = [words for part in re.findall(r"\$\((lamer-fast .*?)\)", text) for words in split(part)]
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|;&")
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|;&"):
            parts.append([])
        elif parts[-1] or not re.match(r"\w+=", word):
            parts[-1].append(word)
    return [part for part in parts if part] + inside


def wrong(text: str, folder: Path = ROOT, *, whole: bool = True) -> str:
    """What its parser says against a command, or an empty string. `whole`: not a mention in a sentence."""
    if not whole:
        text = re.sub(r"\[--.*?\]|\.\.\.", "", text).replace("RUN|RECIPE", "RECIPE")
    for program, *words in split(text):
        try:
            if program == "lamer-fast":
                with chdir(folder):
                    ours([PLACEHOLDERS.get(word, word) for word in words], whole=whole)
            elif program == "torchrun":
                torchrun(words)
            elif program in ("python", "python3"):
                python(words, folder)
            elif program == "make":
                make(words)
            elif program == "pip":
                pip(words)
            elif whole and program not in OF_OTHERS:
                return f"{program}: no test knows this program"
        except ValueError as error:
            return str(error)
        except SystemExit as left:  # of a parser, which has printed why
            if left.code:
                return f"{program}: refused by its parser"
    return ""


def ours(words: list[str], *, whole: bool) -> None:
    name, *rest = words or ["--help"]
    if name.startswith("-"):
        return
    if name not in COMMANDS:
        raise ValueError(f"no command {name}")
    command, of_env = import_module(COMMANDS[name][0]).COMMAND, ""
    if name == "envs" and rest and rest[0] in ("check", "data", "compare"):
        command = {"check": envs.CHECK, "data": envs.DATA, "compare": envs.COMPARE}[rest.pop(0)]
        of_env = rest.pop(0) if command is not envs.CHECK and rest else ""
    if not whole:
        known = flags_of(command)
        if unknown := [flag for word in rest if (flag := flag_of(word)) and flag not in known]:
            raise ValueError(f"lamer-fast {name} has no flag {', '.join(unknown)}")
        return
    if name == "report":
        rest = [word for i, word in enumerate(rest) if i == 0 or word.startswith("-")]
    target, options, overrides = command.parse(rest)
    if name == "study" and target in study_names():
        study_command.chosen(load_study(target, options.model).cells(), options.only)
    elif name == "bench" and target not in ("", *bench.KERNELS, *bench.SCRIPTS):
        raise ValueError(f"no benchmark {target}")
    elif name == "completion" and target not in completion.SHELLS:
        raise ValueError(f"no shell {target}")
    elif name in ("train", "doctor") or (name in ("eval", "play", "audit") and target and "/" not in target):
        resolve.load(target, overrides)
    elif name == "envs":
        if of_env or target:
            envs.choose(of_env or target, overrides)
    else:
        resolve.parse_overrides(overrides)


def flag_of(word: str) -> str:
    """`--a.b-c` of `--a.b_c=3`, and an empty string of what is no flag."""
    return word.partition("=")[0].replace("_", "-") if word.startswith("--") else ""


def flags_of(command: Command) -> set[str]:
    return {"--help", *command.flags(), *(flag_of(f"--{word}") for word in command.short)}


def torchrun(words: list[str]) -> None:
    from torch.distributed.run import get_args_parser

    known = get_args_parser().parse_args(words)
    if known.training_script != "lamer_fast" or not known.module:
        raise ValueError(f"torchrun: expected -m lamer_fast, found {known.training_script}")
    args = [PLACEHOLDERS.get(word, word) for word in known.training_script_args]
    ours(args, whole=True)


def python(words: list[str], folder: Path) -> None:
    """The file or module is there and names each flag."""
    flags = [word.partition("=")[0] for word in words if word.startswith("--")]
    if words[0] == "-m":
        module = words[1].replace(".", "/")
        candidates = [
            root / f"{module}{end}" for root in (ROOT, ROOT / "kernels") for end in (".py", "/__main__.py")
        ]
    else:
        candidates = [ROOT / words[0], folder / words[0]]
    scripts = [path for path in candidates if path.is_file()]
    if not scripts and words[:2] in (["-m", "build"], ["-m", "venv"]):
        return
    if not scripts:
        raise ValueError(f"no such file or module: {words[:2]}")
    sources = [scripts[0], *(ROOT / "kernels" / "lamer_kernels" / "bench").glob("*.py")]
    known = set(re.findall(r'"(--[\w-]+)"', "\n".join(path.read_text() for path in sources)))
    if unknown := set(flags) - known:
        raise ValueError(f"{words[0]} has no flag {', '.join(unknown)}")


def make(words: list[str]) -> None:
    text = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z][\w-]*):", text, re.MULTILINE)
    for word in words:
        name, is_variable, _ = word.partition("=")
        if is_variable and not re.search(rf"\$\({name}\)|^ifdef {name}$", text, re.MULTILINE):
            raise ValueError(f"the Makefile has no variable {name}")
        if not is_variable and name not in targets:
            raise ValueError(f"the Makefile has no target {name}")


def pip(words: list[str]) -> None:
    """Extras are declared; a pinned torch is the one of the Makefile."""
    for word in words[1:]:
        match = re.fullmatch(r"(\.|\./kernels|lamer-fast|lamer-kernels)\[([\w,-]+)\]", word)
        if match:
            kernels = "kernels" in match[1]
            file = ROOT / ("kernels/pyproject.toml" if kernels else "pyproject.toml")
            known = tomllib.loads(file.read_text())["project"]["optional-dependencies"]
            if unknown := set(match[2].split(",")) - set(known):
                raise ValueError(f"{file.name} has no extra {', '.join(unknown)}")
        if word.startswith("torch==") and f"?= {word}\n" not in (ROOT / "Makefile").read_text():
            raise ValueError(f"{word} is not the torch of the Makefile")
