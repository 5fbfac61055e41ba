"""Every fault of an environment, through the training loop: trials are lost and said so, or the run ends."""

import gzip
import json
import re
from dataclasses import replace

import pytest

from lamer_fast.config import resolve as recipe
from lamer_fast.envs.contract import EnvError
from lamer_fast.run.display import Display
from lamer_fast.run.folder import RunFolder
from lamer_fast.run.loop import train
from lamer_fast.run.state import build_state
from lamer_fast.run.stop import StopRequest
from tests.integration.tiny_run import recipe_file
from tests.misbehaving import CASES, FINE, LOST, Misbehaving, raises

pytestmark = pytest.mark.long
# the prompt is asked for once, before; a random model never changes a board, so that none looks stepped
ELSEWHERE = ("prompt None", "prompt raises", "prompt exits", "step raises when all is done")


@pytest.fixture(scope="module")
def state(tmp_path_factory, tiny_folder):
    sizes = {"rollout__trials_per_group": 4, "rollout__episodes": 2, "train__iterations": 1}
    file = recipe_file(tmp_path_factory.mktemp("recipe"), tiny_folder, **sizes, train__trials_logged=2)
    return build_state(recipe.resolve(str(file)))


def run(state, runs, env, **settings):
    """(folder, message of the EnvError or "") of a run of eight boards."""
    train_config = replace(state.config.train, **settings)
    state = replace(state, env=env, iteration=0, best={}, config=replace(state.config, train=train_config))
    message = ""
    with (
        RunFolder(state.config, runs) as folder,
        StopRequest() as stop,
        Display("run", 1, live=False) as display,
    ):
        folder.start(0)
        try:
            train(state, folder, display, stop)
        except EnvError as error:
            message = str(error)
    return folder, message


def without_numbers(message):
    """A sampler answers for some boards at a time: how many are in a call is its affair."""
    return re.sub(r"\d+|,(?=\))", "", message)


@pytest.mark.parametrize("name", [name for name in CASES if name not in ELSEWHERE])
def test_through_a_run(name, state, tmp_path, caplog):
    options, outcome = CASES[name]
    folder, message = run(state, tmp_path, Misbehaving(8, **options))
    with gzip.open(folder.path / "trials" / "000000.jsonl.gz", "rt") as file:
        errors = [trial["error"] for trial in map(json.loads, file) if "error" in trial]
    if outcome in (LOST, FINE):
        (record,) = [json.loads(line) for line in folder.metrics.open()]
        assert record["counters"]["failed_trials"] == len(errors) == (outcome == LOST) and not message
        assert ("iteration 0: 1 of 8 trials failed, the first is trial" in caplog.text) == (outcome == LOST)
    else:
        assert message.startswith("iteration 0: ") and without_numbers(outcome) in without_numbers(message)
        assert len(errors) == (8 if "8 of 8 trials failed" in message else 0)
        assert not folder.metrics.read_text(), "no update was made of what the environment broke"


def test_what_was_learnt_before_is_saved(state, tmp_path):
    env = Misbehaving(8, "reset", raises, since=2)
    folder, message = run(state, tmp_path, env, iterations=5, save_every=100)
    assert message.startswith("iteration 2: 8 of 8 trials failed")
    assert [path.name for path in folder.checkpoints.iterdir()] == ["000002"]
    assert sum(1 for _ in folder.metrics.open()) == 2
