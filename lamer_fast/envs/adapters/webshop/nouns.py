"""The nouns of titles, for the score. They are found once, when a catalogue is built.

The original asks spaCy. Where it is not installed, a small lexicon of what is no noun stands in: titles of
products are strings of nouns, and spaCy calls nearly all the rest proper nouns. How far the two agree:
docs/environments.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec

MODELS = ("en_core_web_lg", "en_core_web_sm")  # the original installs the first
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_NO_NOUNS = """
a an the this that these those and or nor but with without for from of in on at by to into onto over
under up down off out as per via than then so if not no it its it's you your our my we is are be was were
has have can will may all any both each every more most other some such only very too also just ultra
super extra mini new large small big long short high low wide narrow thick thin soft hard light heavy
dark bright clear deep strong fresh natural organic pure free safe easy quick fast slow full empty single
double triple classic modern casual elegant cute cool warm hot cold dry wet portable wireless electric
electronic digital automatic manual adjustable foldable waterproof washable reusable disposable removable
replaceable rechargeable compatible replacement stainless durable comfortable breathable lightweight non
anti black white red green blue brown gray grey pink purple yellow assorted various personal professional
universal vintage slim fit wearable sleeveless sturdy cozy
"""
NO_NOUNS = frozenset(_NO_NOUNS.split())


def choose(source: str) -> str:
    """What `env.nouns` comes to here: "lexicon", or the name of a model of spaCy.

    Raises:
        ValueError: spaCy was asked for, and it or a model of it is not installed.
    """
    if source != "lexicon":
        for model in MODELS:
            if find_spec("spacy") and find_spec(model):  # without importing them: every start asks
                return model
    if source == "spacy":
        raise ValueError(
            f"env.nouns = 'spacy' needs spaCy and one of its models {', '.join(MODELS)}: pip install spacy, "
            f"python -m spacy download {MODELS[0]}; or --env.nouns lexicon"
        )
    return "lexicon"


def reader(source: str) -> Callable[[Sequence[str]], list[tuple[str, ...]]]:
    """From titles to the nouns of each, in order, in lower case; `source` is an answer of `choose`.

    Raises:
        ValueError: spaCy or its model is installed and cannot be used.
    """
    if source == "lexicon":
        return lambda titles: [tuple(_words(title)) for title in titles]
    try:
        import spacy

        parse = spacy.load(source, disable=["ner", "lemmatizer"]).pipe
    except Exception as error:  # of another version than numpy, or than the model
        raise ValueError(
            f"env.nouns: spaCy's {source} is installed, but fails: {type(error).__name__}: {error}; "
            "--env.nouns lexicon does without"
        ) from None

    def read(titles: Sequence[str]) -> list[tuple[str, ...]]:
        nouns = ("NOUN", "PROPN")
        return [tuple(w.text.lower() for w in title if w.pos_ in nouns) for title in parse(titles)]

    return read


def _words(title: str) -> list[str]:
    words = (match[0].lower() for match in WORD.finditer(title))
    return [word for word in words if word not in NO_NOUNS]
