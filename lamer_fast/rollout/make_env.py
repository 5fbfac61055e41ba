"""Settings -> environment, and the boards of an evaluation."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.config import EnvConfig
from lamer_fast.envs.protocol import TextBatchEnv


def game_settings(env: EnvConfig) -> dict[str, Any]:
    """What decides the boards of the game, as keyword arguments of `lamer_fast.envs.make`."""
    if env.name == "minesweeper":
        own: dict[str, Any] = {"num_mines": env.num_mines}
    else:
        own = {"num_boxes": env.num_boxes, "min_moves": env.min_moves, "max_moves": env.max_moves}
    return {"height": env.height, "width": env.width} | own


def make_env(
    env: EnvConfig, num_envs: int, *, split: str | None, num_threads: int | None = None
) -> TextBatchEnv:
    """The environment of a recipe with `num_envs` boards, of one split."""
    from lamer_fast.envs import text_env

    return text_env(
        env.name, num_envs, split=split, prompt=env.prompt, style=env.style, rewards=env.rewards,
        moves_per_turn=env.moves_per_turn if env.name == "sokoban" else 1, num_threads=num_threads,
        **game_settings(env),
    )  # fmt: skip


def check_at_start(env: EnvConfig) -> None:
    """Plays two boards of their own for a moment: an environment that breaks the protocol costs no time.

    Raises:
        EnvError: the first violation that `check_env` finds, and how many there are.
    """
    from lamer_fast.envs import check_env
    from lamer_fast.envs.contract import EnvError

    found = check_env(make_env(env, 2, split="train"), quick=True, num_turns=4)
    if found:
        more = f" (the first of {len(found)} that check_env finds)" if len(found) > 1 else ""
        raise EnvError(f"env.name = {env.name!r} breaks the protocol of environments: {found[0]}{more}")


def eval_seeds(
    env: EnvConfig, split: str, count: int | None, *, at_most: int | None = None
) -> NDArray[np.uint64]:
    """Seeds of boards with distinct tasks of `split`; `count` None is all there are, up to `at_most`."""
    from lamer_fast.envs import distinct_seeds, num_tasks

    settings = game_settings(env)
    if count is None and at_most is not None:
        available, _ = num_tasks(env.name, split, **settings)
        count = at_most if available >= 2 * at_most else None
    seeds = distinct_seeds(env.name, split, count, **settings)
    return seeds[:at_most] if at_most is not None else seeds
