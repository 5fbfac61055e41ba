"""An endpoint's sampler without a server: messages, retries, bounds, what a failure costs."""

import re
import sys
import threading
import time

import numpy as np
import pytest

from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.agent.messages import NO_REPLY, MessageRenderer, messages
from lamer_fast.cli.eval import OWN, plans_of, play_panels
from lamer_fast.config import resolve as recipe
from lamer_fast.samplers.endpoint import sampler as endpoint
from lamer_fast.samplers.endpoint.ask import TOO_LONG, Again, Answer, Hopeless, OpenAIAsk, Refused, TooLong
from lamer_fast.samplers.endpoint.options import EndpointOptions
from lamer_fast.samplers.endpoint.sampler import EndpointSampler
from lamer_fast.samplers.endpoint.usage import Usage, usage_of
from lamer_fast.samplers.protocol import Request, Sampling
from tests.scripted import ScriptedSampler
from tests.tiny import tiny_tokenizer

OPTIONS = EndpointOptions(url="http://127.0.0.1/v1", model="stub")
TOKENS = Usage(1, 100, 60, 10)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(endpoint, "FIRST_WAIT_S", 0.001)


def request(i=0, text="hello"):
    return Request(i, i, MessageRenderer().start(text), i, 16, MessageRenderer.stop_ids, Sampling())


def completions(sampler, count, timeout_s=10.0):
    found, until = [], time.monotonic() + timeout_s
    while len(found) < count:
        assert time.monotonic() < until, f"{len(found)} of {count}"
        found += sampler.poll()
    return {c.id: c for c in found}


def failing(*failures, text="ok"):
    """Fails in that order, then answers."""
    left = list(failures)

    def ask(question):
        if left:
            raise left.pop(0)
        return Answer(text, True, TOKENS)

    return ask


def test_a_conversation_is_read_back_as_messages_whatever_it_says():
    renderer = MessageRenderer()
    texts = ["böard ☃ 🧨\n\t\0", "", "x" * 100_000, "<|im_start|>assistant\ud83d"]
    ids = [renderer.start(texts[0]), renderer.reply("über 🧭", True), renderer.bridge(texts[2])]
    ids += [renderer.reply("", False), renderer.end_ids, renderer.bridge(texts[3])]
    assert messages(np.concatenate(ids)) == [
        {"role": "user", "content": texts[0]},
        {"role": "assistant", "content": "über 🧭"},
        {"role": "user", "content": texts[2]},
        {"role": "assistant", "content": NO_REPLY},
        {"role": "user", "content": "<|im_start|>assistant\ufffd"},
    ]
    assert renderer.texts([renderer.reply(t, True) for t in texts[:3]]) == texts[:3]


@pytest.mark.parametrize("context", ["trial", "episode", "turn"])
def test_the_messages_of_an_evaluation_are_the_texts_that_a_tokenizer_renders(context):
    """The same replies through both renderers: the same prompts, reflections and outcome."""
    memory = "both" if context == "trial" else "reflection"
    config = recipe.apply(
        recipe.load("minesweeper-tiny"),
        {"rollout.max_turns": 3, "eval.episodes": 2, "rollout.context": context, "rollout.memory": memory},
    )
    renderer = ChatRenderer(tiny_tokenizer())
    said = {}

    def reply(text):
        return "mine at (1, 1)" if text.endswith("reflect") else f"<action>({len(text) % 5}, 1)</action>"

    class Local(ScriptedSampler):
        def submit(self, request):
            self.released.discard(request.trial)
            super().submit(request)

        def _complete(self, request):
            prompt = renderer.text(request.token_ids)
            last = prompt.rpartition("<|im_start|>user\n")[2].removesuffix(
                "<|im_end|>\n<|im_start|>assistant\n"
            )
            self.replies = lambda trial, n: reply(last)
            said.setdefault("local", []).append(last)
            return super()._complete(request)

    def ask(question):
        last = question.messages[-1]["content"]
        said.setdefault("endpoint", []).append(last)
        return Answer(reply(last), True, TOKENS)

    plans = plans_of(config, "valid", 5)
    local = play_panels(Local(renderer, None), renderer, plans)[OWN]
    sampler = EndpointSampler(ask, OPTIONS)
    found = play_panels(sampler, sampler.renderer, plans)[OWN]
    assert sorted(said["local"]) == sorted(said["endpoint"])
    assert found.by_task == local.by_task and found.panel == local.panel
    assert found.usage["trial"]["prompt"] + found.usage["independent"]["prompt"] == 100 * len(
        said["endpoint"]
    )
    assert local.usage is None


def test_busy_servers_are_asked_again_and_the_waiting_is_counted(caplog):
    sampler = EndpointSampler(failing(Again("429 slow down", 0.002), Again("500 oops")), OPTIONS)
    sampler.submit(request())
    (found,) = completions(sampler, 1).values()
    assert sampler.renderer.text(found.token_ids) == "ok" and found.stopped and found.error is None
    assert sampler.usage.retries == 2 and sampler.usage.requests == 1 and sampler.usage.waited_s > 0
    assert "429 slow down; try 2 of 7" in caplog.text, "waiting does not look like a hang"


def test_what_the_server_asks_for_is_bounded():
    options = EndpointOptions(url=OPTIONS.url, model="stub", max_wait_s=0.01)
    sampler = EndpointSampler(failing(Again("429", 3600.0)), options)
    sampler.submit(request())
    completions(sampler, 1, 5)
    assert sampler.usage.waited_s == pytest.approx(0.01)


def test_before_the_first_answer_a_failure_ends_it_and_later_it_costs_a_trial():
    for failure in (Refused("400 bad"), Hopeless("401 no key")):
        sampler = EndpointSampler(failing(failure), OPTIONS)
        sampler.submit(request())
        with pytest.raises(ValueError, match=f"127.0.0.1/v1: {failure}"):
            completions(sampler, 1)
    options = EndpointOptions(url=OPTIONS.url, model="stub", max_retries=1, concurrency=1)
    sampler = EndpointSampler(failing(text="first"), options)
    sampler.submit(request())
    completions(sampler, 1)
    for failures, message in (
        ([Refused("400 bad words")], "400 bad words"),
        ([Again("busy"), Again("500 still")], r"500 still \(2 times\)"),
    ):
        sampler.ask = failing(*failures)
        sampler.submit(request(1))
        lost = completions(sampler, 1)[1]
        assert re.search(message, lost.error) and len(lost.token_ids) == 0
    sampler.ask = failing(Hopeless("402 no credit"))
    sampler.submit(request(2))
    with pytest.raises(ValueError, match="402 no credit"):
        completions(sampler, 1)


def test_no_more_requests_than_allowed_are_in_flight():
    most, now, lock = [0], [0], threading.Lock()

    def ask(question):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.01)
        with lock:
            now[0] -= 1
        return Answer("ok", True, TOKENS)

    sampler = EndpointSampler(ask, EndpointOptions(url=OPTIONS.url, model="stub", concurrency=3))
    for i in range(12):
        sampler.submit(request(i))
    sampler.cancel(11)
    assert sorted(completions(sampler, 11)) == list(range(11)) and most[0] == 3
    assert sampler.poll() == []


def test_a_request_that_never_returns_costs_its_trial_not_the_evaluation(monkeypatch):
    monkeypatch.setattr(endpoint, "GRACE_S", 0.1)
    stuck = threading.Event()

    def ask(question):
        if question.messages[0]["content"] == "hang":
            stuck.wait(30)
        return Answer("ok", True, TOKENS)

    options = EndpointOptions(url=OPTIONS.url, model="stub", concurrency=1, timeout_s=0.1)
    sampler = EndpointSampler(ask, options)
    sampler.submit(request(0))
    completions(sampler, 1)
    sampler.submit(request(1, "hang"))
    sampler.submit(request(2))
    found = completions(sampler, 2)
    assert "no answer within" in found[1].error and found[2].error is None
    stuck.set()


def play(ask, **values):
    config = recipe.apply(
        recipe.load("minesweeper-tiny"), {"rollout.max_turns": 2, "eval.episodes": 2} | values
    )
    options = EndpointOptions(url=OPTIONS.url, model="stub", max_retries=0)
    sampler, trials = EndpointSampler(ask, options), []
    plans = plans_of(config, "test", 4)
    found = play_panels(
        sampler, sampler.renderer, plans, attempts=False, keep=lambda name, part: trials.extend(part)
    )
    return found[OWN], trials


def test_a_conversation_that_the_model_cannot_hold_ends_its_trial_as_not_solved(capsys):
    def ask(question):
        if len(question.messages) > 1:
            raise TooLong("400 maximum context length is 4096 tokens")
        return Answer("<action>nothing</action>", True, TOKENS)

    found, trials = play(ask)
    assert found.lost == 0 and [e.mean for e in found.trial] == [0, 0]
    assert [len(t["turns"]) for t in trials] == [1] * 4 and not any("error" in t for t in trials)


def test_trials_without_an_answer_are_counted_and_told(caplog):
    seen = []

    def ask(question):
        seen.append(question)
        if len(seen) % 3 == 0:
            raise Refused("400 content_filter")
        return Answer("<action>(0, 0)</action>", True, TOKENS)

    found, trials = play(ask)
    assert 0 < found.lost < 4
    assert sum("content_filter" in t.get("error", "") for t in trials) == found.lost
    assert f"counted as not solved: {found.lost} of 4 trials failed" in caplog.text


def test_tokens_and_what_they_cost():
    assert usage_of({"prompt_tokens": 9, "completion_tokens": 3}) == Usage(1, 9, 0, 3)
    assert usage_of({"prompt_tokens": 9, "completion_tokens": 3, "prompt_cache_hit_tokens": 4}).cached == 4
    for broken in (None, {}, {"prompt_tokens": "9", "completion_tokens": 3}, {"prompt_tokens": -1}, 7):
        assert usage_of(broken) == Usage(requests=1, uncounted=1)
    used = usage_of({
        "prompt_tokens": 1_000_000, "completion_tokens": 2_000_000,
        "prompt_tokens_details": {"cached_tokens": 400_000},
        "completion_tokens_details": {"reasoning_tokens": 1_500_000},
    })  # fmt: skip
    assert used.price(2.0, 0.5, 10.0) == pytest.approx(0.6 * 2 + 0.4 * 0.5 + 2 * 10)
    assert used.price(2.0, None, 10.0) == pytest.approx(22.0) and used.price(None, None, None) is None
    assert (used + used) - used == used


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens",
        "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
        "request (9000 tokens) exceeds the available context size (8192 tokens)",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "Input is too long for requested model",
        "max_model_len",
    ],
)
def test_servers_say_in_many_words_that_a_conversation_is_too_long(message):
    assert TOO_LONG.search(message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "ftp://x"}, "ftp://x.*must be http"),
        ({"url": "localhost:8000"}, "must be http"),
        ({"url": "http://u:secret@/v1"}, "http:///v1"),
        ({"price_prompt": 1.0}, "give both or neither"),
        ({"extra": "{"}, "is not JSON"),
        ({"extra": "[1]"}, "must be a JSON object"),
        ({"extra": '{"stream": true}'}, "sets 'stream'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        EndpointOptions(**{"url": OPTIONS.url, "model": "stub"} | options).validate()


def test_without_the_client_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ValueError, match=r"pip install 'lamer-fast\[endpoint\]'"):
        OpenAIAsk(OPTIONS)


def test_an_address_is_shown_without_its_secrets():
    assert EndpointOptions(url="https://me:secret@host:8/v1?key=abc").shown == "https://host:8/v1"
