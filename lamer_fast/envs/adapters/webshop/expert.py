"""Shoppers for warm starts and upper bounds: one knows the product, one reads what everybody sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.adapters.webshop import pages
from lamer_fast.envs.adapters.webshop.goals import Goal
from lamer_fast.envs.adapters.webshop.pages import Session, Shop
from lamer_fast.envs.adapters.webshop.products import Product
from lamer_fast.envs.adapters.webshop.reward import alike, color
from lamer_fast.envs.expert import Expert

Action = tuple[str, str]


def next_action(shop: Shop, session: Session, goal: Goal) -> Action:
    """Towards the goal's own product: search, open, choose, buy."""
    wanted = shop.catalogue.product(goal.product)
    if session.page == pages.RESULTS:
        found = shop.found(session)
        if goal.product in found:
            shown = shop.shown(session)
            if goal.product in shown:
                return "click", wanted.asin.lower()
            after = not shown or found.index(goal.product) > found.index(shown[-1])
            return "click", pages.NEXT if after and shown else pages.PREV
        return "search", f"{wanted.title} {' '.join(goal.attributes)}"
    if session.page in (pages.ITEM, pages.SUB) and session.product == goal.product:
        return buy(session, wanted, goal)
    if session.page == pages.ITEM:
        return "click", pages.PREV
    return "search", wanted.query or wanted.title


def buy(session: Session, product: Product, goal: Goal) -> Action:
    """The next click on an open product: an option that the goal names, if one is left, or the purchase."""
    if session.page == pages.SUB:
        return "click", pages.PREV
    for wanted in goal.options:
        if not any(_is(value, wanted) for value in session.chosen.values()):
            value = offered(product, wanted)
            if value is not None:
                return "click", value
    return "click", pages.BUY


def offered(product: Product, wanted: str) -> str | None:
    """The product's option value that counts as the wanted one: the same, or else one that is alike."""
    values = [value for _, group in product.options for value in group]
    return wanted if wanted in values else next((value for value in values if _is(value, wanted)), None)


def _is(value: str, wanted: str) -> bool:
    return alike(color(value), color(wanted))


def random_action(legal: Sequence[str], rng: np.random.Generator) -> str:
    return legal[int(rng.integers(len(legal)))] if legal else "<action>search[nothing]</action>"


class Shopper(Expert):
    """Searches for the kind of product, opens one that is cheap enough, chooses options and buys.

    It knows no more than the pages say: which of the products is the right one it finds out by buying. With a
    memory it opens none that the trial has bought before.
    """

    def __init__(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator
    ) -> None:
        super().__init__(env, noise, memory, num_trials, rng)
        self.bought: list[set[int]] = [set() for _ in range(num_trials)]
        self.looked: list[set[int]] = [set() for _ in range(num_trials)]  # opened, and not what is asked for

    def play(self, trials: NDArray[np.int64]) -> tuple[list[str], NDArray[np.float64] | None]:
        legal = self.env.legal_actions(trials)
        return [self._reply(t, choices) for t, choices in zip(trials.tolist(), legal, strict=True)], None

    def reflect(self, trials: NDArray[np.int64]) -> list[str]:
        notes = []
        for trial in trials.tolist():
            session = self.env.sessions[trial]
            if session.page == pages.DONE:
                self.bought[trial].add(session.product)
            asins = [self.env.catalogue.product(p).asin.lower() for p in sorted(self.bought[trial])]
            notes.append(f"not {' '.join(asins)}" if asins else "not bought")
        return notes

    def _reply(self, trial: int, legal: Sequence[str]) -> str:
        session = self.env.sessions[trial]
        if self.rng.random() < self.noise[trial]:
            return random_action(legal, self.rng)
        what, argument = self._action(trial, session, self.env.goals.all[session.goal])
        return f"<action>{what}[{argument}]</action>"

    def _action(self, trial: int, session: Session, goal: Goal) -> Action:
        shop: Shop = self.env.shop
        wanted = shop.catalogue.product(goal.product)
        if session.page == pages.RESULTS and (shown := shop.shown(session)):
            avoid = self.looked[trial] | (self.bought[trial] if self.remembers[trial] else set())
            right = [p for p in shown if self._may_be(shop, p, goal)]
            choices = [p for p in right if p not in avoid] or right or list(shown)
            p = choices[int(self.rng.integers(len(choices)))]
            return "click", shop.catalogue.product(p).asin.lower()
        if session.page in (pages.ITEM, pages.SUB):
            product = shop.catalogue.product(session.product)
            if all(offered(product, option) for option in goal.options):
                return buy(session, product, goal)
            self.looked[trial].add(session.product)
            return "click", pages.PREV
        return "search", wanted.query or wanted.title

    def _may_be(self, shop: Shop, p: int, goal: Goal) -> bool:
        """As far as a page of results tells."""
        return bool(shop.catalogue.prices[p][0] <= goal.max_price)
