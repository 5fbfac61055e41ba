"""LamerHead: the ops as a module, and under FSDP2 as a shard unit of its own (two gloo processes)."""

import copy
import warnings

import pytest
import torch
from torch import nn

from lamer_fast.leave import leave
from lamer_kernels import LamerHead, linear_logprob, linear_policy_loss

T, H, V = 6, 8, 20


def tokens(seed=0):
    g = torch.Generator().manual_seed(seed)
    hidden, targets = torch.randn(T, H, generator=g), torch.randint(0, V, (T,), generator=g)
    return hidden, targets, -torch.rand(T, generator=g), torch.randn(T, generator=g)


@pytest.mark.parametrize("bias", [False, True])
def test_is_the_linear_layer_and_the_ops(bias):
    torch.manual_seed(0)
    linear = nn.Linear(H, V, bias=bias)
    head = LamerHead.of(linear).eval()
    assert head.weight is linear.weight and head.bias is linear.bias and not head.training
    hidden, targets, old, advantages = tokens()
    assert torch.equal(head(hidden), linear(hidden))
    same = {"temperature": 0.7, "bias": linear.bias}
    ours = head(hidden, targets, temperature=0.7, entropy=True)
    theirs = linear_logprob(hidden, linear.weight, targets, entropy=True, **same)
    assert torch.equal(ours.logprobs, theirs.logprobs) and torch.equal(ours.entropy, theirs.entropy)
    loss = head(hidden, targets, old, advantages, temperature=0.7).loss
    assert torch.equal(loss, linear_policy_loss(hidden, linear.weight, targets, old, advantages, **same).loss)
    with pytest.raises(TypeError, match=r"must be an nn\.Linear, got Sequential"):
        LamerHead.of(nn.Sequential(linear))
    with pytest.raises(ValueError, match="old_logprobs need advantages"):
        head(hidden, targets, old)


class Model(nn.Module):
    """A trunk and a head; ``way`` says how the head's weight reaches the op."""

    def __init__(self, way):
        super().__init__()
        torch.manual_seed(0)
        self.way, self.trunk, self.lm_head = way, nn.Linear(H, H), LamerHead(H, V, bias=False)

    def forward(self, hidden, targets, old, advantages):
        from torch.distributed.tensor import Partial

        hidden = self.trunk(hidden)
        if self.way == "LamerHead, log-probs":
            return self.lm_head(hidden, targets).logprobs.sum()
        if self.way == "LamerHead":
            return self.lm_head(hidden, targets, old, advantages).loss
        weight = self.lm_head.weight
        if self.way == "full_tensor":
            weight = weight.full_tensor(grad_placements=[Partial("avg")])
        if self.way == "unshard":
            self.lm_head.unshard()
            weight = self.lm_head.weight
        return linear_policy_loss(hidden, weight, targets, old, advantages).loss


def _rank(rank, store, results):
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    mesh, said = init_device_mesh("cpu", (2,)), {}
    for way in ("LamerHead, log-probs", "LamerHead", "full_tensor", "unshard", "lm_head.weight"):
        model = Model(way)
        plain = copy.deepcopy(model)
        plain.way = way if way.startswith("LamerHead") else "plain"
        plain(*tokens(10 + rank)).backward()
        for module in (model.trunk, model.lm_head, model):
            fully_shard(module, mesh=mesh)
        try:
            model(*tokens(10 + rank)).backward()
        except ValueError as error:
            said[way] = str(error)
            continue
        off = 0.0
        for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
            dist.all_reduce(theirs.grad)  # FSDP gives the mean over ranks
            off = max(off, float((ours.grad.full_tensor() - theirs.grad / 2).abs().max()))
        said[way] = off
    results[rank] = said
    leave(0)  # destroys the group; Python's own end may abort in a thread of gloo


@pytest.mark.long
def test_head_that_is_a_shard_unit_of_its_own(tmp_path):
    context = torch.multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        results = manager.dict()
        torch.multiprocessing.spawn(_rank, (str(tmp_path / "store"), results), nprocs=2)
        ranks = [results[0], results[1]]
    for said in ranks:
        refused = said.pop("lm_head.weight")
        assert (
            "weight must be a whole tensor of this rank, got a DTensor" in refused and "LamerHead" in refused
        )
        assert len(said) == 4 and max(said.values()) < 1e-6, said
