"""train.profile: a trace that Perfetto opens, with our own ranges, and a run that is the same beside it."""

import gzip
import json

import pytest

from tests.integration.tiny_run import recipe_file, train_main

NUM_ITERATIONS = 2


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("traces")
    recipe = recipe_file(folder, tiny_folder, train__iterations=NUM_ITERATIONS, learn__minibatches=2)
    assert train_main(recipe, folder, "--name", "plain") == 0
    assert train_main(recipe, folder, "--name", "traced", "--train.profile", "1") == 0
    return folder


@pytest.fixture(scope="module")
def ranges(runs):
    """(name, start, end) of our own, microseconds, in the order of their starts."""
    with gzip.open(runs / "traced" / "traces" / "000001.json.gz") as file:
        events = json.load(file)["traceEvents"]
    ours = [e for e in events if e.get("cat") == "user_annotation"]
    assert {(e["pid"], e["tid"]) for e in ours} == {(ours[0]["pid"], ours[0]["tid"])}
    assert any(e.get("cat") == "cpu_op" and e["name"] == "aten::mm" for e in events)
    return sorted((e["ts"], e["ts"] + e["dur"], e["name"]) for e in ours)


def parents(ranges, name):
    """Names of the narrowest of our ranges around each range of that name."""
    found = set()
    for start, end, own in ranges:
        if own == name:
            around = [r for r in ranges if r[0] <= start and end <= r[1] and r[2] != name]
            found.add(min(around, key=lambda r: r[1] - r[0], default=(0, 0, None))[2])
    return found


@pytest.mark.parametrize(
    ("name", "parent"),
    [
        ("iteration 1", None),
        ("sample", "iteration 1"),
        ("learn", "iteration 1"),
        ("sync", "iteration 1"),
        ("save", "iteration 1"),
        ("engine step", "sample"),
        ("turns", "sample"),
        ("micro-batch", "learn"),
        ("forward", "micro-batch"),
        ("backward", "micro-batch"),
        ("optimizer", "learn"),
    ],
)
def test_a_range_lies_in_its_parent(ranges, name, parent):
    assert parents(ranges, name) == {parent}


def test_ranges_nest(ranges):
    open_until: list[float] = []
    for start, end, name in ranges:
        while open_until and open_until[-1] <= start:
            open_until.pop()
        assert not open_until or end <= open_until[-1], name
        open_until.append(end)


def test_every_update_is_there(ranges):
    names = [name for _, _, name in ranges]
    assert names.count("optimizer") == 2
    assert names.count("micro-batch") == names.count("forward") == names.count("backward") >= 2
    assert not any(name.startswith("iteration") and name != "iteration 1" for name in names)


def test_a_trace_changes_nothing(runs):
    def records(name):
        lines = (runs / name / "metrics.jsonl").read_text().splitlines()
        return [{**json.loads(line), "seconds": None} for line in lines]

    assert records("plain") == records("traced")
    assert not (runs / "plain" / "traces").exists()
    assert [p.name for p in (runs / "traced" / "traces").iterdir()] == ["000001.json.gz"]


def test_the_file_is_named(tmp_path, tiny_folder, capsys):
    recipe = recipe_file(tmp_path, tiny_folder, train__iterations=1)
    assert train_main(recipe, tmp_path, "--name", "a", "--train.profile", "0") == 0
    path = tmp_path / "a" / "traces" / "000000.json.gz"
    assert path.is_file()
    assert f"trace of iteration 0: {path}, for https://ui.perfetto.dev" in capsys.readouterr().out
