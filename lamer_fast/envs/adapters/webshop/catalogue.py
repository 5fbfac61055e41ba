"""Catalogue: the products of the official files as read-only arrays, which all boards and processes share.

It is built once per set of files (`cache/KEY`, KEY from their contents) and mapped into memory from then on:
what nobody opens is never read, what one process has read is there for the others.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.adapters.webshop import files as official
from lamer_fast.envs.adapters.webshop import invent, nouns
from lamer_fast.envs.adapters.webshop.json_stream import elements, members
from lamer_fast.envs.adapters.webshop.options import WebShopOptions
from lamer_fast.envs.adapters.webshop.products import Product, clean
from lamer_fast.envs.adapters.webshop.search import Index, IndexBuilder
from lamer_fast.files import writing
from lamer_fast.strict_json import json_text

FORMAT = 2  # of what is built; another number is another folder
AT_ONCE = 1000  # titles that are looked through for nouns together


class Catalogue:
    """A built folder, opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta: dict[str, Any] = json.loads((folder / "meta.json").read_text())
        self.prices: NDArray[np.float64] = np.load(folder / "prices.npy", mmap_mode="r")
        self._start = np.load(folder / "records_start.npy", mmap_mode="r")
        self._records = np.memmap(folder / "records.bin", np.uint8, "r")
        self.index = Index(folder, len(self))
        self.product = lru_cache(8192)(self._product)

    def __len__(self) -> int:
        return len(self.prices)

    def instructions(self, kind: str) -> list[list[Any]]:
        """Of "human" or "synthetic" goals: [product, instruction, attributes, options], in product order."""
        listed: list[list[Any]] = json.loads((self.folder / f"{kind}.json").read_text())
        return listed

    def _product(self, p: int) -> Product:
        record = json.loads(bytes(self._records[self._start[p] : self._start[p + 1]]))
        values: dict[str, Any] = dict(zip((field.name for field in fields(Product)), record, strict=True))
        values["options"] = tuple((name, tuple(group)) for name, group in values["options"])
        for name in ("bullets", "attributes", "nouns"):
            values[name] = tuple(values[name])
        return Product(**values)


def open_catalogue(options: WebShopOptions) -> Catalogue:
    """The catalogue of some options, built where it is not there yet.

    Raises:
        ValueError: a file is missing or broken.
    """
    cache = Path(options.cache).expanduser() if options.cache else _user_cache()
    source = Path(options.data).expanduser() if options.data else _invented(cache)
    found = official.find(source)
    words_of = nouns.choose(options.nouns)
    count = f"-{options.products}" if options.products else ""
    folder = cache / f"{official.digest(found, cache)}{count}-{words_of}-{FORMAT}"
    if not (folder / "meta.json").exists():
        with _lock(cache):
            if not (folder / "meta.json").exists():  # another process may have built it meanwhile
                _build(found, folder, options.products, words_of)
    stat = (folder / "meta.json").stat()
    return _opened(folder, stat.st_ino, stat.st_mtime_ns)


@lru_cache(4)
def _opened(folder: Path, *_: int) -> Catalogue:
    return Catalogue(folder)


def _build(found: dict[str, Path], folder: Path, count: int | None, words_of: str) -> None:
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    listed = dict(members(found["attributes"]))
    human = dict(members(found["instructions"]))
    index, start, dropped = IndexBuilder(), [0], 0
    prices: list[tuple[float, float]] = []
    goals: dict[str, list[Any]] = {"human": [], "synthetic": []}
    seen: set[str] = set()
    nouns_of = nouns.reader(words_of)
    raws = islice(elements(found["products"]), count)
    with (part / "records.bin").open("wb") as records:
        while batch := list(islice(raws, AT_ONCE)):
            kept = []
            for raw in batch:
                read = clean(raw, _listed(listed, raw))
                if read and read[0].asin not in seen:
                    seen.add(read[0].asin)
                    kept.append(read)
            dropped += len(batch) - len(kept)
            words = nouns_of([product.title for product, _ in kept])
            for (product, price), of_title in zip(kept, words, strict=True):
                index.add(product.contents)
                record = json_text([*_fields(product), of_title], ensure_ascii=False, separators=(",", ":"))
                records.write(record.encode())
                start.append(records.tell())
                goals["human"] += _human(len(prices), human.get(product.asin))
                goals["synthetic"] += _synthetic(len(prices), listed.get(product.asin))
                prices.append(price)
    if not prices:
        raise ValueError(f"{found['products']} holds no product with an asin and a name")
    np.save(part / "records_start.npy", np.array(start, np.int64))
    np.save(part / "prices.npy", np.array(prices, np.float64))
    index.save(part)
    for kind, chosen in goals.items():
        (part / f"{kind}.json").write_text(json_text(chosen))
    counts = {kind: len(chosen) for kind, chosen in goals.items()}
    meta = {"products": len(prices), "dropped": dropped, "words": len(index.ids), "nouns": words_of, **counts}
    (part / "meta.json").write_text(json_text(meta))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)


def _fields(product: Product) -> list[Any]:
    return [getattr(product, field.name) for field in fields(product) if field.name != "nouns"]


def _listed(listed: dict[str, Any], raw: Any) -> Any:
    """The attributes of a raw product."""
    asin = raw.get("asin") if isinstance(raw, dict) else None
    entry = listed.get(asin) if isinstance(asin, str) else None
    return entry.get("attributes") if isinstance(entry, dict) else None


def _human(p: int, written: Any) -> Iterator[list[Any]]:
    for one in written if isinstance(written, list) else ():
        options = one.get("instruction_options") or []
        values = list(options.values()) if isinstance(options, dict) else options
        if isinstance(one.get("instruction"), str) and one.get("instruction_attributes"):
            yield [p, one["instruction"].strip("."), one["instruction_attributes"], [str(v) for v in values]]


def _synthetic(p: int, listed: Any) -> Iterator[list[Any]]:
    if isinstance(listed, dict) and listed.get("instruction") and listed.get("instruction_attributes"):
        yield [p, str(listed["instruction"]), listed["instruction_attributes"], []]


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lamer-fast" / "webshop"


def _invented(cache: Path) -> Path:
    """The catalogue that comes with the package, written as files like the official ones."""
    folder = cache / f"invented-{invent.VERSION}"
    if not folder.exists():
        with _lock(cache):
            if not folder.exists():
                invent.write(folder)
    return folder


@contextmanager
def _lock(cache: Path) -> Iterator[None]:
    """One process builds at a time, the others wait."""
    with writing(cache):
        cache.mkdir(parents=True, exist_ok=True)
        file = (cache / "lock").open("w")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
