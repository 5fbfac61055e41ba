"""check_env: silent on sound environments, and each kind of violation is found and named."""

import dataclasses
import threading
import time
from pathlib import Path

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


class ExpertMoves(NumberHunt):
    def expert_replies(self, env_idx, noise, seeds):
        replies = [f"<action>{self.targets[i]}</action>" for i in env_idx]
        self.step(replies, env_idx)
        return replies


class ReadsTagsAsText(NumberHunt):
    """Only fails once a hostile text stands where an action is expected."""

    def step(self, replies, env_idx):
        for reply in replies:
            if reply.startswith("<action>"):
                reply.removesuffix("</action>").encode()
        return super().step(replies, env_idx)


class DiesOfNul(NumberHunt):
    def step(self, replies, env_idx):
        if any("\x00" in reply for reply in replies if "<action>a" in reply):
            raise SystemExit(139)
        return super().step(replies, env_idx)


class SharesAGenerator(NumberHunt):
    """Its luck comes from one generator for all boards: the same game again is equal, beside others not."""

    def reset(self, seeds, env_idx=None):
        super().reset(seeds, env_idx)
        self.luck = np.random.default_rng(0)

    def step(self, replies, env_idx):
        out = super().step(replies, env_idx)
        for i in env_idx:
            if not self.solved[i]:
                self.texts[i] = f"You have {self.luck.integers(1000)} friends."
        return dataclasses.replace(out, valid=np.ones(len(replies), bool))


class DrawsFromTheClock(NumberHunt):
    ticks = 0

    def step(self, replies, env_idx):
        out = super().step(replies, env_idx)
        for i in env_idx:
            DrawsFromTheClock.ticks += 1
            self.texts[i] = f"Tick {DrawsFromTheClock.ticks}"
        return dataclasses.replace(out, valid=np.ones(len(replies), bool))


class BelongsToAThread(NumberHunt):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.owner = threading.get_ident()

    def observe(self, env_idx):
        if threading.get_ident() != self.owner:
            raise RuntimeError("wrong thread")
        return super().observe(env_idx)


class Sleeps(NumberHunt):
    def restart(self, env_idx):
        time.sleep(0.02)
        super().restart(env_idx)


class TalksALot(NumberHunt):
    def observe(self, env_idx):
        return [text + "." * 200_000 for text in super().observe(env_idx)]


class SwallowsTheNextCommand(NumberHunt):
    """As interpreters do that ask back whether one is sure."""

    asking = False

    def step(self, replies, env_idx):
        self.asking |= any("quit" in reply for reply in replies)
        return super().step(replies, env_idx)

    def restart(self, env_idx):
        super().restart(env_idx)
        if self.asking:
            self.texts[int(env_idx[0])], self.asking = "Are you sure?", False


class WritesFiles(NumberHunt):
    def step(self, replies, env_idx):
        if any("save" in reply for reply in replies):
            Path("game.sav").write_text(self.texts[0])
        return super().step(replies, env_idx)


class FailsOverLongReplies(NumberHunt):
    def step(self, replies, env_idx):
        if max(map(len, replies)) > 100_000:
            raise MemoryError("no room for this")
        return super().step(replies, env_idx)


class ReadsOneScript(NumberHunt):
    def step(self, replies, env_idx):
        for reply in replies:
            "".join(letter for letter in reply if letter.isalpha()).encode("euc_jp")
        return super().step(replies, env_idx)


class RemembersEarlierEpisodes(NumberHunt):
    """What it shows at first is the same after a restart; what comes then is not."""

    def reset(self, seeds, env_idx=None):
        self.played = np.zeros(self.num_envs, int) if env_idx is None else self.played
        super().reset(seeds, env_idx)
        self.played[slice(None) if env_idx is None else env_idx] = 0

    def step(self, replies, env_idx):
        out = super().step(replies, env_idx)
        for i, valid in zip(env_idx, out.valid, strict=True):
            if valid:
                self.played[i] += 1
                self.texts[i] = f"Turn {self.played[i]}." if not self.solved[i] else self.texts[i]
        return out


class Prints(NumberHunt):
    def observe(self, env_idx):
        print("observing", len(env_idx))
        return super().observe(env_idx)


class PaysNothingKnown(NumberHunt):
    def step(self, replies, env_idx):
        out = super().step(replies, env_idx)
        return dataclasses.replace(out, rewards=np.where(out.success, np.float32("nan"), out.rewards))


class SuccessAsNumbers(NumberHunt):
    def step(self, replies, env_idx):
        out = super().step(replies, env_idx)
        return dataclasses.replace(out, success=out.success.astype(np.int64))


class ReportsErrors(NumberHunt):
    def step(self, replies, env_idx):
        return dataclasses.replace(super().step(replies, env_idx), error=["offline"] * len(replies))


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (WrongDtype, "step() returned rewards of dtype float64, expected float32"),
        (WrongLength, "observe() returned 5 texts, expected 6"),
        (ObservesBytes, "observe() returned a value of type bytes for board 0, expected a text"),
        (TouchesOthers, "step() changes boards that were not named"),
        (RestartsAll, "restart() changes boards that were not named"),
        (ComesBackToLife, "done is not absorbing"),
        (PaysForever, "a done board gives a reward"),
        (SaltedSeeds, "reset() with the same seed gives another board"),
        (SeedsByPosition, "the board of a seed depends on its position"),
        (ForgetsTheStart, "restart() does not give the start state"),
        (ObserveActs, "observe() changes what the next observe() returns"),
        (GarbageCounts, "the invalid reply '' changes the board"),
        (RaisesOnGarbage, "the reply '\\x00\\ud800\\u221a': step() raised UnicodeEncodeError"),
        (SharesBuffers, "a later step() overwrites the TurnOut of an earlier one"),
        (SucceedsUndone, "step() returned success without done for board"),
        (NoPrompt, "task_prompt() returned '', expected a text"),
        (Unstable, "tasks() changes during the game"),
        (LosesSnapshots, "restore(snapshot()) gives another state"),
        (ReadsTagsAsText, r"the reply '<action>\ud800</action>': step() raised UnicodeEncodeError"),
        (DiesOfNul, r"the reply '<action>a\x00b</action>': step() raised SystemExit: 139"),
        (SharesAGenerator, "a board plays another game when others are stepped in between"),
        (DrawsFromTheClock, "the same replies on the board of the same seed lead elsewhere"),
        (BelongsToAThread, "called from another thread: observe() raised RuntimeError: wrong thread"),
        (TalksALot, "observe() returned a text of 20001"),
        (SwallowsTheNextCommand, "after the reply '<action>quit</action>' restart() does not give the start"),
        (WritesFiles, "the reply '<action>save</action>' writes files into the current folder: game.sav"),
        (
            FailsOverLongReplies,
            "the reply '<action>xxxxxxxxxxxxxxxxxxxxxx': step() raised MemoryError: no room",
        ),
        (ReadsOneScript, "step() raised UnicodeEncodeError: 'euc_jp' codec can't encode"),
        (RemembersEarlierEpisodes, "the same replies after restart() lead to another game than those after"),
        (Prints, "observe() prints to stdout, where the run shows its progress: 'observing 6"),
        (PaysNothingKnown, "step() returned reward nan for board"),
        (SuccessAsNumbers, "step() returned success of dtype int64, expected bool"),
        (ReportsErrors, "step() reports an error of board 0: offline"),
        (ExpertMoves, "asking the expert changes the boards: positions [0, 1"),
        (OffersNonsense, "step() cannot parse 'guess 3', which legal_actions() offers"),
    ],
)
def test_violations_are_named(kind, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # one of them writes files
    assert any(sentence in violation for violation in check_toy(kind)), check_toy(kind)


def test_slow_calls_are_named():
    assert check_env(Sleeps(2), replies=GUESSES, slow_s=0.5) == []
    found = check_env(Sleeps(2), replies=GUESSES, slow_s=0.01)
    assert [sentence.split(" takes 0.0")[0] for sentence in found] == ["reset()", "restart()"]


class SleepsOnce(NumberHunt):
    slept = False

    def step(self, replies, env_idx):
        time.sleep(0 if self.slept else 0.3)
        self.slept = True
        return super().step(replies, env_idx)


def test_one_slow_call_is_named():
    found = check_env(SleepsOnce(2), replies=GUESSES, slow_s=0.02)
    assert any(sentence.startswith("a call of step() took ") for sentence in found), found


class SharesAParser(NumberHunt):
    """A parser of the whole process, which two threads must not enter together."""

    busy = threading.Lock()

    def step(self, replies, env_idx):
        if not self.busy.acquire(blocking=False):
            raise RuntimeError("parser is busy")
        time.sleep(0.001)
        self.busy.release()
        return super().step(replies, env_idx)


def test_two_environments_at_once():
    assert check_env(NumberHunt(3), replies=GUESSES, make=NumberHunt) == []
    assert check_env(SharesAParser(3), replies=GUESSES) == []
    (sentence,) = check_env(SharesAParser(3), replies=GUESSES, make=SharesAParser)
    assert sentence.startswith(
        "two environments on two threads at once: step() raised RuntimeError: parser is"
    )


@pytest.mark.parametrize("kind", [ReadsTagsAsText, DiesOfNul, BelongsToAThread, TalksALot, SharesAGenerator])
def test_a_quick_check_lets_pass_what_a_run_can_live_with(kind):
    assert check_env(kind(6, highest=6), replies=GUESSES, quick=True) == []


def test_missing_members_are_named():
    class Half:
        num_envs = 4

        def reset(self, seeds, env_idx=None): ...

    assert check_env(Half()) == ["the environment Half has no restart(), step(), observe(), task_prompt()"]
    assert "at least 2" in check_env(NumberHunt(1))[0]
