"""A run folder as the report page meets it: trials that tell something, and hostile text."""

import gzip
import json

from lamer_fast.config import Config
from lamer_fast.fields import to_flat

GIB = 1 << 30


def notes_trial(trial, advantages):
    """Fails at (1, 2), notes it, and goes elsewhere."""
    play = {"phase": "play", "episode": 0, "turn": 0, "board": "Row 1: ? ?\nRow 2: ? 1", "valid": True}
    play |= {"reply": "<action>(1, 2)</action>", "reward": -0.1, "done": True, "success": False}
    note = play | {"phase": "reflect", "episode": 1, "reply": "mine (1, 2)", "reward": 0.0, "done": False}
    again = play | {"episode": 1, "reply": "<action>(2, 1)</action>", "reward": 10.0, "success": True}
    turns = [play, note, again]
    values = {
        "rollout_logprobs": [-0.693147, -0.1],
        "trainer_logprobs": [-0.693147, None],
        "entropy": [1.0, None],
    }
    texts = [["(1, 2)", "<|end|>"], ["mine", "<|end|>"], ["action", "<|end|>"]]
    turns = [
        turn
        | values
        | {"token_texts": t, "token_ids": [5, 6], "advantage": a, "return": a, "truncated": False}
        for turn, t, a in zip(turns, texts, advantages, strict=True)
    ]
    return {
        "group": 1,
        "trial": trial,
        "task": 2**63 + 1,
        "seed": 7,
        "turns": turns,
        "success_by_episode": [False, True],
    }


EVIL = [
    "</script><script>document.body.dataset.evil='1'</script>",
    "</SCRIPT ><svg onload=document.body.dataset.evil=1>",
    "<!--<script>",
    "]]></script>",
    "<img src=x onerror=document.body.dataset.evil=1>",
    "&lt;b&gt; &#0; __DATA__ ${alert(1)} \\u003c \\",
    "a\0b \x1b[31mred \u202edlrow\u2028\ud800 '\"`",
]


def write_starts(folder):
    part = {"name": "activations", "bytes": 15 * GIB, "when": "updating", "on_host": False}
    parts = [part | {"settings": ["learn.max_microbatch_tokens"]}]
    parts.append(
        {"name": "boards", "bytes": GIB, "when": "always", "on_host": True, "settings": ["rollout.groups"]}
    )
    card = {"available": 24 * GIB, "total": 20 * GIB, "host": GIB, "sampler": "torch", "parts": parts}
    start = {
        "time": "now",
        "version": "0.1.0",
        "commit": "abc",
        "device": "CPU, <b>big",
        "threads": 1,
        "cores": 2,
    }
    start |= {"versions": {"torch": "2"}, "card": card, "system": "x"}
    lines = [start | {"iteration": 0}, start | {"iteration": 2, "time": "later"}]
    (folder / "starts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_run(folder):
    (folder / "trials").mkdir(parents=True)
    (folder / "eval").mkdir()
    config = to_flat(Config(name="toy"))
    (folder / "config.json").write_text(json.dumps(config))
    record = {
        "success_at": [0.2, 0.4], "return": 1.0, "entropy": 0.5, "advantage_abs": 0.5, "loss": 0.1,
        "clipped": 0.0, "kl": 0.0, "grad_norm": 1.0, "lr": 1e-3,
        "mismatch": {"mean": 1e-7, "max": 1e-6, "k3": 0.0, "ess": 1.0},
        "tokens": {"prompt": 9, "sampled": 4, "trained": 4},
        "counters": {
            "turns": 9, "invalid": 1, "truncated": 0, "failed_trials": 0, "groups_dropped": 0, "updates": 2,
            "updates_empty": 0, "updates_skipped": 0,
        },
        "seconds": {
            "sample": 1.0, "env": 0.1, "learn": 1.0, "sync": 0.0, "least_sample": 0.1, "least_learn": 0.3,
        },
    }  # fmt: skip
    record |= {"eval": {
        "tasks": 9, "success_at": [0.1, 0.5], "success_low": [0.0, 0.25], "success_high": [0.3, 0.75],
        "independent": [0.1, 0.2], "independent_low": [0.0, 0.1], "independent_high": [0.2, 0.3],
    }}  # fmt: skip
    records = [{"iteration": i} | record for i in range(3)]
    records[2] = records[2] | {"mismatch": record["mismatch"] | {"max": 0.5}}
    records[1] = records[1] | {"counters": record["counters"] | {"updates_skipped": 3}}
    records[1] = records[1] | {"eval": record["eval"] | {"success_low": [0.0, 0.35]}}
    lines = [json.dumps(one) for one in records]
    write_starts(folder)
    telling, blamed = notes_trial(2, [2.0, 3.0, 4.0]), notes_trial(3, [-4.0, -1.0, 1.0])
    telling["turns"][2]["trainer_logprobs"] = [-0.443147, None]
    blamed["turns"][1] |= {
        "trainer_logprobs": [-2.1, None],
        "rollout_logprobs": [-2.0, -0.1],
        "entropy": [2.0, 0],
    }
    blamed["turns"][2]["reply"] = blamed["turns"][0]["reply"]
    with gzip.open(folder / "trials" / "000001.jsonl.gz", "wt") as f:
        f.writelines(json.dumps(trial) + "\n" for trial in (telling, blamed))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    turn = {
        "episode": 0,
        "turn": 0,
        "reward": -0.10000000149011612,
        "valid": True,
        "done": True,
        "success": False,
    }
    trial = {
        "group": 0, "trial": 1, "task": 5, "seed": 6, "success_by_episode": [False, True],
        "turns": [
            *(turn | {"phase": "play", "turn": i, "board": x, "reply": x} for i, x in enumerate(EVIL)),
            turn | {"phase": "reflect", "episode": 1, "board": "", "reply": "mine at (2, 3)"},
            turn | {"phase": "play", "episode": 1, "board": "? 1", "reply": "x", "success": True},
        ],
    }  # fmt: skip
    with gzip.open(folder / "trials" / "000002.jsonl.gz", "wt") as f:
        f.write(json.dumps(trial) + "\n")
    point = {"mean": 0.5, "low": 0.4, "high": 0.6}
    evaluation = {
        "split": "test", "num_tasks": 10, "episodes": 2, "trial": [point] * 2, "independent": [point] * 2,
        "gain_over_independent": point,
    }  # fmt: skip
    for label, iteration in (("after", 3), ("before", 0)):
        content = {"label": label, "iteration": iteration, "evaluation": evaluation}
        (folder / "eval" / f"{label}.json").write_text(json.dumps(content))
    return folder
