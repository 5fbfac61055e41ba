"""True advantages by Monte Carlo agree with those of enumeration, and estimators are judged as they are."""

from dataclasses import replace

import numpy as np
import pytest

from lamer_fast.agent.agent import Agent
from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.config import AlgoConfig
from lamer_fast.config import resolve as recipe
from lamer_fast.envs.registry import make_env
from lamer_fast.rollout.boards import Boards
from lamer_fast.samplers.roles import RandomPlayer
from lamer_fast.study.gradient.agreement import of_advantages, of_gradients
from lamer_fast.study.gradient.boards import explore
from lamer_fast.study.gradient.branched import Players, branch, branched, play
from lamer_fast.study.gradient.estimators import Estimator
from lamer_fast.study.gradient.judged import partners, said, true_advantages
from lamer_fast.study.gradient.minds import MINDS
from lamer_fast.study.gradient.objectives import claimed, success
from tests.tiny import tiny_tokenizer

RENDERER = ChatRenderer(tiny_tokenizer())
G, M, EPISODES = 4, 32, 3
UNDISCOUNTED = {"gamma_step": 1.0, "gamma_traj": 1.0}


def arm(**algo):
    return Estimator("", "", AlgoConfig(**algo), {})


@pytest.fixture(scope="module")
def world():
    """(boards as graphs, the same branched) of Minesweeper 3x2 with two mines, played at random."""
    config = recipe.load("minesweeper-tiny")
    options = replace(config.env, height=3, width=2, num_mines=2)
    rollout = replace(config.rollout, episodes=EPISODES, reflect=False, trials_per_group=G)
    config = replace(config, env=options, rollout=rollout)
    env = make_env(options, 256, split=None)
    agent = Agent(RENDERER, env, config)
    found = Players(RandomPlayer(env, agent, 100_000), env, agent, rollout)
    graphs, played = [], []
    for seed in range(12):
        graphs.append(explore(make_env(options, 1, split=None), seed, MINDS["notes"].actions))
        group = Boards(np.full(G, seed, np.uint64), np.zeros(G, np.int32), np.arange(G) + G * seed)
        trials, places = play(found, group, seed=5)
        every = [place for own in places for place in own]
        ways = branch(found, every, M, 100 + seed, np.arange(len(every)))
        played.append(branched(trials, ways, M))
    return graphs, played


class Exact:
    """Values of a board under the uniform policy, by going through all that can happen."""

    def __init__(self, graph, algo=None):
        self.graph, self.algo = graph, algo
        self.state_of = {a: s for s, a in enumerate(graph.anchors) if graph.actions[s]}
        self.known = {}

    def gain(self, out, episode, turn):
        if self.algo is None:
            return float(out.success)
        return out.reward * self.algo.gamma_traj**episode * self.algo.gamma_step**turn

    def value(self, state, episode, turn):
        """Of all that is still to come."""
        key = state, episode, turn
        if key not in self.known:
            outcomes = self.graph.outcomes[state]
            each = [self.gain(o, episode, turn) + self.after(o, episode, turn) for o in outcomes]
            self.known[key] = float(np.mean(each))
        return self.known[key]

    def after(self, out, episode, turn):
        if not out.done:
            return self.value(out.state, episode, turn + 1)
        return 0.0 if out.success or episode + 1 == EPISODES else self.value(0, episode + 1, 0)

    def advantages(self, board):
        """[N] of the turns as they were played."""
        t, found = board.table.turns, []
        for n in range(len(board.place)):
            state, episode, turn = self.state_of[t["anchor"][n]], int(t["episode"][n]), int(t["turn"][n])
            ended = bool(t["done"][n])
            went = None if ended else self.state_of[t["anchor"][n + 1]]
            (out,) = {
                (o.reward, o.done, o.success, None if o.done else o.state): o
                for o in self.graph.outcomes[state]
                if (o.done, o.success) == (ended, bool(t["success"][n])) and (ended or o.state == went)
            }.values()
            now = self.gain(out, episode, turn) + self.after(out, episode, turn)
            found.append(now - self.value(state, episode, turn))
        return np.array(found)


OBJECTIVES = {"success": None, "discounted": AlgoConfig(gamma_step=0.9, gamma_traj=0.5)}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_monte_carlo_agrees_with_enumeration_within_its_error(world, name):
    graphs, played = world
    algo = OBJECTIVES[name]
    objective = success if algo is None else claimed(algo, G)[1]
    off, errors, exact = [], [], []
    for graph, board in zip(graphs, played, strict=True):
        halves, error = true_advantages(board, objective)
        exact.append(Exact(graph, algo).advantages(board))
        off.append(halves.mean(axis=1) - exact[-1])
        errors.append(error)
    off, errors, exact = (np.concatenate(x) for x in (off, errors, exact))
    z = off[errors > 0] / errors[errors > 0]
    assert len(z) > 200 and exact.std() > 1.5 * (errors**2).mean() ** 0.5
    assert abs(z).max() < 6 and 0.7 < (z**2).mean() < 1.5 and abs(z.mean()) < 0.3
    assert abs(off[errors == 0]).max(initial=0) < 0.2, "alike in all branches, if seldom not in truth"


def directions(played, of_arm, objective):
    rng = np.random.default_rng(1)
    both = [said(board, of_arm, partners(board, rng)) for board in played]
    true = [true_advantages(board, objective)[0] for board in played]
    return of_advantages([mean for mean, _ in both], [one for _, one in both], true)


def test_an_unbiased_estimator_says_the_true_advantages_and_a_biased_one_does_not(world):
    _, played = world
    fair = arm(estimator="rloo", **UNDISCOUNTED)
    found = directions(played, fair, claimed(fair.algo, G)[1])
    assert found.scale == pytest.approx(1, abs=4 * found.scale_error) and found.scale_error < 0.1
    assert found.cosine == pytest.approx(1, abs=4 * found.cosine_error + 0.01)
    assert found.one < 0.9 and found.noise > 0.3, "one estimate is noisy"
    exact = arm(estimator="pass_at_k")
    found = directions(played, exact, success)
    assert found.scale == pytest.approx(1, abs=4 * found.scale_error) and found.cosine > 0.97
    later_counts_less = arm(estimator="rloo", gamma_step=1.0, gamma_traj=0.2)
    found = directions(played, later_counts_less, claimed(later_counts_less.algo, G)[1])
    assert found.cosine + 4 * found.cosine_error < 1, "later turns are credited as if they counted in full"


def test_a_sum_over_turns_that_depends_on_where_a_trial_stops_is_no_baseline(world):
    """Reported of others (verl-project/verl#7244): means over turns, whose number the policy decides."""
    _, played = world
    over_turns = arm(estimator="rloo", stats_unit="turn", **UNDISCOUNTED)
    objective = claimed(over_turns.algo, G)[1]
    assert directions(played, over_turns, objective).scale < 1 - 0.02


def test_products_across_halves_have_no_noise_in_their_mean():
    rng = np.random.default_rng(0)
    true = [rng.normal(0, 1, 400) for _ in range(30)]
    aside = [rng.normal(0, 1, 400) for _ in range(30)]
    mean = [0.5 * (0.8 * t + 0.6 * a) for t, a in zip(true, aside, strict=True)]
    halves = [[x[:, None] + rng.normal(0, 1, (400, 2)) for x in xs] for xs in (mean, true)]
    one = [x + rng.normal(0, 1, 400) for x in mean]
    found = of_advantages(halves[0], one, halves[1])
    assert found.cosine == pytest.approx(0.8, abs=4 * found.cosine_error) and found.cosine_error < 0.05
    assert found.scale == pytest.approx(0.4, abs=4 * found.scale_error)
    assert found.noise == pytest.approx(1 / 0.25, rel=0.2)
    plain = np.corrcoef(np.concatenate(halves[0]).mean(1), np.concatenate(halves[1]).mean(1))[0, 1]
    assert plain < 0.5, "without it the correlation would look small"

    found = of_gradients(*(np.stack([x.T for x in xs], axis=-2) for xs in (halves[0], one, halves[1])))
    assert found.cosine == pytest.approx(0.8, abs=4 * found.cosine_error + 0.05) and found.cosine_error < 0.4
