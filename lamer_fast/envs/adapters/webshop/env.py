"""WebShop as a batch of boards: one session each, everything else shared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.adapters.webshop import pages
from lamer_fast.envs.adapters.webshop.catalogue import Catalogue
from lamer_fast.envs.adapters.webshop.expert import next_action, random_action
from lamer_fast.envs.adapters.webshop.goals import Goal, Goals, price
from lamer_fast.envs.adapters.webshop.options import WebShopOptions
from lamer_fast.envs.adapters.webshop.pages import Session, Shop
from lamer_fast.envs.adapters.webshop.reward import Score, score
from lamer_fast.envs.protocol import TurnOut
from lamer_fast.envs.replies import action
from lamer_fast.strict_json import json_text

WIN = 10.0
FIELDS = ("goal", "page", "query", "number", "product", "chosen", "sub", "score")  # of a snapshot
TASK = """You shop in an online store and buy the one product that an instruction describes. You see one \
page at a time: the start page, pages of search results, a product with its options, or one about a product.

Two kinds of action:
- search[words] looks for products, from any page.
- click[name] follows what the present page shows under that name: a product's code, an option, or a button \
such as Next >, < Prev, Back to Search, Description, Features or Buy Now.

Anything else changes nothing. Options that the instruction asks for must be chosen before you buy, and a \
search forgets them. Click Buy Now on the product's own page; that ends the attempt. It succeeds only if the \
product has everything that the instruction asks for and costs no more than it allows.

Reply with one action inside action tags, like this: <action>search[wooden chair]</action> or \
<action>click[Buy Now]</action>"""
COMPACT_TASK = "<action>search[...]</action> <action>click[...]</action>"


class WebShopEnv:
    """`TextBatchEnv` with all of its optional members; seed s is goal s of the split, modulo their number.

    A reply is read from behind its last `</think>`; an action that is neither `search[...]` nor `click[...]`
    is invalid. A click on what is not there is valid and changes nothing.
    """

    def __init__(
        self, catalogue: Catalogue, options: WebShopOptions, num_envs: int, split: str | None
    ) -> None:
        self.num_envs = num_envs
        self.options = options
        self.catalogue = catalogue
        self.shop = Shop(catalogue, options)
        self.goals = Goals(catalogue, options)
        self.positions = self.goals.of(split)
        self.sessions = [Session(goal=-1, page=pages.DONE) for _ in range(num_envs)]

    def reset(self, seeds: NDArray[np.uint64], env_idx: NDArray[np.int64] | None = None) -> None:
        boards = range(self.num_envs) if env_idx is None else env_idx.tolist()
        chosen = self.positions[(seeds % np.uint64(len(self.positions))).astype(np.int64)]
        for i, goal in zip(boards, chosen.tolist(), strict=True):
            self.sessions[i] = Session(goal)

    def restart(self, env_idx: NDArray[np.int64]) -> None:
        for i in env_idx.tolist():
            self.sessions[i] = Session(self._session(i).goal)

    def step(self, replies: Sequence[str], env_idx: NDArray[np.int64]) -> TurnOut:
        if isinstance(replies, str) or len(replies) != len(env_idx):
            raise ValueError(f"replies has {len(replies)} texts, env_idx names {len(env_idx)} boards")
        B = len(replies)
        rewards, valid = np.zeros(B, np.float32), np.zeros(B, bool)
        done, success = np.zeros(B, bool), np.zeros(B, bool)
        for b, (i, reply) in enumerate(zip(env_idx.tolist(), replies, strict=True)):
            session = self._session(i)
            parsed = pages.parse(action(reply) or "")
            valid[b] = parsed is not None
            if parsed and session.page != pages.DONE:
                rewards[b] = self._act(session, *parsed)
            done[b] = session.page == pages.DONE
            success[b] = done[b] and session.score == 1.0
        return TurnOut(rewards, done, np.zeros(B, bool), success, valid, [None] * B)

    def observe(self, env_idx: NDArray[np.int64]) -> list[str]:
        return [self.shop.text(self._session(i)) for i in env_idx.tolist()]

    def task_prompt(self) -> str:
        return TASK if self.options.prompt == "full" else COMPACT_TASK

    def task_texts(self, env_idx: NDArray[np.int64]) -> list[str]:
        head = "Instruction: " if self.options.prompt == "full" else ""
        return [head + self._goal(self._session(i)).text for i in env_idx.tolist()]

    def anchors(self, env_idx: NDArray[np.int64]) -> NDArray[np.int64]:
        """The page as it is written, and the options chosen so far."""
        return np.array([self._anchor(self._session(i)) for i in env_idx.tolist()], np.int64)

    def tasks(self, env_idx: NDArray[np.int64]) -> NDArray[np.uint64]:
        return self.goals.tasks[[self._session(i).goal for i in env_idx.tolist()]]

    def legal_actions(self, env_idx: NDArray[np.int64]) -> list[list[str]]:
        """What can be clicked; on the start page a search for the instruction's own words."""
        return [self._legal(self._session(i)) for i in env_idx.tolist()]

    def expert_replies(
        self, env_idx: NDArray[np.int64], noise: float | NDArray[np.float32], seeds: NDArray[np.uint64]
    ) -> list[str]:
        """Of a shopper who knows the goal's product; with probability `noise` a random legal action."""
        replies = []
        for i, level, seed in zip(env_idx.tolist(), np.broadcast_to(noise, len(seeds)), seeds, strict=True):
            session, rng = self._session(i), np.random.default_rng(int(seed))
            chosen = (
                random_action(self._legal(session), rng)
                if rng.random() < level
                else reply_of(next_action(self.shop, session, self._goal(session)))
            )
            replies.append(chosen)
        return replies

    def snapshot(self, env_idx: NDArray[np.int64]) -> bytes:
        rows = [[getattr(self._session(i), name) for name in FIELDS] for i in env_idx.tolist()]
        return json_text(rows).encode()

    def restore(self, data: bytes, env_idx: NDArray[np.int64]) -> None:
        """Raises ValueError for bytes that are no snapshot of as many boards of these goals."""
        rows = json.loads(data)
        if not isinstance(rows, list) or len(rows) != len(env_idx):
            raise ValueError(f"the snapshot is not one of {len(env_idx)} boards")
        sessions = []
        for row in rows:
            if not isinstance(row, list) or len(row) != len(FIELDS):
                raise ValueError(f"a board of the snapshot is {row!r}, expected the values of {FIELDS}")
            session = Session(**dict(zip(FIELDS, row, strict=True)))
            if not -1 <= session.goal < len(self.goals.all) or session.product >= len(self.catalogue):
                raise ValueError(f"goal {session.goal} or product {session.product} is not in this catalogue")
            session.chosen = {int(group): value for group, value in session.chosen.items()}
            sessions.append(session)
        for i, session in zip(env_idx.tolist(), sessions, strict=True):
            self.sessions[i] = session

    def score(self, board: int) -> Score:
        """What a purchase of the product on a board's page, with the options chosen, is worth."""
        session = self._session(board)
        return self._score(session, self._goal(session))

    def _act(self, session: Session, what: str, argument: str) -> float:
        if what == "search":
            self.shop.search(session, argument)
            return 0.0
        if not self.shop.click(session, argument):
            return 0.0
        session.score = self._score(session, self._goal(session)).total
        if self.options.rewards == "dense":
            return WIN * session.score
        return WIN if session.score == 1.0 else 0.0

    def _score(self, session: Session, goal: Goal) -> Score:
        bought, wanted = (self.catalogue.product(p) for p in (session.product, goal.product))
        paid = price(self.catalogue, session.product, self.options.data_seed)
        return score(bought, paid, list(session.chosen.values()), goal, wanted)

    def _legal(self, session: Session) -> list[str]:
        if session.page == pages.START:
            return [reply_of(("search", self._goal(session).text.partition(", and price lower")[0]))]
        return [reply_of(("click", name)) for name in self.shop.clickables(session)]

    def _goal(self, session: Session) -> Goal:
        return self.goals.all[session.goal]

    def _session(self, i: int) -> Session:
        session = self.sessions[i]
        if session.goal < 0:
            raise ValueError(f"board {i} was never reset")
        return session

    def _anchor(self, session: Session) -> int:
        content: Any = (self.shop.text(session), sorted(session.chosen.items()))
        digest = hashlib.blake2b(repr(content).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little", signed=True)


def reply_of(act: tuple[str, str]) -> str:
    return f"<action>{act[0]}[{act[1]}]</action>"
