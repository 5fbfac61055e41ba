"""How fast is WebShop in this process: pages, searches, start, memory, on 50,000 products of random words?

One core. Words are drawn by Zipf's law, a product has about 1,200 characters, every tenth an instruction; the
files are in the official format, in WEBSHOP_BENCH_FOLDER or a temporary folder. Every case is gated: searches
by all scores sorted, purchases by the shopper who knows the product.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import ROOT, Case, Row, compare, main, measured, resident_bytes

sys.path.insert(0, str(ROOT))
from lamer_fast.envs.adapters.webshop.catalogue import Catalogue, open_catalogue
from lamer_fast.envs.adapters.webshop.options import WebShopOptions
from lamer_fast.envs.registry import default_options, make_env

NUM_PRODUCTS = 50_000
FOLDER = Path(os.environ.get("WEBSHOP_BENCH_FOLDER") or tempfile.mkdtemp(prefix="webshop-"))
START = """
import time
from benchmarks.bench_webshop import options
from lamer_fast.envs.registry import make_env
import numpy as np
env = make_env(options(), 64, split="train")
env.reset(np.arange(64, dtype=np.uint64))
env.step(["<action>search[w1 w2]</action>"] * 64, np.arange(64))
print(time.process_time())
"""


def options() -> WebShopOptions:
    chosen: Any = default_options("webshop")
    return replace(chosen, data=str(FOLDER / "files"), cache=str(FOLDER / "cache"), nouns="lexicon")


def write_files() -> None:
    """50,000 products, of which every tenth has an instruction."""
    folder = FOLDER / "files"
    if (folder / "items_human_ins.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(60_000)])

    def text(count: int) -> str:
        return " ".join(words[np.minimum(rng.zipf(1.3, count) - 1, len(words) - 1)])

    products, attributes, human = [], {}, {}
    for i in range(NUM_PRODUCTS):
        asin, own = f"B{i:09d}", [text(2) for _ in range(4)]
        colors = [{"value": text(1)} for _ in range(4)]
        bullets = [text(14) for _ in range(4)] + own
        products.append(
            {
                "asin": asin, "name": f"{text(9)} x{i}", "query": text(2),
                "product_category": f"{text(1)} \u203a {text(1)} \u203a {text(1)}",
                "full_description": text(120),
                "small_description": bullets, "pricing": f"${rng.integers(5, 300)}.5",
                "customization_options": {"color": colors}, "images": [""],
            }
        )  # fmt: skip
        attributes[asin] = {"attributes": own}
        if i % 10 == 0:
            goal = {"instruction": text(15), "instruction_attributes": own[:2]}
            human[asin] = [goal | {"instruction_options": [colors[1]["value"]]}]
    files = {"items_shuffle": products, "items_ins_v2": attributes, "items_human_ins": human}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


@functools.cache
def catalogue() -> tuple[Catalogue, float]:
    """The built catalogue, and the CPU seconds that building took (0 where it was there)."""
    write_files()
    before = time.process_time()
    opened = open_catalogue(options())
    return opened, time.process_time() - before


def build(case: Case) -> list[Row]:
    opened, seconds = catalogue()
    passed = "passed" if len(opened) == NUM_PRODUCTS and seconds > 1 else "FAILED"
    return [measured("ours", [seconds], "CPU time", "s", check=passed)]


def step(case: Case) -> list[Row]:
    """Turns of shoppers who know the product, a third of them at random, and the page after each."""
    catalogue()
    env: Any = make_env(options(), case.num_boards, split="train")
    boards = np.arange(case.num_boards)
    env.reset(boards.astype(np.uint64))
    turns = []
    for turn in range(8):
        turns.append(env.expert_replies(boards, case.noise, boards.astype(np.uint64) + 1000 * turn))
        env.step(turns[-1], boards)

    def call() -> None:
        env.catalogue.index.search.cache_clear()  # as if every query were new
        env.restart(boards)
        for replies in turns:
            env.step(replies, boards)
            env.observe(boards)

    def verify() -> bool:
        env.restart(boards)
        for turn in range(12):
            out = env.step(env.expert_replies(boards, 0.0, boards.astype(np.uint64) + turn), boards)
        return bool(out.success.all())

    work = 8 * case.num_boards
    return compare({"ours": call}, verify=verify, work=work, unit="steps/s", goal=case.goal)


def search(case: Case) -> list[Row]:
    index = catalogue()[0].index
    rng = np.random.default_rng(1)
    queries = [" ".join(f"w{min(w, 60_000) - 1}" for w in rng.zipf(1.3, 7)) for _ in range(200)]

    def call() -> None:
        index.search.cache_clear()
        for query in queries:
            index.search(query, 50)

    def verify() -> bool:
        for query in queries[:20]:
            scores = index.scores(query)
            best = np.argsort(-scores, kind="stable")[:50]
            if list(index.search(query, 50)) != [p for p in best.tolist() if scores[p] > 0]:
                return False
        return True

    return compare({"ours": call}, verify=verify, work=len(queries), unit="searches/s", goal=case.goal)


def start(case: Case) -> list[Row]:
    """CPU time of a fresh interpreter until 64 boards have searched once."""
    catalogue()
    run = [sys.executable, "-c", START]
    paths = f"{ROOT}:{ROOT / 'benchmarks'}"
    variables = os.environ | {"WEBSHOP_BENCH_FOLDER": str(FOLDER), "PYTHONPATH": paths}
    seconds = []
    for _ in range(5):
        ran = subprocess.run(run, cwd=ROOT, env=variables, capture_output=True, text=True, check=True)
        seconds.append(float(ran.stdout))
    return [measured("ours", seconds, "CPU time", "s", goal=case.goal)]


def memory(case: Case) -> list[Row]:
    """Growth of the process by boards in mid-episode; others have opened the same products before."""
    catalogue()
    boards = np.arange(case.num_boards)

    def played() -> Any:
        env: Any = make_env(options(), case.num_boards, split="train")
        env.reset(boards.astype(np.uint64))
        for turn in range(3):
            env.step(env.expert_replies(boards, 0.0, boards.astype(np.uint64) + turn), boards)
            env.observe(boards)
        return env

    played()
    before = resident_bytes()
    env = played()
    grown = max(resident_bytes() - before, 0)
    passed = "passed" if len(env.sessions) == case.num_boards else "FAILED"
    return [measured("ours", [grown], "memory", "B", check=passed, goal=case.goal)]


CASES = [
    Case(name="build 50,000 products", bench=build),
    Case(name="page step with its text, 256 boards", bench=step, goal=5e3, num_boards=256, noise=0.33),
    Case(name="search of 7 words, the best 50", bench=search, goal=2e3),
    Case(name="start from what is built", bench=start, goal=1.0),
    Case(name="memory of 1,000 boards", bench=memory, goal=100e6, num_boards=1000),
]


if __name__ == "__main__":
    main(lambda case: case.bench(case), CASES)
