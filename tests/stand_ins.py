"""Small packages with the calls and the habits of TextArena and reasoning-gym, for machines without those."""

import random
import re
from enum import Enum, auto
from types import SimpleNamespace


class ObservationType(Enum):
    PROMPT = auto()
    PLAYER_ACTION = auto()
    GAME_MESSAGE = auto()


class SinglePlayerState:
    """Counts replies that were rejected: the second in a row ends the game."""

    def __init__(self, max_turns):
        self.max_turns, self.turn, self.error_count = max_turns, 0, 0
        self.done, self.rejected, self.rewards, self.messages = False, False, None, []
        self.game_info = {0: {"reason": None, "invalid_move": False}}
        self.game_state = {}

    def say(self, text, kind=ObservationType.GAME_MESSAGE):
        self.messages.append((-1, text, kind))

    def end(self, reward, reason):
        self.rewards, self.done, self.game_info[0]["reason"] = {0: reward}, True, reason

    def reject(self):
        if self.error_count >= 1:
            self.game_info[0]["invalid_move"] = True
            self.end(-1.0, "Invalid move")
        self.error_count, self.rejected = self.error_count + 1, True

    def step(self):
        if not self.rejected:
            self.error_count, self.turn = 0, self.turn + 1
        self.rejected = False
        return self.done, {}


class OddOrEven:
    """Say whether a hidden number is odd. It draws from the generator that all games share, and prints."""

    def reset(self, num_players, seed=None):
        assert num_players == 1
        random.seed(seed)
        self.state = SinglePlayerState(max_turns=3)
        self.state.game_state = {"number": random.randint(1, 1000)}
        self.state.say("Is the number odd? Reply with [odd] or [even].", ObservationType.PROMPT)

    def step(self, action):
        state = self.state
        state.say(action, ObservationType.PLAYER_ACTION)
        print("thinking")
        guess = re.search(r"\[(odd|even|wait)\]", action)
        if guess is None:
            state.reject()
        elif guess[1] == "wait":
            state.say(f"You wait for {random.randint(1, 1000)} seconds.")
            if state.turn >= state.max_turns:
                state.end(0.5, "Too slow.")
        else:
            right = (state.game_state["number"] % 2 == 1) == (guess[1] == "odd")
            state.end(float(right), "Right." if right else "Wrong.")
        return state.step()

    def get_observation(self):
        said, self.state.messages = self.state.messages, []
        return 0, said


class ForTwo(OddOrEven):
    def reset(self, num_players, seed=None):
        assert num_players == 2, "needs two players"


def textarena():
    games = {"OddOrEven-v0": None, "OddOrEven-v0-raw": OddOrEven, "ForTwo-v0-raw": ForTwo}
    registration = SimpleNamespace(ENV_REGISTRY=games)
    return SimpleNamespace(
        SinglePlayerState=SinglePlayerState,
        envs=SimpleNamespace(registration=registration),
        make=lambda name: games[name](),
    )


class Sums:
    """Question i is a function of i; half a score for a number that is near."""

    def __init__(self, size):
        self.size, self.made = size, 0

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        self.made += 1
        return {"question": f"{i} + 1 =", "answer": str(i + 1)}

    def score_answer(self, answer, entry):
        distance = abs(float(answer) - float(entry["answer"]))
        return 1.0 if not distance > 0 else 0.5 if distance < 3 else 0.0


class AllRight(Sums):
    def score_answer(self, answer, entry):
        return 1.0


def reasoning_gym():
    sets = {"sums": Sums, "all_right": AllRight}
    return SimpleNamespace(
        create_dataset=lambda name, seed, size, **config: sets[name](size, **config),
        factory=SimpleNamespace(DATASETS=sets),
    )
