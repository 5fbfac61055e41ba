"""What other people's training does around an op: processes, checkpoints of activations, modes, copies."""

import copy
import io
import multiprocessing
import os
import pickle

import pytest
import torch
import torch.distributed as dist
from torch.utils.checkpoint import checkpoint

from lamer_fast.leave import leave
from lamer_kernels import LamerHead, linear_logprob, linear_policy_loss, meta_advantages, policy_loss
from tests.kernels.calls import CALLS, call, each_call

H, V, L = 8, 19, 24


def batch(seed=0, tokens=L):
    g = torch.Generator().manual_seed(seed)
    targets = torch.randint(V, (tokens,), generator=g)
    old = -3 * torch.rand(tokens, generator=g)
    advantages = torch.randn(tokens, generator=g)
    return torch.randn(tokens, H, generator=g), targets, old, advantages


def trunk_and_head(seed=1):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(H, H), torch.nn.Tanh()), LamerHead(H, V, bias=False)


class Whole(torch.nn.Module):
    """Trunk and loss in one forward, as DDP wraps it."""

    def __init__(self):
        super().__init__()
        self.trunk, self.head = trunk_and_head()

    def forward(self, x, targets, old, advantages, weight):
        options = {"token_weights": torch.full_like(advantages, weight)}
        return self.head(self.trunk(x), targets, old, advantages, **options).loss


def _rank(rank, port, tokens, queue):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    model = torch.nn.parallel.DistributedDataParallel(Whole())
    parts = [slice(0, tokens), slice(tokens, L)]
    x, targets, old, advantages = (t[parts[rank]] for t in batch())
    model(x, targets, old, advantages, 2 / L).backward()  # DDP takes the mean over ranks
    if rank == 0:
        queue.put({name: p.grad.numpy() for name, p in model.module.named_parameters()})
    leave(0)  # destroys the group; Python's own end may abort in a thread of gloo


@pytest.mark.parametrize("tokens", [10, 0])
def test_data_parallel_ranks_add_up_to_one_process(tokens):
    """Also with a rank that has no loss token: it takes part in every reduction."""
    context = multiprocessing.get_context("spawn")
    queue, port = context.Queue(), _free_port()
    ranks = [context.Process(target=_rank, args=(r, port, tokens, queue)) for r in range(2)]
    for rank in ranks:
        rank.start()
    found = queue.get(timeout=120)
    for rank in ranks:
        rank.join(60)
        assert rank.exitcode == 0
    alone = Whole()
    alone(*batch(), 1 / L).backward()
    for name, parameter in alone.named_parameters():
        torch.testing.assert_close(torch.from_numpy(found[name]), parameter.grad, rtol=1e-5, atol=1e-7)


def _free_port():
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.parametrize("op", ["loss", "logprobs"])
@pytest.mark.parametrize("reentrant", [True, False])
def test_inside_a_checkpoint_of_activations(op, reentrant):
    x, targets, old, advantages = batch()
    found = []
    for wrapped in (False, True):
        trunk, head = trunk_and_head()

        def run(x, trunk=trunk, head=head):
            if op == "loss":
                return head(trunk(x), targets, old, advantages).loss
            return (head(trunk(x), targets).logprobs * advantages).sum()

        start = x.clone().requires_grad_()
        out = checkpoint(run, start, use_reentrant=reentrant) if wrapped else run(start)
        out.backward()
        found.append([out.detach(), start.grad, *(p.grad for p in (*trunk.parameters(), *head.parameters()))])
    for plain, wrapped in zip(*found, strict=True):
        torch.testing.assert_close(plain, wrapped, rtol=0, atol=0)


@pytest.mark.parametrize("frozen", ["head", "hidden", "both"])
def test_what_is_frozen_gets_no_gradient(frozen):
    x, targets, old, advantages = batch()
    weight = torch.randn(V, H)
    whole_x, whole_weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    linear_policy_loss(whole_x, whole_weight, targets, old, advantages).loss.backward()
    h, w = x.clone().requires_grad_(frozen == "head"), weight.clone().requires_grad_(frozen == "hidden")
    loss = linear_policy_loss(h, w, targets, old, advantages).loss
    assert loss.requires_grad is (frozen != "both")
    if frozen != "both":
        loss.backward()
    if frozen == "head":
        torch.testing.assert_close(h.grad, whole_x.grad)
    if frozen == "hidden":
        torch.testing.assert_close(w.grad, whole_weight.grad)
    assert (h.grad is None) is (frozen != "head") and (w.grad is None) is (frozen != "hidden")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode):
    x, targets, old, advantages = batch()
    weight = torch.randn(V, H, requires_grad=True)
    expected = linear_policy_loss(x, weight, targets, old, advantages)
    with mode():
        inside = linear_policy_loss(x.clone(), weight, targets, old, advantages)
        logprobs = linear_logprob(x.clone(), weight, targets).logprobs
        again = policy_loss(logprobs, old, advantages)
    assert not inside.loss.requires_grad and not logprobs.requires_grad
    torch.testing.assert_close(inside.loss, expected.loss.detach())
    torch.testing.assert_close(again.loss, expected.loss.detach(), rtol=1e-5, atol=1e-5)


def test_results_and_heads_can_be_copied_pickled_and_saved():
    x, targets, old, advantages = batch()
    _, head = trunk_and_head()
    out = head(x, targets, old, advantages)
    kept = pickle.loads(pickle.dumps(type(out)(*(t.detach() for t in out))))
    assert all(torch.equal(a, b.detach()) for a, b in zip(kept, out, strict=True))
    for other in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        assert type(other) is LamerHead and other.weight is not head.weight
        torch.testing.assert_close(other(x, targets, old, advantages).loss, out.loss)
    stored = io.BytesIO()
    torch.save(head.state_dict(), stored)
    stored.seek(0)
    plain = torch.nn.Linear(H, V, bias=False)
    plain.load_state_dict(torch.load(stored, weights_only=True))  # the names of an nn.Linear
    torch.testing.assert_close(LamerHead.of(plain)(x, targets).logprobs, head(x, targets).logprobs)


def _after_fork(ops, queue):
    queue.put([call(op, "cpu")[0].numpy() for op in ops])


@pytest.mark.parametrize(
    ("threads", "ops"), [(1, ["meta_advantages", "linear_policy_loss"]), (2, ["meta_advantages", "pack"])]
)
def test_a_fork_after_use_computes_the_same(threads, ops):
    """Loaders and Ray fork: what numba has started must not hang the child. With more than one thread torch's
    own products hang there (a plain `a @ a` does), so that the head is tried with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        expected = [call(op, "cpu")[0] for op in ops]
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=_after_fork, args=(ops, queue), daemon=True)
        child.start()
        found = queue.get(timeout=60)
        child.join(30)
        assert child.exitcode == 0
        for ours, here in zip(found, expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(ours), here)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("op", [op for op, _ in each_call(CALLS)][::2])
def test_tensors_made_in_inference_mode_are_taken(op):
    """A rollout worker makes its tensors there; credit and packing read them outside."""
    if op in ("linear_logprob", "linear_policy_loss", "policy_loss"):
        pytest.skip("their leaves get gradients, which torch refuses of such tensors")
    backend = CALLS[op][2][0]
    expected = call(op, backend)
    with torch.inference_mode():
        made = {name: make() for name, make in CALLS[op][0].items()}
    for a, b in zip(call(op, backend, **made), expected, strict=True):
        torch.testing.assert_close(a, b)


def test_an_iterable_of_nothing():
    empty = torch.zeros(0)
    weight = torch.zeros(V, H, requires_grad=True)
    data = (empty.long(), empty, empty)
    out = linear_policy_loss(torch.zeros(3, H), weight, *data, token_idx=empty.long())
    out.loss.backward()
    assert out.loss == 0
    none = meta_advantages(
        empty, empty.long(), empty.long(), empty.long(), torch.tensor([0]), anchors=empty.long()
    )
    assert none.shape == (0,)
