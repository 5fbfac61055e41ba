"""Every wrong argument raises ValueError or TypeError that names what disagrees, before a board changes."""

import numpy as np
import pytest

from lamer_fast.envs import distinct_seeds, make, num_tasks, text_env

U64, I64, I32 = np.uint64, np.int64, np.int32
GAMES = ["sokoban", "minesweeper"]
TURN = np.zeros((4, 2), I32)
CORRIDOR = "#####\n#@$.#\n#####"


@pytest.fixture(params=GAMES)
def batch(request):
    batch = make(request.param, 4)
    batch.reset(np.arange(4, dtype=U64))
    return batch


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda b: b.reset([1, 2, 3, 4]), TypeError, "seeds must be a numpy array of uint64, got list"),
        (lambda b: b.reset(np.arange(4)), TypeError, "seeds must be uint64, got int64"),
        (lambda b: b.reset(np.arange(3, dtype=U64)), ValueError, "seeds has 3 values, expected 4"),
        (lambda b: b.reset(np.zeros((2, 2), U64)), ValueError, r"1 dimensions, its shape is \(2, 2\)"),
        (lambda b: b.reset(np.arange(8, dtype=U64)[::2]), ValueError, "contiguous"),
        (lambda b: b.reset(np.arange(1, dtype=U64), np.array([4])), ValueError, "4, but num_envs is 4"),
        (lambda b: b.restart(np.array([-1])), ValueError, "-1, but num_envs is 4"),
        (lambda b: b.restart(np.array([2, 1, 2])), ValueError, "names board 2 twice"),
        (lambda b: b.restart(np.array([1], I32)), TypeError, "env_idx must be int64, got int32"),
        (lambda b: b.restart([1]), TypeError, "env_idx must be a numpy array of int64, got list"),
        (lambda b: b.step(TURN.astype(I64)), TypeError, "actions must be int32, got int64"),
        (lambda b: b.step(TURN[:, 0].copy()), ValueError, "actions must have 2 dimensions"),
        (lambda b: b.step(TURN[:3]), ValueError, "actions has 3 rows, expected 4"),
        (lambda b: b.step(TURN, env_idx=np.array([0, 1])), ValueError, "actions has 4 rows, expected 2"),
        (lambda b: b.step(TURN - 2), ValueError, r"actions\[0, 0\] is -2, expected -1 to"),
        (lambda b: b.step(TURN + 99), ValueError, r"actions\[0, 0\] is 99, expected -1 to"),
        (
            lambda b: b.step(TURN, np.array([0, 1, 3, 2], I32)),
            ValueError,
            r"lengths\[2\] is 3, expected 0 to 2",
        ),
        (
            lambda b: b.step(TURN, np.array([-1, 1, 1, 2], I32)),
            ValueError,
            r"lengths\[0\] is -1, expected 0 to 2",
        ),
        (lambda b: b.step(TURN, np.array([1, 1], I32)), ValueError, "lengths has 2 values, expected 4"),
        (lambda b: b.step(TURN, np.ones(4)), TypeError, "lengths must be int32, got float64"),
        (lambda b: b.observe(style="fancy"), ValueError, "'fancy'"),
        (lambda b: b.texts(style="fancy"), ValueError, "'fancy'"),
        (lambda b: b.parse([b"up"]), TypeError, r"replies\[0\] must be a str, got bytes"),
        (lambda b: b.parse(["up"], max_actions=0), ValueError, "max_actions must be >= 1, got 0"),
        (lambda b: b.restore(b""), ValueError, "its size in bytes is 0, expected"),
        (lambda b: b.restore(b.snapshot()[:-1]), ValueError, "its size in bytes is"),
        (lambda b: b.restore(b.snapshot() + b"!"), ValueError, "its size in bytes is"),
        (lambda b: b.restore(b.snapshot(np.array([1, 2]))), ValueError, "number of boards is 2, expected 4"),
        (lambda b: b.restore(b"X" + b.snapshot()[1:]), ValueError, "first word"),
        (lambda b: b.restore(b.snapshot()[:-1] + b"\xff"), ValueError, "checksum"),
    ],
)
def test_calls(batch, call, error, message):
    before = batch.snapshot()
    with pytest.raises(error, match=message):
        call(batch)
    assert batch.snapshot() == before


def test_a_bad_action_of_one_board_changes_no_board(batch):
    turn = np.ones((4, 3), I32)
    turn[3, 2] = batch.num_actions
    before = batch.snapshot()
    with pytest.raises(ValueError, match=rf"actions\[3, 2\] is {batch.num_actions}"):
        batch.step(turn)
    assert batch.snapshot() == before
    lengths = np.array([3, 3, 3, 2], I32)
    batch.step(turn, lengths)  # beyond the length nothing is read


@pytest.mark.parametrize("name", GAMES)
def test_snapshots_belong_to_their_configuration(name):
    one, other = make(name, 2), make(name, 2, rewards="sparse")
    one.reset(np.arange(2, dtype=U64))
    with pytest.raises(ValueError, match="fingerprint of its configuration"):
        other.restore(one.snapshot())


def test_out_buffers(batch):
    good = batch.step(TURN)
    again = batch.step(TURN, out=good)
    assert all(a is b for a, b in zip(good, again, strict=True))
    with pytest.raises(ValueError, match=r"rewards_per_action has shape \(4, 2\), expected"):
        batch.step(TURN[:, :1].copy(), out=good)
    with pytest.raises(TypeError, match="executed must be int32, got int64"):
        batch.step(TURN, out=good._replace(executed=np.zeros(4, I64)))
    arena, offsets = batch.observe()
    with pytest.raises(ValueError, match="arena"):
        batch.observe(out=(arena[:-1].copy(), offsets))
    frozen = np.zeros(arena.size, np.uint8)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        batch.observe(out=(frozen, offsets))


@pytest.mark.parametrize(
    ("args", "config", "error", "message"),
    [
        (("chess", 2), {}, ValueError, "'chess'"),
        (("sokoban", 0), {}, ValueError, "num_envs must be 1 to 2147483647, got 0"),
        (("sokoban", 2), {"num_threads": 0}, ValueError, "num_threads must be 1 to 1024, got 0"),
        (("sokoban", 2), {"split": "holdout"}, ValueError, "'holdout'"),
        (("sokoban", 2), {"style": "fancy"}, ValueError, "'fancy'"),
        (("sokoban", 2), {"boxes": 1}, TypeError, "no option 'boxes'"),
        (("minesweeper", 2), {"num_boxes": 1}, TypeError, "no option 'num_boxes'"),
        (("sokoban", 2), {"num_boxes": "2"}, TypeError, "num_boxes must be int, got '2'"),
        (("sokoban", 2), {"num_boxes": True}, TypeError, "num_boxes must be int, got True"),
        (("sokoban", 2.5), {}, TypeError, "num_envs must be int, got 2.5"),
        (("sokoban", 2**40), {}, ValueError, f"num_envs must fit into 32 bits, got {2**40}"),
        (("sokoban", 2), {"num_threads": 2000}, ValueError, "num_threads must be 1 to 1024, got 2000"),
        (("sokoban", 2), {"split": 3}, TypeError, "split must be str or NoneType, got 3"),
        (("sokoban", 2), {"height": 2**40}, ValueError, f"height must fit into 32 bits, got {2**40}"),
        (("sokoban", 2), {"levels": [CORRIDOR], "num_boxes": 1}, ValueError, "num_boxes=1 has no effect"),
        (("sokoban", 2), {"rewards": {"win": "10"}}, TypeError, "reward win must be a number, got str"),
        (("sokoban", 2), {"rewards": {"win": 1e300}}, ValueError, "finite float32, got 1e"),
        (("sokoban", 2), {"num_boxes": 5}, ValueError, "num_boxes.*5"),
        (("sokoban", 2), {"num_boxes": 0}, ValueError, "num_boxes.*0"),
        (("sokoban", 2), {"height": 11}, ValueError, "height.*11"),
        (("sokoban", 2), {"width": 3}, ValueError, "width.*3"),
        (("sokoban", 2), {"min_moves": 9, "max_moves": 8}, ValueError, "9.*8|8.*9"),
        (("sokoban", 2), {"turn_reward": "mean"}, ValueError, "'mean'"),
        (("sokoban", 2), {"autoreset": "always"}, ValueError, "'always'"),
        (("sokoban", 2), {"rewards": "dense"}, ValueError, "'dense'"),
        (("sokoban", 2), {"rewards": {"wins": 1.0}}, ValueError, "'wins'"),
        (
            ("sokoban", 2),
            {"rewards": {"win": float("nan")}},
            ValueError,
            "win must be a finite float32, got nan",
        ),
        (("minesweeper", 2), {"num_mines": 0}, ValueError, "0"),
        (("minesweeper", 2), {"num_mines": 35}, ValueError, "35"),
        (("minesweeper", 2), {"num_mines": 40}, ValueError, "40"),
        (("minesweeper", 2), {"height": 17}, ValueError, "17"),
        (("minesweeper", 2), {"first_click": "nobody"}, ValueError, "'nobody'"),
    ],
)
def test_configurations(args, config, error, message):
    with pytest.raises(error, match=message):
        make(*args, **config)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("sokoban", {"height": 4, "width": 4, "num_boxes": 1, "min_moves": 60, "max_moves": 70}),
        ("sokoban", {"height": 6, "width": 6, "num_boxes": 1, "min_moves": 200, "max_moves": 210}),
        ("minesweeper", {"height": 8, "width": 8, "num_mines": 40, "no_guess": True, "max_tries": 30}),
        ("minesweeper", {"height": 16, "width": 16, "num_mines": 120, "no_guess": True, "max_tries": 20}),
    ],
)
@pytest.mark.timeout(60)
def test_generation_that_cannot_succeed_ends_with_an_error(name, config):
    """At construction or at the first reset; the number of tries is in the message."""
    with pytest.raises(ValueError, match=r"\d+"):
        make(name, 1, **config).reset(np.zeros(1, U64))


def test_text_env():
    for kwargs, message in (
        ({"prompt": "long"}, "'long'"),
        ({"moves_per_turn": 0}, "an int from 1 to 1000, got 0"),
        ({"moves_per_turn": 1.5}, "an int from 1 to 1000, got 1.5"),
        ({"moves_per_turn": 10**9}, "an int from 1 to 1000, got 1000000000"),
        ({"style": "fancy"}, "'fancy'"),
        ({"autoreset": "same"}, "must be 'none' here.*'same'"),
    ):
        with pytest.raises(ValueError, match=message):
            text_env("sokoban", 2, **kwargs)
    with pytest.raises(ValueError, match="must be 1, got 2"):
        text_env("minesweeper", 2, moves_per_turn=2)
    env = text_env("sokoban", 2)
    env.reset(np.arange(2, dtype=U64))
    with pytest.raises(ValueError, match="replies has 1 texts, env_idx names 2 boards"):
        env.step(["up"], np.arange(2))
    with pytest.raises(TypeError, match="got one text, 'up'"):
        env.step("up", np.arange(2))
    two = np.arange(2, dtype=U64)
    for noise, seeds, message in (
        (np.array([0.5, 1.5]), two, r"\[0, 1\], got \[1.5\]"),
        (float("nan"), two, r"\[0, 1\], got \[nan, nan\]"),
        (np.zeros(3), two, r"noise has shape \(3,\)"),
        (0.5, two[:1], "seeds 1 values, env_idx names 2 boards"),
    ):
        with pytest.raises(ValueError, match=message):
            env.expert_replies(np.arange(2), noise, seeds)


def test_tasks():
    with pytest.raises(ValueError, match="count is None"):
        distinct_seeds("sokoban", "train")
    with pytest.raises(ValueError, match="'holdout'"):
        num_tasks("minesweeper", "holdout")


def test_a_board_never_reset_is_done(batch):
    fresh = make(batch.name, 2)
    assert fresh.flags()[0].all() and not fresh.step(TURN[:2]).executed.any()
    fresh.restart()
    assert fresh.flags()[0].all()
