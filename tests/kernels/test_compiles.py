"""Every Triton kernel compiles for the GPUs it is meant for and fits them; needs no GPU.

`benchmarks/compile_table.py` writes what each form needs; its record is held against the same bounds.
"""

import os

import pytest
import torch

from tests.kernels.ahead_of_time import TARGETS, Needs, compiling_for, kernels_of_the_package, needs
from tests.kernels.forms import EVERY_FORM, HALF, LOSS, each_once, heads

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
)

# (kernel, target) -> bytes of a thread's stack that its worst form may take: registers that did not fit
SPILLS: dict[tuple[str, str], int] = {}


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
