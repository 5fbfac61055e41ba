"""Where the official files are, and what they are told apart by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from lamer_fast.strict_json import json_text

NAMES = {"products": "items_shuffle", "attributes": "items_ins_v2", "instructions": "items_human_ins"}
# of github.com/princeton-nlp/WebShop, setup.sh: what `gdown` gets them by
DOWNLOADS = {
    "items_shuffle.json": "1A2whVgOO0euk5O13n2iYDM0bQRkkRduB",
    "items_ins_v2.json": "1s2j6NgHljiZzQNL3veZaAiyW_qDEgBNi",
    "items_shuffle_1000.json": "1EgHdxQ_YxqIQlvvq5iKlCrkEKR6-j0Ib",
    "items_ins_v2_1000.json": "1IduG0xl544V_A_jv3tHXC0kyFi7PnyBu",
    "items_human_ins.json": "14Kb5SPBk_jfdLZ_CDBNitW98QLDlKR5O",
}


def find(folder: Path) -> dict[str, Path]:
    """What of NAMES -> its file; of a full set and the one of 1,000 products beside it the full one.

    Raises:
        ValueError: a file is missing; says where it is to be had.
    """
    small = not (folder / "items_shuffle.json").exists() and (folder / "items_shuffle_1000.json").exists()
    found = {}
    for what, name in NAMES.items():
        file = folder / f"{name}{'_1000' if small and what != 'instructions' else ''}.json"
        if not file.is_file():
            raise ValueError(
                f"{file} is missing. WebShop's files are had by `./setup.sh -d small` or `-d all` of "
                f"github.com/princeton-nlp/WebShop, this one alone by: gdown {DOWNLOADS[file.name]} -O {file}"
            )
        found[what] = file
    return found


def digest(files: Mapping[str, Path], cache: Path) -> str:
    """Of their contents, 16 hexadecimal digits. Files that have not changed since are not read again."""
    seen = {str(file.resolve()): [file.stat().st_size, file.stat().st_mtime_ns] for file in files.values()}
    known = cache / f"{_hex(json_text(seen, sort_keys=True).encode())}.digest"
    if known.exists() and len(text := known.read_text()) == 16:
        return text
    parts = []
    for what in NAMES:
        with files[what].open("rb") as file:
            parts.append(hashlib.file_digest(file, "blake2b").hexdigest())
    found = _hex(" ".join(parts).encode())
    cache.mkdir(parents=True, exist_ok=True)
    known.write_text(found)
    return found


def _hex(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
