"""A pytest process of its own: vLLM reads its environment at import and leaves traces in the process."""

from lamer_fast.rollout.samplers.vllm_env import prepare_environment

prepare_environment(cpu=True)
