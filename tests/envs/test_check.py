"""check_env: silent on sound environments, and each kind of violation is found and named."""

import dataclasses

import numpy as np
import pytest

from lamer_fast.envs import TextBatchEnv, check_env, text_env
from lamer_fast.envs.toy import NumberHunt

GUESSES = [f"<action>{number}</action>" for number in range(1, 7)]


def check_toy(kind):
    return check_env(kind(6, highest=6), replies=GUESSES, num_turns=30)


def test_the_toy_keeps_the_protocol():
    assert isinstance(NumberHunt(2), TextBatchEnv)
    assert check_toy(NumberHunt) == []


@pytest.mark.parametrize("prompt", ["full", "compact"])
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("sokoban", {}),
        ("sokoban", {"num_boxes": 1, "split": "train", "moves_per_turn": 1}),
        ("sokoban", {"track_dead": True, "end_on_dead": True}),
        ("minesweeper", {}),
        ("minesweeper", {"height": 10, "width": 12, "num_mines": 20, "first_click": "agent"}),
    ],
)
def test_native_environments_keep_the_protocol(name, config, prompt):
    env = text_env(name, 7, prompt=prompt, **config)
    assert isinstance(env, TextBatchEnv)
    assert check_env(env) == []


class WrongDtype(NumberHunt):
    def step(self, replies, env_idx):
        out = super().step(replies, env_idx)
        return dataclasses.replace(out, rewards=out.rewards.astype(np.float64))


class WrongLength(NumberHunt):
    def observe(self, env_idx):
        return super().observe(env_idx)[:-1]


class ObservesBytes(NumberHunt):
    def observe(self, env_idx):
        return [text.encode() for text in super().observe(env_idx)]


class TouchesOthers(NumberHunt):
    def step(self, replies, env_idx):
        out = super().step(replies, env_idx)
        self.texts[1] += " Somebody else guessed."
        return out


class RestartsAll(NumberHunt):
    def restart(self, env_idx):
        super().restart(np.arange(self.num_envs))


class ComesBackToLife(NumberHunt):
    def step(self, replies, env_idx):
        self.solved[env_idx] = False
        return super().step(replies, env_idx)


class PaysForever(NumberHunt):
    def step(self, replies, env_idx):
        out = super().step(replies, env_idx)
        return dataclasses.replace(out, rewards=out.success.astype(np.float32))


class SaltedSeeds(NumberHunt):
    num_resets = 0

    def reset(self, seeds, env_idx=None):
        super().reset(seeds, env_idx)
        self.num_resets += 1
        boards = range(self.num_envs) if env_idx is None else env_idx
        for i in boards:
            self.texts[i] = f"Board {int(self.targets[i]) + self.num_resets}"


class SeedsByPosition(NumberHunt):
    def restart(self, env_idx):
        super().restart(env_idx)
        for i in env_idx:
            self.texts[i] = f"Board {self.targets[i]} of place {i}"


class ForgetsTheStart(NumberHunt):
    def restart(self, env_idx):
        super().restart(env_idx)
        for i in env_idx:
            self.attempts = getattr(self, "attempts", 0) + 1
            self.texts[i] = f"Attempt {self.attempts}"


class ObserveActs(NumberHunt):
    def observe(self, env_idx):
        texts = super().observe(env_idx)
        self.texts = [text + "." for text in self.texts]
        return texts


class GarbageCounts(NumberHunt):
    def step(self, replies, env_idx):
        out = super().step(replies, env_idx)
        for i, valid in zip(env_idx, out.valid, strict=True):
            if not valid:
                self.texts[i] += " What?"
        return out


class RaisesOnGarbage(NumberHunt):
    def step(self, replies, env_idx):
        for reply in replies:
            reply.encode()
        return super().step(replies, env_idx)


class SharesBuffers(NumberHunt):
    def step(self, replies, env_idx):
        out = super().step(replies, env_idx)
        if not hasattr(self, "buffer"):
            self.buffer = np.empty(self.num_envs, bool)
        self.buffer[: len(replies)] = out.valid
        return dataclasses.replace(out, valid=self.buffer[: len(replies)])


class SucceedsUndone(NumberHunt):
    def step(self, replies, env_idx):
        out = super().step(replies, env_idx)
        return dataclasses.replace(out, done=np.zeros(len(replies), bool))


class NoPrompt(NumberHunt):
    def task_prompt(self):
        return ""


class Unstable(NumberHunt):
    def tasks(self, env_idx):
        return np.array([len(self.texts[i]) for i in env_idx], np.uint64)


class LosesSnapshots(NumberHunt):
    def snapshot(self, env_idx):
        return b"nothing"

    def restore(self, data, env_idx):
        pass


class OffersNonsense(NumberHunt):
    def legal_actions(self, env_idx):
        return [["guess 3"] for _ in env_idx]


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (WrongDtype, "step().rewards must be float32 of shape (6,), got float64"),
        (WrongLength, "observe() of 6 boards returned 5 texts"),
        (ObservesBytes, "observe() must return list[str], got list of ['bytes']"),
        (TouchesOthers, "step() changes boards that were not named"),
        (RestartsAll, "restart() changes boards that were not named"),
        (ComesBackToLife, "done is not absorbing"),
        (PaysForever, "a done board gives a reward"),
        (SaltedSeeds, "reset() with the same seed gives another board"),
        (SeedsByPosition, "the board of a seed depends on its position"),
        (ForgetsTheStart, "restart() does not give the start state"),
        (ObserveActs, "observe() changes what the next observe() returns"),
        (GarbageCounts, "the unparsable reply '' changes the board"),
        (RaisesOnGarbage, "unparsable check: UnicodeEncodeError"),
        (SharesBuffers, "a later step() overwrites the TurnOut of an earlier one"),
        (SucceedsUndone, "step().success without done"),
        (NoPrompt, "task_prompt() must return a text"),
        (Unstable, "tasks() changes during the game"),
        (LosesSnapshots, "restore(snapshot()) gives another state"),
        (OffersNonsense, "step() cannot parse 'guess 3', which legal_actions() offers"),
    ],
)
def test_violations_are_named(kind, sentence):
    assert any(sentence in violation for violation in check_toy(kind)), check_toy(kind)


def test_missing_members_are_named():
    class Half:
        num_envs = 4

        def reset(self, seeds, env_idx=None): ...

    assert check_env(Half()) == [
        f"{name}() is missing" for name in ("restart", "step", "observe", "task_prompt")
    ]
    assert "at least 2" in check_env(NumberHunt(1))[0]
