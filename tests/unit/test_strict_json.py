"""What is written for other programs is JSON by the standard, which has no NaN and no infinity."""

import json
import math

import numpy as np
import pytest

from lamer_fast.strict_json import finite, json_text


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float64("nan")])
@pytest.mark.parametrize(
    ("place", "wrap"),
    [
        ("the value", lambda x: x),
        ("rewards.win", lambda x: {"rewards": {"lose": 0.0, "win": x}}),
        ("curve[2].loss", lambda x: {"curve": [1, {"loss": 2.0}, {"loss": x}]}),
        ("[1][0]", lambda x: (0.5, (x,))),
    ],
)
def test_a_number_that_json_does_not_know_is_named_or_null(place, wrap, bad):
    with pytest.raises(ValueError) as error:
        json_text(wrap(bad))
    assert str(error.value) == f"{place} is {bad}, must be a finite number"
    assert json.loads(json_text(finite(wrap(bad)))) == json.loads(json.dumps(wrap(None)))


def test_everything_else_is_what_json_writes():
    value = {"b": [1, 2.5, "NaN", None, True], "a": (1e308, {})}
    assert json_text(value, indent=1, sort_keys=True) == json.dumps(value, indent=1, sort_keys=True)
    assert json_text(finite(value)) == json.dumps(value)
    loop = []
    loop.append(loop)
    with pytest.raises(ValueError, match="Circular"):
        json_text(loop)
