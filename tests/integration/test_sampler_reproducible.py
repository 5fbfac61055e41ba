"""A process that compiles the sampler's kernels and one that loads them must sample the same bits."""

import os
import subprocess
import sys

import pytest

ROLLOUT = """
import hashlib, torch
from tests.integration.test_rollout_contexts import RENDERER, collect
from tests.tiny import tiny_model
torch.set_num_threads(1)
model = tiny_model(vocab_size=len(RENDERER._tokenizer)).to(torch.{dtype})
trials, _ = collect(model)
print(hashlib.sha256(trials.tokens.tobytes() + trials.rollout_logprobs.tobytes()).hexdigest())
"""


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_compiled_and_loaded_kernels_give_the_same_bits(tmp_path, dtype):
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    hashes = set()
    for _ in range(3):  # the first compiles, the others load
        out = subprocess.run(
            [sys.executable, "-c", ROLLOUT.format(dtype=dtype)],
            env=env, capture_output=True, text=True, check=True, timeout=500,
        )  # fmt: skip
        hashes.add(out.stdout.strip())
        assert any(tmp_path.rglob("*.nbc")), (
            "nothing was cached: the test would compare compiled with compiled"
        )
    assert len(hashes) == 1
