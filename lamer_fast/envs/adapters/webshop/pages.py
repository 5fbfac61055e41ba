"""The shop's pages: what stands on them, what can be clicked, and where that leads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from lamer_fast.envs.adapters.webshop.catalogue import Catalogue
from lamer_fast.envs.adapters.webshop.options import WebShopOptions
from lamer_fast.envs.adapters.webshop.products import Product

ACTION = re.compile(r"\s*(\w+)\[(.+)\]", re.DOTALL)
BACK, PREV, NEXT, BUY = "back to search", "< prev", "next >", "buy now"
SHOWN = {BACK: "Back to Search", PREV: "< Prev", NEXT: "Next >", BUY: "Buy Now"}
SUB_PAGES = ("description", "features", "reviews", "attributes")
START, RESULTS, ITEM, SUB, DONE = "start", "results", "item", "sub", "done"
CUT = "... (cut)"


@dataclass(slots=True)
class Session:
    """Where a shopper is. `goal` stays over a restart, all else begins anew."""

    goal: int
    page: str = START
    query: str = ""
    number: int = 1
    """Of the page of results, from 1."""
    product: int = -1
    chosen: dict[int, str] = field(default_factory=dict)
    """Position of an option -> the value chosen, in the order of the choices."""
    sub: str = ""
    score: float = 0.0
    """Of the purchase."""
    text: str | None = None
    """The page as it was last written."""


def parse(action: str) -> tuple[Literal["search", "click"], str] | None:
    """(what, its argument in lower case) of `search[...]` or `click[...]`; None of anything else."""
    match = ACTION.match(action)
    name = match[1].lower() if match else ""
    argument = match[2].strip().lower() if match else ""
    return (name, argument) if name in ("search", "click") and argument else None  # type: ignore[return-value]


class Shop:
    """The pages of a catalogue. It holds no state: that is in the sessions."""

    def __init__(self, catalogue: Catalogue, options: WebShopOptions) -> None:
        self.catalogue, self.options = catalogue, options
        self.sub_pages = SUB_PAGES if options.show_attributes else SUB_PAGES[:-1]

    def found(self, session: Session) -> tuple[int, ...]:
        return self.catalogue.index.search(session.query, self.options.max_results)

    def shown(self, session: Session) -> tuple[int, ...]:
        """The products on the present page of results."""
        size = self.options.page_products
        return self.found(session)[(session.number - 1) * size : session.number * size]

    def clickables(self, session: Session) -> list[str]:
        """In the order in which they stand on the page."""
        page, buttons = session.page, [BACK, PREV]
        if page == RESULTS:
            buttons = [BACK, *([PREV] if session.number > 1 else []), NEXT]
            return buttons + [self.catalogue.product(p).asin.lower() for p in self.shown(session)]
        if page == ITEM:
            values = (value for _, group in self._product(session).options for value in group)
            return list(dict.fromkeys((*buttons, *values, *self.sub_pages, BUY)))
        return buttons if page == SUB else []

    def search(self, session: Session, query: str) -> None:
        """A search works on every page, whether it shows the bar or not."""
        session.page, session.query, session.number = RESULTS, query, 1
        session.chosen, session.text = {}, None

    def click(self, session: Session, name: str) -> bool:
        """Follows what the page shows under that name, if anything; True: it was the purchase."""
        page = session.page
        if page == ITEM and (group := self._product(session).group_of_value.get(name)) is not None:
            session.chosen[group] = name  # before the buttons: an option may be called like one
        elif page in (START, DONE):
            return False
        elif name == BACK:
            session.page, session.chosen = START, {}
        elif page == RESULTS:
            return self._click_result(session, name)
        elif name == PREV:
            session.page = RESULTS if page == ITEM else ITEM
            if page == ITEM:
                session.chosen = {}
        elif page == ITEM and name in self.sub_pages:
            session.page, session.sub = SUB, name
        elif page == ITEM and name == BUY:
            session.page, session.text = DONE, None
            return True
        else:
            return False
        session.text = None
        return False

    def _click_result(self, session: Session, name: str) -> bool:
        if name == NEXT or (name == PREV and session.number > 1):
            session.number += 1 if name == NEXT else -1
            session.chosen, session.text = {}, None
            return False
        for p in self.shown(session):
            if self.catalogue.product(p).asin.lower() == name:
                session.page, session.product, session.text = ITEM, p, None
        return False

    def text(self, session: Session) -> str:
        if session.text is None:
            write = self._compact if self.options.style == "compact" else self._write
            text, most = write(session), self.options.max_page_chars
            session.text = text if len(text) <= most else text[: most - len(CUT)] + CUT
        return session.text

    def _product(self, session: Session) -> Product:
        return self.catalogue.product(session.product)

    def _write(self, session: Session) -> str:
        gap = " [SEP] " if self.options.style == "peers" else "\n"
        return gap.join(self._texts(session))

    def _texts(self, session: Session) -> Iterator[str]:
        """What a browser would show, text by text, without the instruction."""
        page = session.page
        if page == START:
            yield from ("WebShop", "Search")
            return
        if page == DONE:
            yield from ("You bought", *self._line(session.product), *session.chosen.values())
            return
        yield SHOWN[BACK]
        if page == RESULTS:
            yield f"Page {session.number} (Total results: {len(self.found(session))})"
            if session.number > 1:
                yield SHOWN[PREV]
            yield SHOWN[NEXT]
            for p in self.shown(session):
                yield from self._line(p)
            return
        product = self._product(session)
        yield SHOWN[PREV]
        if page == SUB:
            yield from self._sub_page(session.sub, product)
            return
        for name, values in product.options:
            yield name
            yield from values
        yield from (product.title, f"Price: {product.price_text}", "Rating: N.A.")
        yield from (name.capitalize() for name in self.sub_pages)
        yield SHOWN[BUY]
        if session.chosen and self.options.style != "peers":  # the original does not say
            yield f"Chosen: {', '.join(session.chosen.values())}"

    def _line(self, p: int) -> tuple[str, str, str]:
        product = self.catalogue.product(p)
        return product.asin, product.title, product.price_text

    def _sub_page(self, name: str, product: Product) -> Iterator[str]:
        if name == "description":
            yield product.description
        elif name == "features":
            yield from product.bullets
        elif name == "attributes":
            yield from (*product.attributes, product.department, product.query, product.category)

    def _compact(self, session: Session) -> str:
        page = session.page
        if page == START:
            return "shop"
        if page == RESULTS:
            return "".join(self._compact_line(p) for p in self.shown(session)) or "nothing"
        if page == SUB:
            return "\n".join(self._sub_page(session.sub, self._product(session))).lower() or "nothing"
        chosen = "".join(f"+{value}" for value in session.chosen.values())
        if page == DONE:
            return f"bought {self._product(session).asin}{chosen}".lower()
        options = (f"{name}: {', '.join(v)}" for name, v in self._product(session).options)
        return "\n".join((self._compact_line(session.product)[:-1], *options, *([chosen] if chosen else [])))

    def _compact_line(self, p: int) -> str:
        asin, title, price = self._line(p)
        return f"{asin} {title} {price}\n".lower()
