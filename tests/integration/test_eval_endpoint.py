"""`lamer-fast eval --endpoint` against a server on the loopback, by the openai client."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lamer_fast import cli
from lamer_fast.eval.record import OWN, read_record
from lamer_fast.files import read_jsonl
from tests.endpoint_server import answer, error, serving

pytest.importorskip("openai", reason="needs the package openai")

from lamer_fast.samplers.endpoint import sampler as endpoint
from lamer_fast.samplers.endpoint.ask import Again, Hopeless, OpenAIAsk, Question, Refused, TooLong
from lamer_fast.samplers.endpoint.options import EndpointOptions
from lamer_fast.samplers.endpoint.usage import Usage
from lamer_fast.samplers.protocol import Sampling

ROOT = Path(__file__).parents[2]
TURN = answer("I think.\n<action>(1, 1)</action> ☃")
NOTE = answer("<remark>mine at (1, 1)</remark>")
SMALL = ["--env.name", "minesweeper", "--tasks", "4", "--eval.episodes", "2", "--rollout.max-turns", "2"]
USAGE = Usage(1, 100, 60, 10)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(endpoint, "FIRST_WAIT_S", 0.001)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def player(body, n):
    time.sleep(0.005)
    return NOTE if "look back" in body["messages"][-1]["content"] else TURN


def run(url, *more):
    return cli.main(["eval", "--endpoint", url, *SMALL, *more])


def ask_of(url, **options):
    return OpenAIAsk(EndpointOptions(**{"url": url, "model": "stub", "timeout_s": 10.0} | options))


def question(text="hi", **sampling):
    return Question([{"role": "user", "content": text}], 32, 2**40 + 7, Sampling(**sampling))


def test_a_model_plays_trials_and_attempts_and_all_of_it_is_kept(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SECRET", "sk-stub-123")
    out = tmp_path / "e"
    with serving(player) as (server, url):
        more = ["--endpoint.key-env", "SECRET", "--endpoint.concurrency", "3", "--endpoint.price-prompt", "2"]
        more += ["--endpoint.price-completion", "8", "--eval.panels", "more: num_mines=6", "--out", str(out)]
        assert run(url, *more) == 0
    text = capsys.readouterr().out
    record = read_record(out / "record.json")
    written = json.loads((out / "record.json").read_text())
    assert written["policy"] == "stub" and written["endpoint"]["url"] == url
    assert "sk-stub-123" not in (out / "record.json").read_text() + text
    assert "model.path" not in written["settings"] and written["settings"]["eval.episodes"] == 2
    assert list(record.panels) == [OWN, "more"]
    for name, found in record.panels.items():
        assert len(found.trial) == len(found.independent) == 2 and found.lost == 0
        assert f"panel {found.panel}" in text
        used = found.usage
        assert used["trial"]["prompt"] == 100 * used["trial"]["requests"] > 0
        label = f"stub, {name}" if name else "stub"
        assert f"{label}: trials: " in text and "; price " in text
    assert len(server.bodies) == sum(
        kind["requests"] for found in record.panels.values() for kind in found.usage.values()
    )
    assert 1 < server.most <= 3
    assert all(h["authorization"] == "Bearer sk-stub-123" for h in server.headers)
    trials = read_jsonl(out / "trials.jsonl.gz")
    assert len(trials) == 8 and "☃" in trials[0]["turns"][0]["reply"]
    assert any(turn["phase"] == "reflect" for trial in trials for turn in trial["turns"])
    assert "stub" in (out / "report.html").read_text()
    with serving(player) as (_, url):
        assert run(url, "--against", str(out / "record.json")) == 0
        assert "stub minus stub, paired by task" in capsys.readouterr().out
        assert run(url, "--tasks", "5", "--against", str(out / "record.json")) == 2
        assert record.panels[OWN].panel in capsys.readouterr().err


def test_conversations_grow_by_turns_and_say_what_is_drawn():
    with serving(player) as (server, url):
        sampling = ["--eval.temperature", "0.6", "--eval.top-p", "0.9", "--eval.top-k", "20"]
        extra = ["--endpoint.extra", '{"reasoning_effort": "low"}', "--seed", "5"]
        assert run(url, *sampling, *extra, "--no-attempts") == 0
    longest = max((body["messages"] for body in server.bodies), key=len)
    assert [m["role"] for m in longest] == ["user", "assistant"] * (len(longest) // 2) + ["user"]
    assert longest[1]["content"] == TURN["choices"][0]["message"]["content"]
    for body in server.bodies:
        assert (body["temperature"], body["top_p"], body["top_k"]) == (0.6, 0.9, 20)
        assert body["reasoning_effort"] == "low" and body["max_tokens"] == 1024 and not body.get("stream")
        assert "min_tokens" not in body and "n" not in body


TROUBLE = {
    "busy": error(429, "slow down", {"Retry-After": "0"}),
    "error 500": error(500, "oops"),
    "error 503 in html": (503, "<html>down</html>", {"Content-Type": "text/html"}),
    "no JSON": (200, '{"choices": [', {}),
    "blanks": (200, "  \n  \n", {}),
    "a text": (200, "unsupported model", {"Content-Type": "text/plain"}),
    "a stream": (200, "data: {}\n\ndata: [DONE]\n\n", {"Content-Type": "text/event-stream"}),
    "no choices": answer("") | {"choices": []},
    "choices null": answer("") | {"choices": None},
    "an error with status 200": {"error": {"message": "upstream failed", "code": 502}},
    "a hang": 1.0,
}


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
def test_trouble_is_asked_again(trouble):
    """Once at the start of an evaluation, as any later time."""
    with serving(lambda body, n: trouble if n == 0 else answer("ok")) as (server, url):
        ask = ask_of(url, timeout_s=0.3 if trouble == 1.0 else 10.0)
        with pytest.raises(Again) as failure:
            ask(question())
        assert "\n" not in str(failure.value)
        assert ask(question()).text == "ok" and len(server.bodies) == 2
    assert TROUBLE["busy"] is not trouble or failure.value.wait_s == 0.0


ANSWERS = {
    "usual": (TURN, "I think.\n<action>(1, 1)</action> ☃", True, USAGE),
    "cut": (answer("<action>(1", "length"), "<action>(1", False, Usage(1, 100, 60, 10, cut=1)),
    "cut while it thinks": (
        answer("<think><action>(1, 1)</action>", "length"), "<think><action>(1, 1)</action></think>", False,
        Usage(1, 100, 60, 10, cut=1),
    ),
    "all tokens thought": (
        answer(None, "length", message={"reasoning_content": "lots"}), "", False,
        Usage(1, 100, 60, 10, cut=1, empty=1),
    ),
    "nothing": (answer(None), "", True, Usage(1, 100, 60, 10, empty=1)),
    "refusal": (answer(None, message={"refusal": "no"}), "", True, Usage(1, 100, 60, 10, empty=1)),
    "parts": (answer([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab", True, USAGE),
    "two choices": (
        answer("a") | {"choices": [*answer("a")["choices"], *answer("b")["choices"]]}, "a", True, USAGE,
    ),
    "no usage": (answer("a", usage=None), "a", True, Usage(requests=1, uncounted=1)),
    "unknown finish": (answer("a", "eos"), "a", True, USAGE),
    "half a surrogate": ((200, json.dumps(answer("a\ud83d")), {}), "a\ud83d", True, USAGE),
    "long": (answer("ü" * 1_000_000), "ü" * 1_000_000, True, USAGE),
}  # fmt: skip


@pytest.mark.parametrize("case", ANSWERS.values(), ids=ANSWERS)
def test_what_counts_as_a_reply(case):
    reply, text, ended, usage = case
    with serving(lambda body, n: reply) as (server, url):
        found = ask_of(url)(question("ü☃"))
    assert (found.text, found.ended, found.usage) == (text, ended, usage)
    assert server.bodies[0]["messages"] == [{"role": "user", "content": "ü☃"}]


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (error(401, "bad key"), Hopeless, "OPENAI_API_KEY holds no key"),
        (error(402, "no credit"), Hopeless, "no credit"),
        (error(404, "no such model"), Hopeless, "'stub' its model"),
        (error(429, "no quota", code="insufficient_quota"), Hopeless, "insufficient_quota"),
        (error(400, "maximum context length is 8192 tokens"), TooLong, "8192"),
        (error(400, "too large", code="context_length_exceeded"), TooLong, "context_length_exceeded"),
        (error(413, "Request too large: too many tokens"), TooLong, "413"),
        (error(400, "content_filter"), Refused, "content_filter"),
        (error(422, "odd field"), Refused, "odd field"),
    ],
)
def test_other_failures_are_not_asked_again(reply, kind, message):
    with serving(lambda body, n: reply) as (_, url), pytest.raises(kind, match=message):
        ask_of(url)(question())
    with pytest.raises(Again, match="Connection"):
        ask_of(url)(question())


def test_a_request_takes_the_form_that_the_server_understands():
    def picky(body, n):
        if "max_tokens" in body:
            return error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        if "temperature" in body:
            return error(400, "Unsupported value: 'temperature'. Only the default (1) value is supported.")
        if "seed" in body:
            return error(422, "extra fields not permitted: seed")
        return answer("ok")

    with serving(picky) as (server, url):
        ask = ask_of(url)
        assert ask(question()).text == "ok" and len(server.bodies) == 4
        assert ask(question()).text == "ok" and len(server.bodies) == 5, "it is known from then on"
        assert server.bodies[-1]["max_completion_tokens"] == 32
        with pytest.raises(Refused, match="max_tokens"):
            ask_of(url, limit="max_tokens")(question())
        with pytest.raises(Refused, match="temperature"):
            ask_of(url)(question(temperature=0.5))


def test_the_only_model_needs_no_name(capsys):
    with serving(player, models=("llama",)) as (server, url):
        assert run(url) == 0 and server.bodies[0]["model"] == "llama"
    for models, message in (((), "does not list any"), (("a", "b"), "it has a, b")):
        with serving(player, models=models) as (server, url):
            assert run(url) == 2 and message in capsys.readouterr().err and server.bodies == []


def test_vllm_is_told_what_is_off_since_it_would_take_it_from_the_model():
    with serving(lambda body, n: answer("ok"), owner="vllm") as (server, url):
        ask_of(url)(question())
        ask_of(url, extra='{"repetition_penalty": 1.1}')(question(top_k=20))
    first, second = server.bodies
    assert (first["top_k"], first["min_p"], first["repetition_penalty"]) == (-1, 0.0, 1.0)
    assert (second["top_k"], second["repetition_penalty"]) == (20, 1.1)


def test_what_cannot_work_is_told_in_a_line_before_long_work(tmp_path, capsys):
    def told(*more, reply=player, target=()):
        with serving(reply) as (server, url):
            assert cli.main(["eval", *target, "--endpoint", url, *SMALL, *more]) == 2
            (line,) = capsys.readouterr().err.splitlines()
            return line, len(server.bodies)

    always = {"reply": lambda body, n: error(401, "bad key")}
    line, asked = told(**always)
    assert "bad key" in line and asked <= 16
    assert "is for runs" in told("--label", "x")[0]
    assert "take --endpoint.model" in told("--model.path", "m")[0]
    assert "no effect with --endpoint" in told("--rollout.cache-tokens", "9")[0]
    assert "did you mean 'minesweeper-tiny'" in told(target=["minesweper-tiny"])[0]
    assert "is a file; name a folder" in told("--out", str(Path(__file__) / "x"))[0]
    assert cli.main(["eval"]) == 2 and "RUN|RECIPE is missing" in capsys.readouterr().err


def test_too_many_lost_trials_are_no_result_and_what_was_played_is_kept(tmp_path, capsys):
    out = tmp_path / "e"

    def once(body, n):
        return error(500, "down") if n == 5 else TURN

    with serving(once) as (_, url):
        assert run(url, "--endpoint.max-retries", "0", "--no-attempts", "--out", str(out)) == 2
    assert "--endpoint.max-lost allows" in capsys.readouterr().err
    assert not (out / "record.json").exists() and len(read_jsonl(out / "trials.jsonl.gz")) == 4


@pytest.mark.long
def test_it_needs_neither_torch_nor_a_tokenizer(tmp_path):
    program = (
        "import sys\nfor name in ('torch', 'transformers', 'tokenizers', 'vllm'): sys.modules[name] = None\n"
        "from lamer_fast import cli; sys.exit(cli.main(sys.argv[1:]))"
    )
    paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), *sys.path])
    with serving(player) as (_, url):
        done = subprocess.run(
            [sys.executable, "-c", program, "eval", "--endpoint", url, *SMALL, "--out", str(tmp_path / "e")],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "e" / "report.html").is_file()


@pytest.mark.long
def test_an_interrupt_ends_it_at_once_and_keeps_what_was_played(tmp_path):
    """Although requests are in flight that nobody answers."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels"), *sys.path])
    with serving(lambda body, n: TURN if n < 6 else 600.0) as (server, url):
        process = subprocess.Popen(
            [sys.executable, "-m", "lamer_fast", "eval", "--endpoint", url, *SMALL, "--out", "e"],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        until = time.monotonic() + 60
        while len(server.bodies) < 8 and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted" in said
    trials = read_jsonl(tmp_path / "e" / "trials.jsonl.gz")
    assert sum(len(trial["turns"]) for trial in trials) == 6
