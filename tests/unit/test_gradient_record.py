"""The record of a gradient lab: strict JSON, also of a direction that nobody knows; tables say so too."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from lamer_fast.study.gradient.cells import UNKNOWN
from lamer_fast.study.gradient.command import load
from lamer_fast.study.gradient.measure import CLAIM, SUCCESS, WHOLE
from lamer_fast.study.gradient.moments import Moments
from lamer_fast.study.gradient.record import OfArm, Record, read
from lamer_fast.study.gradient.report import by_size, directions, dots


def direction_of_noise(length):
    """Of updates whose mean, of this length, is far below their noise if it is 0."""
    rng, g = np.random.default_rng(3), np.eye(40)[0]
    found = Moments({"g": g})
    for _ in range(20):
        found.add(length * g + rng.normal(0, 1, (10, 40)))
    return found.direction("g")


def test_a_mean_below_its_noise_has_no_direction_and_no_error():
    lost = direction_of_noise(0.0)
    assert all(math.isnan(value) for value in (lost.cosine, lost.cosine_error, lost.bias, lost.noise))
    assert math.isfinite(lost.scale) and math.isfinite(lost.one)
    found = direction_of_noise(3.0)
    assert found.cosine == pytest.approx(1, abs=0.05) and math.isfinite(found.cosine_error)


def record_of(lost, known):
    lab = load("gradient")
    cell = replace(lab.cells()[1], arms=lab.cells()[1].arms[:2])
    arms = {
        arm.name: OfArm({}, "discounted", {WHOLE: {CLAIM: known, SUCCESS: found}})
        for arm, found in zip(cell.arms, (lost, known), strict=True)
    }
    facts = {"commit": "0", "dirty": "False", "device": "cpu", "date": "today"}
    return lab, cell, Record({}, [0.1, 0.2], {"boards": 1}, arms, 0.0, facts)


def refuse(word):
    raise AssertionError(f"{word} is no JSON")


def test_what_is_not_known_is_null_in_the_file_and_reads_as_it_was(tmp_path):
    lost, known = direction_of_noise(0.0), direction_of_noise(3.0)
    _, cell, record = record_of(lost, known)
    record.write(path := tmp_path / "cell.json")
    values = json.loads(path.read_text(), parse_constant=refuse)
    first = values["arms"][cell.arms[0].name]["parts"][WHOLE][SUCCESS]
    assert [key for key, value in first.items() if value is None] == [
        "cosine",
        "cosine_error",
        "bias",
        "noise",
    ]
    again = read(path).arms[cell.arms[0].name].parts[WHOLE][SUCCESS]
    assert math.isnan(again.cosine) and again.scale == pytest.approx(lost.scale, abs=1e-5)


def test_the_table_leaves_it_empty_and_gives_the_reason():
    lost, known = direction_of_noise(0.0), direction_of_noise(3.0)
    lab, cell, record = record_of(lost, known)
    table = directions(cell, record)
    at = [table.columns.index(name) for name in ("cosine to success@K", "bias", "variance")]
    assert [table.rows[0][i] for i in at] == ["", "", ""] and all(table.rows[1][i] for i in at)
    assert UNKNOWN in table.title and "nan" not in table.markdown()
    assert UNKNOWN not in directions(cell, record_of(known, known)[2]).title
    assert UNKNOWN in by_size(lab, cell.world.name, {cell.name: record}).title
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="needs matplotlib")
    pyplot.close(dots(pyplot, cell, record))
