"""Rollouts of other trainers: three formats, success@k by the definition, bad lines by their number."""

import gzip
import json
import math
import re
from itertools import combinations

import numpy as np
import pytest

from lamer_fast import cli
from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.cli.eval import OWN, plans_of, play_panels, record_of
from lamer_fast.cli.eval_output import Output
from lamer_fast.config import resolve as recipe
from lamer_fast.eval.dump import DumpOptions, read_dump
from lamer_fast.eval.intervals import share
from lamer_fast.eval.record import read_record
from lamer_fast.eval.score import score
from lamer_fast.files import read_jsonl
from tests.scripted import ScriptedSampler
from tests.tiny import tiny_tokenizer


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def scored(path, episodes=None, **options):
    return score(read_dump(DumpOptions(file=path, **options)), episodes)


def samples(n=6, tasks=20, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((tasks, n)) < rng.random((tasks, 1))


def test_samples_of_a_task_give_the_unbiased_estimator(tmp_path):
    won = samples()
    rows = [{"task": f"t{i}", "success": bool(x)} for i, row in enumerate(won) for x in row]
    np.random.default_rng(1).shuffle(rows)
    (found,) = scored(written(tmp_path / "d.jsonl", rows)).values()
    assert found.trial == [] and len(found.independent) == 6 and found.num_tasks == 20
    for k in (1, 3, 6):
        subsets = [won[:, list(s)].any(axis=1) for s in combinations(range(6), k)]
        assert found.independent[k - 1].mean == pytest.approx(np.mean(subsets))
    assert found.independent[0] == share(won.mean(axis=1), 6), "clusters: the unit is the task"


def test_tasks_with_more_samples_use_them_all_and_columns_end_with_the_fewest(tmp_path):
    rows = [{"task": "a", "success": i < 2} for i in range(5)] + [
        {"task": "b", "success": i < 1} for i in range(3)
    ]
    (found,) = scored(written(tmp_path / "d.jsonl", rows)).values()
    by_hand = [(2 / 5 + 1 / 3) / 2, (1 - math.comb(3, 2) / math.comb(5, 2) + 1 - 1 / 3) / 2]
    assert [e.mean for e in found.independent][:2] == pytest.approx(by_hand) and len(found.independent) == 3
    many = [{"task": t, "success": 1} for t in "ab" for _ in range(30)]
    path = written(tmp_path / "many.jsonl", many)
    assert len(scored(path)[OWN].independent) == 8 and len(scored(path, 20)[OWN].independent) == 20


def test_episodes_of_trials_give_success_within_a_trial(tmp_path):
    trials = {("a", 0): [0, 1], ("a", 1): [0, 0, 0], ("b", 0): [1], ("b", 1): [0, 0, 1]}
    rows = [
        {"task": task, "trial": trial, "episode": k, "success": x}
        for (task, trial), won in trials.items()
        for k, x in enumerate(won)
    ]
    np.random.default_rng(0).shuffle(rows)
    (found,) = scored(written(tmp_path / "d.jsonl", rows)).values()
    assert [e.mean for e in found.trial] == pytest.approx([1 / 4, 2 / 4, 3 / 4])
    assert [e.mean for e in found.independent] == pytest.approx([1 / 4, 1 / 2])
    assert dict(zip(found.by_task.tasks, found.by_task.trial, strict=True))["a"] == [0, 0.5, 0.5]
    by_list = [{"task": t, "trial": g, "success_by_episode": won} for (t, g), won in trials.items()]
    assert scored(written(tmp_path / "l.jsonl", by_list))[OWN].trial == found.trial


def test_turns_whose_numbers_json_does_not_know_leave_the_page_readable(tmp_path):
    """Python's writer leaves NaN in a file; a browser refuses the whole text over it."""
    turn = {"phase": "play", "episode": 0, "turn": 0, "board": "#", "reply": "up", "reward": 0.5}
    rows = [
        {"task": "a", "success_by_episode": [1], "turns": [turn | {"rollout_logprobs": [-0.5, -math.inf]}]},
        {"task": "b", "success_by_episode": [0], "turns": [turn | {"reward": math.nan}]},
    ]
    dump, out = written(tmp_path / "d.jsonl", rows), tmp_path / "out"
    assert cli.main(["eval", "--from-dump", str(dump), "--out", str(out)]) == 0
    with gzip.open(out / "trials.jsonl.gz", "rt") as file:
        (kept,) = [json.loads(line, parse_constant=pytest.fail) for line in file]
    assert kept["turns"][0]["rollout_logprobs"] == [-0.5, None], "a turn without a reward is not shown"


class Clicker(ScriptedSampler):
    def __init__(self, renderer):
        super().__init__(renderer, lambda trial, n: f"<action>({n % 5}, {n // 5 % 3})</action>")

    def submit(self, request):
        self.released.discard(request.trial)
        super().submit(request)


def test_the_trials_of_an_evaluation_score_as_it_did_and_pair_with_it(tmp_path, capsys):
    config = recipe.apply(
        recipe.load("minesweeper-tiny"), {"eval.episodes": 2, "eval.panels": "more: num_mines=3"}
    )
    renderer = ChatRenderer(tiny_tokenizer())
    plans = plans_of(config, "test", 8)
    output = Output(tmp_path / "e", None, {plan.name: plan.played.digest for plan in plans})
    record = record_of("clicker", config, play_panels(Clicker(renderer), renderer, plans, keep=output.keep))
    output.show(record)
    trials = tmp_path / "e" / "trials.jsonl.gz"
    found = scored(trials)
    for name, played in record.panels.items():
        assert found[name].trial == played.trial and found[name].panel == played.panel
    capsys.readouterr()
    against = ["--against", str(tmp_path / "e" / "record.json"), "--out", str(tmp_path / "d")]
    assert cli.main(["eval", "--from-dump", str(trials), *against]) == 0
    out = capsys.readouterr().out
    assert "minus clicker, paired by task" in out
    assert re.search(r"^more: trials +0\.0 \[", out, re.MULTILINE)
    assert read_record(tmp_path / "d" / "record.json").panels[OWN].by_task.trial == found[OWN].by_task.trial
    assert (
        len(read_jsonl(tmp_path / "d" / "trials.jsonl.gz")) == 16
        and (tmp_path / "d" / "report.html").is_file()
    )
    half = tmp_path / "half.jsonl"
    half.write_text("".join(json.dumps(trial) + "\n" for trial in read_jsonl(trials)[:5]))
    assert cli.main(["eval", "--from-dump", str(half), *against[:2]]) == 2
    assert "has 5 tasks now and 8 in the other record" in capsys.readouterr().err


def test_another_trainer_on_our_panel_pairs_with_our_evaluation(tmp_path):
    """Its lines have the ids and the digest that the environments tell."""
    from lamer_fast.envs.arena import ArenaEnv

    env = ArenaEnv("minesweeper", split="test", panel=5)
    rows = []
    for seed in range(5):
        env.reset(seed=seed)
        info = env.close()[1][0]
        rows.append({"task": info["task"], "panel_digest": info["panel"], "success": False})
    found = scored(written(tmp_path / "d.jsonl", rows))[OWN]
    assert found.panel == env.panel.digest
    assert found.by_task.tasks == [f"{task:016x}" for task in env.panel.tasks.tolist()]


def verl(won, **more):
    return [
        {"input": f"user\nboard {i}\nassistant\n", "output": "ü", "gts": str(i), "score": float(x), "step": 5}
        | more
        for i, row in enumerate(won)
        for x in row
    ]


def test_verls_rollouts(tmp_path):
    won = samples(4)
    own = [{"task": i, "success": bool(x)} for i, row in enumerate(won) for x in row]
    expected = [e.mean for e in scored(written(tmp_path / "o.jsonl", own))[OWN].independent]
    for rows in (verl(won), verl(won, acc=None), verl(2 * won - 1.0), verl(10 * won)):
        for row in rows:
            if "acc" in row:
                row["acc"], row["score"] = row["score"], 0.3
        found = scored(written(tmp_path / "v.jsonl", rows))[OWN]
        assert [e.mean for e in found.independent] == pytest.approx(expected)
    same_prompt = [row | {"input": "same"} for row in verl(won)]
    assert scored(written(tmp_path / "v.jsonl", same_prompt))[OWN].num_tasks == 20, (
        "the answer tells them apart"
    )
    shaped = written(tmp_path / "v.jsonl", verl(won * 1.5 - 0.25))
    with pytest.raises(ValueError, match=r"score is from -0.25 to 1.25: .*--dump.success-reward"):
        scored(shaped)
    found = scored(shaped, success_reward=1.0)[OWN]
    assert [e.mean for e in found.independent] == pytest.approx(expected)
    two_steps = written(tmp_path / "v.jsonl", verl(won) + [row | {"step": 10} for row in verl(~won)])
    with pytest.raises(ValueError, match=r"steps \[5, 10\].*--dump.step"):
        scored(two_steps)
    assert [e.mean for e in scored(two_steps, step=5)[OWN].independent] == pytest.approx(expected)
    with pytest.raises(ValueError, match="no rollouts of step 7"):
        scored(two_steps, step=7)


def trl(won):
    rows = []
    for i, row in enumerate(won):
        prompt = [{"role": "user", "content": f"board {i}"}]
        rows += [{"step": 3, "prompt": prompt, "completion": "x", "solved": float(x)} for x in row]
    return [row | {"advantage": row["solved"] / 3} for row in rows]


def test_trls_completions(tmp_path):
    won = samples(4)
    found = scored(written(tmp_path / "t.jsonl", trl(won)))[OWN]
    assert found.independent[0].mean == pytest.approx(won.mean()) and found.num_tasks == 20
    two = written(tmp_path / "t.jsonl", [row | {"length": 7.0} for row in trl(won)])
    with pytest.raises(ValueError, match=r"which of \['length', 'solved'\] is it\? --dump.reward"):
        scored(two)
    assert scored(two, reward="solved")[OWN].independent == found.independent


def test_trls_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="needs the package pyarrow")
    from pyarrow.parquet import write_table

    won = samples(4)
    path = tmp_path / "completions_00003.parquet"
    write_table(pyarrow.Table.from_pylist(trl(won)), path)
    assert scored(path)[OWN].independent[0].mean == pytest.approx(won.mean())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="is damaged"):
        scored(path)


@pytest.mark.parametrize(
    "bad, told", [(b"[1, 2]\n", "expected an object, found"), (b"\xff\x00{\n", "no JSON")]
)
def test_a_file_of_bad_lines_alone_names_them_too(bad, told, tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_bytes(bad)
    with pytest.raises(ValueError, match=f": 1 bad line. line 1: {told}"):
        scored(path)


def test_bad_lines_are_named_by_their_numbers(tmp_path):
    path = tmp_path / "d.jsonl"
    good = '{"task": 1, "success": true}\n{"task": 2, "success": false}\n'
    bad = b'{"task": 3\n\n[1]\n\xff\xfe\n{"task": -1, "success": true}\n{"task": 4}\n'
    bad += b'{"task": 5, "success": 0.5}\n{"success": true}\n'
    path.write_bytes(good.encode() + bad)
    with pytest.raises(ValueError) as refusal:
        scored(path)
    text = str(refusal.value)
    assert "7 bad lines" in text and "and 2 more" in text
    for part in (
        "line 3: no JSON",
        "line 5: expected an object, found [1]",
        "line 6: no JSON",
        "line 7: task = -1, must be a text or a number",
        "line 8: success = None, must be true",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no rollouts"),
        ([{"task": 1, "success": 1}], "are of 1 task, an interval needs two"),
        ([{"a": "x"}], "neither success nor reward: its fields are"),
        ([{"a": 1, "b": 2}], r"which of \['a', 'b'\] is it\? --dump.reward"),
        ([{"task": t, "reward": math.nan} for t in (1, 2)], "line 1: reward = nan, must be a finite"),
        (
            [{"task": t, "reward": t / 7} for t in (1, 2)],
            "reward is from 0.142857 to 0.285714: say from where",
        ),
        (
            [{"task": 1, "reward": 1.0}, {"task": 2, "reward": None}],
            "line 2: reward = None, must be a finite number",
        ),
        ([{"task": t, "episode": 1, "success": 1} for t in (1, 2)], "line 1: .* has no episode 0"),
        ([{"task": 1, "trial": 0, "success": 1}] * 2, "line 2: .* is that of line 1 too"),
        (
            [{"task": t, "success": 1, "panel_digest": f"{t}"} for t in (1, 2)],
            "panel_digest is 1 on some lines and 2",
        ),
        ([{"task": t, "success": 1, "episode": -1} for t in (1, 2)], "line 1: episode = -1"),
        ([{"task": t, "success_by_episode": []} for t in (1, 2)], "line 1: success_by_episode"),
        ([{"task": t, "success_by_episode": [2]} for t in (1, 2)], "line 1: success_by_episode = 2"),
        ([{"task": t, "success": 1, "panel": 3} for t in (1, 2)], "line 1: panel = 3, must be a text"),
    ],
)
def test_what_cannot_be_scored_is_told(rows, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        scored(written(tmp_path / "d.jsonl", rows))


def test_files_that_are_none(tmp_path, capsys):
    damaged = tmp_path / "d.jsonl.gz"
    damaged.write_bytes(gzip.compress(b'{"task": 1, "success": 1}\n' * 1000)[:40])
    for path, message in (
        (tmp_path / "x", "no such file"),
        (tmp_path, "is a folder"),
        (damaged, "is damaged"),
    ):
        assert cli.main(["eval", "--from-dump", str(path)]) == 2
        assert message in capsys.readouterr().err
    path = written(tmp_path / "ok.jsonl", [{"task": t, "success": 1} for t in (1, 2)])
    for flags in (
        ["minesweeper-tiny"],
        ["--env.name", "sokoban"],
        ["--tasks", "4"],
        ["--endpoint", "http://x/v1"],
    ):
        assert cli.main(["eval", "--from-dump", str(path), *flags]) == 2
        assert "has no effect with --from-dump" in capsys.readouterr().err
