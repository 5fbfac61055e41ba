"""What the trainer knows of WebShop beside its boards; the catalogue is read when boards are made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.adapters.webshop.options import WebShopOptions
from lamer_fast.envs.entry import SPLITS, Entry
from lamer_fast.envs.expert import Expert

if TYPE_CHECKING:
    from lamer_fast.envs.adapters.webshop.catalogue import Catalogue
    from lamer_fast.envs.adapters.webshop.env import WebShopEnv
    from lamer_fast.envs.adapters.webshop.goals import Goals


PACKAGES = {"numba": "numba", "rapidfuzz": "rapidfuzz", "Stemmer": "PyStemmer"}


class WebShop(Entry):
    """Buy what an instruction asks for, in a shop of the official products or of invented ones."""

    name = "webshop"
    options = WebShopOptions
    success = "a purchase whose score is exactly 1"
    turns = "no limit of its own; the paper's episodes have 12"

    def make(self, options: Any, num_envs: int, split: str | None = None) -> WebShopEnv:
        from lamer_fast.envs.adapters.webshop.env import WebShopEnv

        return WebShopEnv(_catalogue(options), options, num_envs, split)

    def num_tasks(self, options: Any, split: str | None) -> int | None:
        return len(_goals(options).of(split))

    def seeds(self, options: Any, split: str | None, count: int | None) -> NDArray[np.uint64]:
        number = len(_goals(options).of(split))
        return np.arange(number if count is None else min(count, number), dtype=np.uint64)

    def summary(self, options: Any) -> str:
        files = Path(options.data).name if options.data else "invented products"
        return f"webshop, {options.goals} goals, {files}"

    def words(self, options: Any) -> list[str]:
        from lamer_fast.envs.adapters.webshop.words import words

        return words(_catalogue(options), options)

    def expert(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator
    ) -> Expert:
        from lamer_fast.envs.adapters.webshop.expert import Shopper

        return Shopper(env, noise, memory, num_trials, rng)

    def data(self, options: Any, path: Path | None) -> Iterator[str]:
        from lamer_fast.envs.adapters.webshop.goals import Goals
        from lamer_fast.envs.panel import panel

        options = replace(options, data=str(path)) if path else options
        catalogue = _catalogue(options)
        meta = catalogue.meta
        files, digest = options.data or "of the invented catalogue", catalogue.folder.name.partition("-")[0]
        yield f"files {files}, digest {digest}"
        yield f"{meta['products']:,} products ({meta['dropped']:,} dropped: no asin or name, or there before)"
        yield f"{meta['words']:,} words in the index, nouns of titles by {meta['nouns']}"
        yield f"instructions: {meta['human']:,} human, {meta['synthetic']:,} synthetic"
        yield f"built in {catalogue.folder}"
        goals = Goals(catalogue, options)
        for split in SPLITS:
            try:
                number = len(goals.of(split))
            except ValueError as error:
                yield f"split {split}: {error}"
                continue
            yield f"split {split}: {number:,} goals, panel {panel(options, split, None).digest}"
        if options.panels == "published":
            yield "published panels: valid and test are the same goals"


def _catalogue(options: WebShopOptions) -> Catalogue:
    """Raises ValueError: a package is missing, before any work; or what `open_catalogue` raises."""
    missing = [package for module, package in PACKAGES.items() if not _is_installed(module)]
    if missing:
        raise ValueError(f"webshop needs {', '.join(missing)}: pip install 'lamer-fast[webshop]'")
    from lamer_fast.envs.adapters.webshop.catalogue import open_catalogue

    return open_catalogue(options)


def _is_installed(module: str) -> bool:
    try:
        import_module(module)
    except ImportError:
        return False
    return True


def _goals(options: WebShopOptions) -> Goals:
    from lamer_fast.envs.adapters.webshop.goals import Goals

    return Goals(_catalogue(options), options)


ENTRY = WebShop()
