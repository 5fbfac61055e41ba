"""The gymnasium face: gymnasium's own checks, the three autoreset modes, truncation."""

import warnings

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")
from gymnasium.utils import env_checker, performance  # noqa: E402
from gymnasium.vector import AutoresetMode, VectorEnv  # noqa: E402

from lamer_fast.envs.panel import panel  # noqa: E402
from lamer_fast.envs.registry import default_options  # noqa: E402
from lamer_fast.envs.vector import GridVectorEnv  # noqa: E402

GAMES = [("Sokoban", {"num_boxes": 1}), ("Minesweeper", {})]


def make(game, num_envs=5, **config):
    return gymnasium.make_vec(f"lamer_fast/{game}-v0", num_envs=num_envs, **config)


@pytest.mark.skipif(
    not hasattr(env_checker, "check_returned_data_not_reused"), reason="checks of gymnasium 1.4"
)
@pytest.mark.parametrize("mode", ["next", "same", "none"])
@pytest.mark.parametrize(("game", "config"), GAMES)
def test_gymnasium_checks(game, config, mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vec = make(game, autoreset=mode, **config)
        assert isinstance(vec, VectorEnv) and isinstance(vec.metadata["autoreset_mode"], AutoresetMode)
        env_checker.check_reset_seed_determinism(vec)
        env_checker.check_reset_return_type(vec)
        env_checker.check_reset_options(vec)
        env_checker.check_returned_data_not_reused(make(game, 1, autoreset=mode, **config))


@pytest.mark.parametrize(("game", "config"), GAMES)
def test_spaces_dtypes_and_seeds(game, config):
    vec = make(game, **config)
    grids, infos = vec.reset(seed=3)
    assert grids in vec.observation_space and infos == {}
    assert ["\n".join(bytes(row).decode() for row in grid) for grid in grids] == list(vec.render())
    for same in ([3, 4, 5, 6, 7], np.int64(3)):
        assert (vec.reset(seed=same)[0] == grids).all()
    actions = vec.action_space.sample()
    grids, rewards, terminated, truncated, _ = vec.step(actions)
    assert grids in vec.observation_space and rewards.dtype == np.float64
    assert terminated.dtype == truncated.dtype == np.bool_
    if hasattr(performance, "benchmark_vector_step"):  # gymnasium 1.4
        performance.benchmark_vector_step(vec, target_duration=0.05, seed=0)


def play_until(vec, condition, num_steps=500):
    vec.reset(seed=0)
    vec.action_space.seed(0)
    for _ in range(num_steps):
        before = vec.render()
        step = vec.step(vec.action_space.sample())
        if condition(step):
            return before, step
    raise AssertionError(f"not seen in {num_steps} steps")


def test_next_step_autoreset_ignores_the_action_after_the_end():
    vec = make("Minesweeper")
    _, (_, _, terminated, _, _) = play_until(vec, lambda step: step[2].any())
    closed = [text.count("?") for text in vec.render()]
    grids, rewards, after, truncated, infos = vec.step(vec.action_space.sample())
    assert not after[terminated].any() and not truncated.any() and not rewards[terminated].any()
    assert (infos["_success"] == ~terminated).all()
    for i in np.flatnonzero(terminated):
        assert (grids[i] != ord("*")).all() and vec.render()[i].count("?") > 0, closed


def test_same_step_autoreset_hands_out_the_final_grid():
    vec = make("Minesweeper", autoreset="same")
    _, (grids, _, terminated, _, infos) = play_until(vec, lambda step: (step[2] & (step[1] < 0)).any())
    lost = np.flatnonzero(infos["final_info"]["dead"])
    assert lost.size and (infos["_final_obs"] == terminated).all()
    for i in range(vec.num_envs):
        assert (infos["final_obs"][i] is not None) == terminated[i]
    for i in lost:
        assert (infos["final_obs"][i] == ord("*")).sum() == 1 and (grids[i] != ord("*")).all()


def test_disabled_autoreset_needs_a_reset_mask():
    vec = make("Minesweeper", autoreset="none")
    _, (_, _, terminated, _, _) = play_until(vec, lambda step: step[2].any())
    with pytest.raises(ValueError, match="are over"):
        vec.step(vec.action_space.sample())
    before = vec.render()
    vec.reset(options={"reset_mask": terminated})
    after = vec.render()
    assert [a == b for a, b in zip(before, after, strict=True)] == (~terminated).tolist()
    vec.step(vec.action_space.sample())
    with pytest.raises(ValueError, match="reset_mask"):
        vec.reset(options={"reset_mask": np.ones(3, bool)})


def test_truncation():
    vec = make("Sokoban", max_episode_steps=4)
    vec.reset(seed=1)
    still = np.full(5, 4)
    for _ in range(3):
        assert not vec.step(still)[3].any()
    _, _, terminated, truncated, _ = vec.step(still)
    assert truncated.all() and not terminated.any()
    assert not vec.step(still)[3].any()  # the step that resets
    assert not vec.step(still)[3].any()


def test_bad_arguments():
    with pytest.raises(ValueError, match="'never'"):
        GridVectorEnv("sokoban", 2, autoreset="never")
    with pytest.raises(ValueError, match="0"):
        GridVectorEnv("sokoban", 2, max_episode_steps=0)
    with pytest.raises(ValueError, match="2 values, expected one for each of 3"):
        GridVectorEnv("sokoban", 3).reset(seed=[1, 2])


@pytest.mark.parametrize("mode", ["next", "same", "none"])
def test_a_panel_is_played_in_order_and_each_task_can_be_counted_once(mode):
    """Its digest is that of an evaluation; who counts every first finish has each task once."""
    vec = make("Minesweeper", split="test", panel=7, autoreset=mode)
    same = panel(default_options("minesweeper"), "test", 7)
    assert vec.panel.digest == same.digest and (vec.panel.tasks == same.tasks).all()
    env_checker.check_reset_seed_determinism(vec)
    _, infos = vec.reset(seed=0)
    assert infos["panel_idx"].tolist() == [0, 1, 2, 3, 4]
    vec.action_space.seed(1)
    won, playing = {}, infos["panel_idx"]
    while len(won) < 7:
        assert (vec.batch.tasks() == same.tasks[playing]).all()
        _, _, terminated, _, infos = vec.step(vec.action_space.sample())
        ended = infos.get("final_info", infos)
        for board in np.flatnonzero(terminated):
            assert ended["panel_idx"][board] == playing[board]
            won.setdefault(int(playing[board]), bool(ended["success"][board]))
        if mode == "none" and terminated.any():
            _, infos = vec.reset(options={"reset_mask": terminated})
        playing = infos["panel_idx"]
    assert sorted(won) == list(range(7))


def test_seeds_are_places_on_a_panel():
    vec = make("Sokoban", num_envs=3, split="valid", panel=4, num_boxes=1)
    assert vec.reset(seed=3)[1]["panel_idx"].tolist() == [3, 0, 1]
    assert vec.reset(seed=[9, None, 2])[1]["panel_idx"].tolist()[::2] == [1, 2]
    assert make("Sokoban", num_envs=2, split="valid", num_boxes=1).reset(seed=0)[1] == {}


@pytest.mark.parametrize("mode", ["next", "same"])
def test_statistics_of_gymnasium_see_every_step_of_every_episode(mode):
    """Lengths are those of the limit, in later episodes too: what autoreset modes have broken elsewhere."""
    vec = make("Sokoban", max_episode_steps=3, autoreset=mode)
    if mode == "same" and gymnasium.__version__ < "1.4":
        pytest.skip("gymnasium before 1.4 counts wrongly in this mode (Gymnasium#1624)")
    counted = gymnasium.wrappers.vector.RecordEpisodeStatistics(vec)
    counted.reset(seed=1)
    infos = [counted.step(np.full(5, 4))[-1] for _ in range(13)]
    lengths = [info["episode"]["l"].tolist() for info in infos if "episode" in info]
    assert lengths == [[3] * 5] * (3 if mode == "next" else 4)


def test_a_panel_needs_a_split_and_a_size():
    with pytest.raises(ValueError, match="panel=4 needs a split"):
        GridVectorEnv("sokoban", 2, panel=4)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        GridVectorEnv("sokoban", 2, panel=0, split="test")


def test_the_spec_makes_the_same_environment_again():
    vec = make("Minesweeper", num_envs=3, split="test", panel=5, autoreset="same")
    again = gymnasium.make_vec(vec.spec)
    assert again.spec == vec.spec and again.panel.digest == vec.panel.digest and again.num_envs == 3
    assert (again.reset(seed=2)[0] == vec.reset(seed=2)[0]).all()
