"""Sokoban and Minesweeper as `gymnasium.vector.VectorEnv`, for learners without a language.

    import gymnasium
    import lamer_fast.envs.vector  # registers the names

    envs = gymnasium.make_vec("lamer_fast/Sokoban-v0", num_envs=64, height=6, width=6, num_boxes=2)

An observation is the board as a grid of symbols, [height, width] uint8: the characters of style `compact`.
Whether an episode was won is in the infos, as `success`.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from lamer_fast.envs.batch import distinct_seeds, make
from lamer_fast.envs.panel import Panel
from lamer_fast.envs.registry import NATIVE

AUTORESET = {
    "next": AutoresetMode.NEXT_STEP,
    "same": AutoresetMode.SAME_STEP,
    "none": AutoresetMode.DISABLED,
}


class GridVectorEnv(VectorEnv):  # type: ignore[misc]
    """E boards of one game; actions are those of `Batch.step`, without -1.

    Args:
        name: of a game.
        num_envs: E.
        autoreset: "next" (gymnasium's default), "same" (the last grid of a finished board is in
            `infos["final_obs"]`), "none" (the caller resets by `options={"reset_mask": ...}`).
        max_episode_steps: a board is truncated after so many actions; None: never.
        panel: play the first so many distinct tasks of `split` ("train", "valid" or "test"), one after the
            other and then again, instead of drawn boards. Infos then say in `panel_idx` which of them each
            board plays; a score that counts each of them once does not favour short episodes.
        **config: of `lamer_fast.envs.make`, `split` among them.

    Attributes:
        panel: the `Panel` with its digest, or None.
    """

    def __init__(
        self,
        name: str,
        num_envs: int = 1,
        *,
        autoreset: str = "next",
        max_episode_steps: int | None = None,
        panel: int | None = None,
        **config: Any,
    ) -> None:
        if autoreset not in AUTORESET:
            raise ValueError(f"autoreset must be one of {list(AUTORESET)}, got {autoreset!r}")
        if max_episode_steps is not None and max_episode_steps < 1:
            raise ValueError(f"max_episode_steps must be None or at least 1, got {max_episode_steps}")
        self.batch = make(name, num_envs, **config)
        self.panel = None if panel is None else _panel(name, panel, config)
        self._next_of_panel = 0
        self._panel_idx = np.full(num_envs, -1, np.int64)
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AUTORESET[autoreset], "render_modes": ["ansi"]}
        self.render_mode = "ansi"
        self.max_episode_steps = max_episode_steps
        shape = (self.batch.height, self.batch.width)
        self.single_observation_space = gymnasium.spaces.Box(0, 127, shape, np.uint8)
        self.single_action_space = gymnasium.spaces.Discrete(self.batch.num_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._num_actions_taken = np.zeros(num_envs, np.int64)
        self._over = np.ones(num_envs, bool)

    def reset(
        self,
        *,
        seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Seed s gives board i the seed s + i, a list one seed a board; None draws them from `np_random`.

        On a panel of n tasks seed s is its task s modulo n, and None goes on where it stands.
        """
        seed = int(seed) if isinstance(seed, np.integer) else seed
        super().reset(seed=seed if isinstance(seed, int) else None)
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (self.num_envs,):
            raise ValueError(f"reset_mask must be a bool array of shape ({self.num_envs},), got {mask!r}")
        drawn = np.zeros(self.num_envs, np.uint64)
        if isinstance(seed, int):
            drawn = np.uint64(seed) + np.arange(self.num_envs, dtype=np.uint64)
            self._next_of_panel = seed + self.num_envs
        else:
            drawn[mask] = self._draw_seeds(int(mask.sum()))
        if isinstance(seed, list | tuple):
            if len(seed) != self.num_envs:
                raise ValueError(
                    f"seed has {len(seed)} values, expected one for each of {self.num_envs} boards"
                )
            drawn = np.array([d if s is None else s for s, d in zip(seed, drawn, strict=True)], np.uint64)
        self._start(np.flatnonzero(mask), drawn[mask])
        return self._grids(), self._of_panel()

    def step(
        self, actions: NDArray[np.integer[Any]]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        mode = self.metadata["autoreset_mode"]
        waiting = self._over.copy()
        if mode is AutoresetMode.DISABLED and waiting.any():
            raise ValueError(
                f"boards {np.flatnonzero(waiting)[:8].tolist()} are over: reset them by reset_mask"
            )
        live = np.flatnonzero(~waiting)
        rewards = np.zeros(self.num_envs)
        terminated, success, dead = (np.zeros(self.num_envs, bool) for _ in range(3))
        if live.size:
            out = self.batch.step(np.asarray(actions, np.int32).reshape(self.num_envs, 1)[live], env_idx=live)
            rewards[live], terminated[live] = out.rewards, out.done
            success[live], dead[live] = out.success, out.dead
        if waiting.any():
            self._start(np.flatnonzero(waiting), self._draw_seeds(int(waiting.sum())))
        self._num_actions_taken[live] += 1
        truncated = np.zeros(self.num_envs, bool)
        if self.max_episode_steps is not None:
            truncated = ~terminated & ~waiting & (self._num_actions_taken >= self.max_episode_steps)
        flags = {"success": success, "dead": dead}
        over = terminated | truncated
        self._over = over.copy()
        if mode is not AutoresetMode.SAME_STEP:
            infos: dict[str, Any] = {**flags, **{f"_{name}": ~waiting for name in flags}}
        elif not over.any():
            infos = {}
        else:
            final = np.full(self.num_envs, None, object)
            grids = self._grids()
            for i in np.flatnonzero(over):
                final[i] = grids[i].copy()
            final_info = {**flags, **{f"_{name}": over.copy() for name in flags}}
            final_info |= self._of_panel(over)
            infos = {"final_obs": final, "_final_obs": over.copy(), "final_info": final_info}
            infos["_final_info"] = over.copy()
            self._start(np.flatnonzero(over), self._draw_seeds(int(over.sum())))
        return self._grids(), rewards, terminated, truncated, infos | self._of_panel()

    def render(self) -> tuple[str, ...]:
        return tuple(self.batch.texts(style="compact"))

    def _draw_seeds(self, count: int) -> NDArray[np.uint64]:
        if self.panel is not None:
            self._next_of_panel += count
            return np.arange(self._next_of_panel - count, self._next_of_panel, dtype=np.uint64)
        rng: np.random.Generator = self.np_random
        return rng.integers(0, 2**64, count, dtype=np.uint64, endpoint=False)

    def _start(self, env_idx: NDArray[np.int64], seeds: NDArray[np.uint64]) -> None:
        if self.panel is not None:
            self._panel_idx[env_idx] = seeds % np.uint64(len(self.panel))
            seeds = self.panel.seeds[self._panel_idx[env_idx]]
        self.batch.reset(seeds, env_idx=env_idx)
        self._num_actions_taken[env_idx] = 0
        self._over[env_idx] = False

    def _of_panel(self, boards: NDArray[np.bool_] | None = None) -> dict[str, Any]:
        """The info `panel_idx`, where there is a panel."""
        if self.panel is None:
            return {}
        shown = np.ones(self.num_envs, bool) if boards is None else boards.copy()
        return {"panel_idx": self._panel_idx.copy(), "_panel_idx": shown}

    def _grids(self) -> NDArray[np.uint8]:
        """[E, height, width]: the compact texts without their line ends, in memory of their own."""
        height, width = self.single_observation_space.shape
        arena, _ = self.batch.observe(style="compact")
        rows = np.full((self.num_envs, height * (width + 1)), 10, np.uint8)
        rows[:, :-1] = arena.reshape(self.num_envs, -1)
        return np.ascontiguousarray(rows.reshape(self.num_envs, height, width + 1)[:, :, :width])


def _panel(name: str, count: int, config: dict[str, Any]) -> Panel:
    """The first `count` distinct tasks, in the order in which an evaluation plays them."""
    split = config.get("split")
    if split is None:
        raise ValueError(f"panel={count} needs a split: 'train', 'valid' or 'test'")
    if count < 1:
        raise ValueError(f"panel must be None or at least 1, got {count}")
    rules = {key: value for key, value in config.items() if key not in ("split", "style", "num_threads")}
    seeds = distinct_seeds(name, split, count, **rules)
    boards = make(name, max(1, len(seeds)), split=split, **rules)
    boards.reset(seeds)
    return Panel(name, split, seeds, boards.tasks())


for _game in NATIVE:
    gymnasium.register(
        id=f"lamer_fast/{_game.capitalize()}-v0",
        vector_entry_point="lamer_fast.envs.vector:GridVectorEnv",
        kwargs={"name": _game},
    )
