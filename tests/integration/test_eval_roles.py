"""`eval --explorer --reflector --player`: each phase is played by its own policy, and by no other."""

import numpy as np
import pytest

from lamer_fast import cli
from lamer_fast.eval.record import read_record
from lamer_fast.samplers.protocol import Completion, Request
from lamer_fast.samplers.roles import RolesSampler


class Named:
    """Says in its first token who it is."""

    def __init__(self, token, limit=100):
        self.token, self.max_sequence_tokens = token, limit
        self.waiting, self.released, self.cancelled = [], [], []

    def submit(self, request):
        self.waiting.append(request)

    def poll(self):
        waiting, self.waiting = self.waiting, []
        return [Completion(r.id, np.array([self.token]), np.zeros(1), True, 0) for r in waiting]

    def release(self, trial):
        self.released.append(trial)

    def cancel(self, request_id):
        self.waiting = [request for request in self.waiting if request.id != request_id]
        self.cancelled.append(request_id)


def test_each_request_goes_to_the_one_whose_phase_it_is():
    explorer, reflector, player = Named(1), Named(2, 50), Named(3)
    sampler = RolesSampler(explorer, reflector, player, last_episode=2)
    assert sampler.max_sequence_tokens == 50
    ids = np.arange(4, dtype=np.int32)
    asked = {0: (0, False), 1: (1, True), 2: (1, False), 3: (2, True), 4: (2, False)}
    for id_, (episode, reflects) in asked.items():
        sampler.submit(Request(id_, id_, ids, 0, 5, (), reflects=reflects, episode=episode))
    sampler.cancel(0)
    assert explorer.cancelled == [0]
    found = {c.id: int(c.token_ids[0]) for c in sampler.poll()}
    assert found == {1: 2, 2: 1, 3: 2, 4: 3}
    sampler.release(7)
    assert explorer.released == reflector.released == player.released == [7]


@pytest.mark.long
def test_a_table_of_who_explores_and_who_plays(tmp_path, capsys):
    line = ["eval", "minesweeper-tiny", "--split", "valid", "--tasks", "64", "--train.num-threads", "1"]
    assert cli.main([*line, "--no-attempts", "--out", str(tmp_path / "whole")]) == 0
    whole = read_record(tmp_path / "whole" / "record.json").panels[""]
    roles = ["--explorer", "random,minesweeper-tiny", "--player", "random,minesweeper-tiny"]
    assert cli.main([*line, *roles, "--out", str(tmp_path / "roles")]) == 0
    assert "| random | minesweeper-tiny | random |" in capsys.readouterr().out
    found = read_record(tmp_path / "roles" / "record.json")
    named = {name or found.policy: played for name, played in found.panels.items()}
    by_trio = {tuple(name.split(" / ")): [e.mean for e in played.trial] for name, played in named.items()}
    own = "minesweeper-tiny"
    assert by_trio[own, own, own] == [e.mean for e in whole.trial]  # three times the same is that policy
    assert by_trio[own, own, "random"][:2] == by_trio[own, own, own][:2]  # the player has the last one alone
    assert by_trio["random", own, own][0] == by_trio["random", own, "random"][0] < by_trio[own, own, own][0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--reflector", "random"], "a random player writes no reflections"),
        (["--explorer", "a,a"], "expected different policies, separated by commas"),
        (["--explorer", "nowhere"], "nowhere"),
        (["--player", "random", "--label", "x"], "--label"),
        (["--player", "random", "--eval.memory", "history"], "no reflections are written here"),
    ],
)
def test_wrong_roles_are_told_in_a_line(flags, message, capsys):
    assert cli.main(["eval", "minesweeper-tiny", "--tasks", "8", *flags]) == 2
    assert message in capsys.readouterr().err
