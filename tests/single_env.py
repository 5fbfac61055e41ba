"""A single environment that does what its replies say: a game of its own, and every way to fail."""

import json
import os
import random
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lamer_fast.envs import Turn


@dataclass(frozen=True)
class Options:
    highest: int = 20
    fails: Literal["never", "making", "members", "prompt", "reset", "restart", "starting", "pid"] = "never"
    pids: str = ""
    """A file that gets the number of each process that makes a board."""


class Hunt:
    """A hidden number. All that is random comes from the global generators."""

    def __init__(self, options: Options):
        self.options = options
        if options.pids:
            with open(options.pids, "a") as file:
                file.write(f"{os.getpid()}\n")
        if options.fails == "starting":
            os._exit(7)
        if options.fails == "making":
            raise OSError("no\nlevels")
        if options.fails == "members":
            self.restart = None
        self.broken = {}

    def reset(self, seed):
        print("reset", seed)
        if self.options.fails == "reset" and seed % 4 == 1:
            raise RuntimeError("no such level")
        self.number = random.randint(1, self.options.highest)
        self.luck = int(np.random.randint(1000))
        self.restart()

    def restart(self):
        self.text = f"luck {self.luck}"
        self.tries = 0
        if self.options.fails == "pid":
            self.text += f" in {os.getpid()}"
        if self.options.fails == "restart":
            self.text += f" {random.random()}"

    def step(self, reply):
        os.write(1, b'{"turn": "not of the protocol"}\n')
        word, _, rest = reply.partition(" ")
        if reply in SILENT:
            return SILENT[reply](self)
        if word in FAULTS:
            return FAULTS[word](self)
        if word == "sleep":
            time.sleep(float(rest))
        elif not word.isdigit():
            return Turn(0.0, valid=False)
        else:
            difference = self.number - int(word)
            self.tries += 1
            dice = random.random(), float(np.random.rand())
            self.text = f"{word} is off by {difference}, {self.tries} {dice}"
            return Turn(float(difference == 0), done=difference == 0, success=difference == 0)
        return Turn(0)

    def observe(self):
        return self.broken.get("observe", self.text)

    def task_prompt(self):
        return None if self.options.fails == "prompt" else "Find the number."

    def task(self):
        return self.broken.get("task", self.number)

    def anchor(self):
        return self.broken.get("anchor", hash(self.text) >> 2)

    def task_text(self):
        return self.broken.get("task_text", f"It is at most {self.options.highest}.")

    def expert(self):
        luck = random.random(), np.random.rand()  # its own business
        return self.broken.get("expert", str(self.number) if all(luck) else "")

    def expert_note(self):
        return f"it was not {self.tries}"

    def legal_actions(self):
        return self.broken.get("legal_actions", [str(i) for i in range(1, 5)])


class SavedHunt(Hunt):
    """The same with snapshots; `pids` gets a line of each reply that is played too."""

    def step(self, reply):
        if self.options.pids:
            with open(self.options.pids, "a") as file:
                file.write("played\n")
        return super().step(reply)

    def snapshot(self):
        if self.broken:
            return self.broken["snapshot"]
        return json.dumps([self.number, self.luck, self.text, self.tries]).encode()

    def restore(self, data):
        self.number, self.luck, self.text, self.tries = json.loads(data)
        random.seed(1)  # its own business, as long as it is no other board's


def breaks(name, value):
    def fault(env):
        env.broken[name] = value
        return Turn(0)

    return fault


def forever(env):
    while True:
        pass


def babble():
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if int(fd) > 2:
                os.write(int(fd), b"[1\n")
    return Turn(0)


# these are found out when the expert is asked
SILENT = {"no teacher": breaks("expert", None), "no snapshot": breaks("snapshot", "text")}
FAULTS = {
    "raise": lambda env: [][1],
    "exit": lambda env: sys.exit(0),
    "interrupt": lambda env: os.kill(os.getpid(), signal.SIGINT),
    "_exit": lambda env: os._exit(3),
    "abort": lambda env: os.kill(os.getpid(), signal.SIGSEGV),
    "hang": forever,
    "close": lambda env: os.closerange(3, 65_536),  # a long test run has many open files
    "garbage": lambda env: babble(),
    "nan": lambda env: Turn(float("nan")),
    "inf": lambda env: Turn(float("-inf")),
    "large": lambda env: Turn(1e13),
    "word": lambda env: Turn("1"),
    "true": lambda env: Turn(True),
    "array": lambda env: Turn(np.zeros(1)),
    "none": lambda env: None,
    "tuple": lambda env: (0.0, False),
    "done": lambda env: Turn(0.0, done=1),
    "won": lambda env: Turn(1.0, success=True),
    "cut": lambda env: Turn(1.0, truncated=True),
    "bytes": breaks("observe", b"x"),
    "megabytes": breaks("observe", "x" * 10_000_001),
    "anchor": breaks("anchor", 2**63),
    "task": breaks("task", -1),
    "float": breaks("task", 1.5),
    "ask": breaks("task_text", None),
    "list": breaks("legal_actions", "up"),
    "lists": breaks("legal_actions", [1]),
}
