"""Every Triton kernel compiles for the GPUs it is meant for and fits them; needs no GPU.

`benchmarks/compile_table.py` writes what each form needs; its record is held against the same bounds.
"""

import json
import os
from pathlib import Path

import pytest
import torch

from tests.kernels.ahead_of_time import TARGETS, Needs, compiling_for, kernels_of_the_package, needs
from tests.kernels.forms import EVERY_FORM, HALF, LOSS, each_once, heads

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
)

RECORD = Path(__file__).parents[2] / "benchmarks" / "results" / "compile_table.json"

# (kernel, target) -> bytes of a thread's stack in its worst form: registers that did not fit (triton 3.7.1)
SPILLS = {
    ("bracket_kernel", "sm_80"): 8,
    ("cached_attention_kernel", "sm_90"): 224,  # float32, 32 heads of 96, a key head each
    ("cached_attention_kernel", "sm_100"): 224,
    ("divergence_rows_kernel", "sm_100"): 8,
    ("returns_kernel", "sm_80"): 8,
    ("returns_kernel", "sm_90"): 8,
    ("rotary_gradient_kernel", "sm_80"): 8,
    ("rotary_gradient_kernel", "sm_100"): 8,
    ("row_stats_kernel", "sm_90"): 8,
}
# read 16 bytes at a time whatever the vocabulary is, since their buffer is padded
ROWS_OF_LOGITS = ("row_stats_kernel", "write_dlogits_kernel", "policy_rows_kernel", "divergence_rows_kernel")


@pytest.fixture(params=TARGETS)
def target(request):
    return request.param


def check(target, name, found: Needs):
    spills = SPILLS.get((name, target), 0)
    assert found.stack <= spills, f"{name} spills {found.stack} bytes on {target}, at most {spills}"
    limit = TARGETS[target].shared_limit
    assert found.shared <= limit, f"{name} takes {found.shared} bytes of a block's {limit} on {target}"


def check_all(target, compiled, names):
    assert {name for name, _ in compiled} == set(names)
    for name, kernel in {id(kernel): (name, kernel) for name, kernel in compiled}.values():
        check(target, name, needs(kernel))


def test_every_kernel_once(target):
    with compiling_for(target) as compiled:
        each_once()
        check_all(target, compiled, kernels_of_the_package())


@pytest.mark.slow
@pytest.mark.parametrize("forms", EVERY_FORM)
def test_every_form(target, forms):
    launches, names = EVERY_FORM[forms]
    with compiling_for(target) as compiled:
        launches()
        check_all(target, compiled, names)


def test_every_form_is_of_every_kernel():
    assert {name for _, names in EVERY_FORM.values() for name in names} == set(kernels_of_the_package())


def test_the_record_has_every_kernel_within_bounds():
    content = json.loads(RECORD.read_text())
    assert content["needs"] == list(Needs._fields) and content["targets"] == list(TARGETS)
    assert set(content["kernels"]) == set(kernels_of_the_package())
    worst = {}
    for name, kernel in content["kernels"].items():
        for *values, a, b, c, d in kernel["forms"]:
            form = dict(zip(kernel["differ"], values, strict=True))
            for target, numbers in zip(TARGETS, (a, b, c, d), strict=True):
                found = Needs(*numbers)
                check(target, name, found)
                if found.stack:
                    worst[name, target] = max(found.stack, worst.get((name, target), 0))
                if name in ROWS_OF_LOGITS and form["BLOCK_V"] >= 4096:
                    assert found.load == 16, (name, target, form)
    assert worst == SPILLS


@pytest.mark.parametrize("vocab", [50_257, 151_669, 151_936])
def test_every_vocabulary_is_read_16_bytes_at_a_time(target, vocab):
    from lamer_kernels.head.policy.launch import policy_rows
    from lamer_kernels.head.policy.terms import LossConfig, TokenData
    from lamer_kernels.head.projection import new_logits

    per_row = torch.zeros(3)
    head, temperature = next(heads(vocab))
    logits = new_logits(torch.zeros(1), 3, vocab, "triton")
    tokens = TokenData(per_row, per_row, per_row, None, None)
    with compiling_for(target) as compiled:
        policy_rows(logits, per_row.long(), head, temperature, tokens, LossConfig(**LOSS), HALF)
    ((_, kernel),) = compiled
    found = needs(kernel)
    assert (found.load, found.store) == (16, 16)
