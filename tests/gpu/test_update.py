"""An update on a GPU is that of a CPU: the same tokens are computed, the same statistics logged."""

import copy

import pytest
import torch

from lamer_fast.algo.losses import Surrogate
from lamer_fast.learn.policy import Policy
from lamer_kernels import register_attention
from tests.tiny import tiny_model
from tests.unit.test_cuda_placement import ALGO, packed

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


@pytest.mark.parametrize("num_ids", [None, 100])  # 100 of the 128 rows of the head are ids
def test_the_same_tokens_and_statistics_as_on_a_cpu(num_ids):
    model = tiny_model("qwen3").train()
    model.set_attn_implementation(register_attention())
    outs, grads = [], []
    for device in ("cpu", "cuda"):
        policy = Policy(copy.deepcopy(model).to(device), None, torch.float32, num_ids=num_ids)
        out = policy(packed(device), Surrogate(ALGO), head_gradient=policy.head_sum())
        out.loss.backward()
        outs.append([x.detach().cpu() for x in out])
        grads.append([master.grad.cpu() for master in policy.masters.values()])
    assert torch.equal(outs[0][-1], outs[1][-1])  # kept
    for x, y in zip(outs[0][:-1] + grads[0], outs[1][:-1] + grads[1], strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-5)
