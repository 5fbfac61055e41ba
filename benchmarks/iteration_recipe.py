"""Iterations of a recipe; prints one JSON line each.

python iteration_recipe.py RECIPE ITERATIONS [--key value ...]
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "kernels")]

import torch
from iteration_stopwatch import run

from lamer_fast.config.resolve import resolve

if __name__ == "__main__":
    recipe, iterations, *overrides = sys.argv[1:]
    torch.set_num_threads(1)
    run(resolve(recipe, [*overrides, "--train.iterations", iterations, "--train.num_threads", "1"]))
