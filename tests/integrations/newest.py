"""Which signatures that our adapters stand on have moved: `newest.py FOLDER...`, of packages or checkouts.

Reads sources, imports nothing; `make test-integrations NEWEST=1` gives it the newest releases, unpacked. Exit
code 1 if a signature moved or went; a framework that is in no folder is told and passed over.
"""

import ast
import sys
from pathlib import Path

TRL, VERL, SKYRL = "trl/trainer", "verl", "skyrl/backends/skyrl_train"
OUTPUT = "loss log_probs entropy log_sum_sq_probs mean_logits is_top1 label_mask aux_loss"
SKYRL_LOSS = "log_probs old_log_probs advantages config loss_mask rollout_logprobs"

# file, name in it, its arguments (of a class: its fields)
SEAMS = {
    "TRL 1.16": [
        (f"{TRL}/utils.py", "add_fused_lm_head", "model temperature cast_lm_head_to_fp32 outputs"),
        (f"{TRL}/utils.py", "FusedCausalLMOutput", OUTPUT),
        (f"{TRL}/grpo_trainer.py", "GRPOTrainer._compute_loss", "self model inputs"),
        (f"{TRL}/grpo_trainer.py", "GRPOTrainer._generate_and_score_completions", "self inputs"),
    ],
    "verl 0.9.1": [
        (
            f"{VERL}/utils/experimental/torch_functional.py",
            "FusedLinearForPPO.forward",
            "self hidden_states vocab_weights input_ids temperature",
        ),
        (
            f"{VERL}/trainer/ppo/core_algos.py",
            "compute_policy_loss_vanilla",
            "old_log_prob log_prob advantages response_mask loss_agg_mode config rollout_is_weights",
        ),
        (f"{VERL}/trainer/ppo/core_algos.py", "register_policy_loss", "name"),
    ],
    "SkyRL 0.3": [
        (f"{SKYRL}/utils/ppo_utils.py", "BaseFunctionRegistry.register", "cls name func"),
        (f"{SKYRL}/utils/ppo_utils.py", "ppo_policy_loss", SKYRL_LOSS),
        (
            f"{SKYRL}/utils/ppo_utils.py",
            "compute_grpo_outcome_advantage",
            "token_level_rewards response_mask index epsilon grpo_norm_by_std kwargs",
        ),
        (
            f"{SKYRL}/utils/off_policy_correction_utils.py",
            "compute_off_policy_correction",
            "old_log_probs rollout_logprobs loss_mask off_policy_correction",
        ),
        (
            "skyrl/train/trainer.py",
            "RayPPOTrainer.convert_to_training_input",
            "self generator_output uids",
        ),
        ("skyrl/train/trainer.py", "RayPPOTrainer.compute_advantages_and_returns", "self data"),
    ],
    "prime-rl 0.8": [
        (
            "prime_rl/trainer/rl/loss.py",
            "LossInputs",
            "trainer_logprobs inference_logprobs ref_logprobs advantages loss_mask loss_weights",
        ),
        (
            "prime_rl/trainer/models/layers/lm_head.py",
            "FusedOutputLinear.forward",
            "self hidden_states labels temperature",
        ),
    ],
    "slime 0.3.1": [
        (
            "slime/backends/megatron_utils/loss.py",
            "get_log_probs_and_entropy",
            "logits args unconcat_tokens total_lengths response_lengths with_entropy non_loss_data "
            "top_p_token_ids top_p_token_offsets",
        ),
        (
            "slime/backends/megatron_utils/loss.py",
            "policy_loss_function",
            "args batch logits sum_of_sample_mean",
        ),
    ],
    # no adapter: what kernels/INTEGRATIONS.md says of them
    "NeMo-RL 0.7": [
        (
            "nemo_rl/algorithms/loss/interfaces.py",
            "LossFunction.__call__",
            "self data global_valid_seqs global_valid_toks kwargs",
        ),
    ],
    "AReaL 1.0": [
        ("areal/trainer/ppo/actor.py", "PPOActor._compute_advantages", "self data"),
        ("areal/trainer/ppo/actor.py", "PPOActor._ppo_update", "self data"),
    ],
    "rLLM": [("rllm/trainer/algorithms/advantage.py", "register_rllm_adv_estimator", "name")],
    "ms-swift 4.6": [
        (
            "swift/rlhf_trainers/grpo_trainer.py",
            "GRPOTrainer._compute_advantages",
            "self samples rewards_per_func batch_encoded_inputs",
        ),
    ],
    "AgileRL 2.58": [
        (
            "agilerl/algorithms/core/llm_ops/fused_logprobs.py",
            "FusedLinearLogProbsFunction.forward",
            "ctx hidden lm_head_weight lm_head_bias target_ids temperature cast_to_fp32 chunk_rows",
        ),
    ],
}


def arguments(source: str, name: str) -> str | None:
    """Of a function, or the fields of a class, by dotted name; None where there is none."""
    node: ast.AST = ast.parse(source)
    for part in name.split("."):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        inside = [n for n in ast.iter_child_nodes(node) if isinstance(n, kinds) and n.name == part]
        if not inside:
            return None
        node = inside[-1]
    if isinstance(node, ast.ClassDef):
        fields = [n.target for n in node.body if isinstance(n, ast.AnnAssign)]
        return " ".join(field.id for field in fields if isinstance(field, ast.Name))
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    given = node.args
    names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return " ".join(names + [a.arg for a in (given.vararg, given.kwarg) if a])


def moved(folders: list[Path]) -> tuple[list[str], int]:
    """A line for each seam, and how many are not as known."""
    lines, wrong = [], 0
    for framework, seams in SEAMS.items():
        top = seams[0][0].split("/")[0]
        folder = next((f for f in folders if (f / top).is_dir()), None)
        if folder is None:
            lines.append(f"{framework}: not here")
            continue
        version = next((p.name for p in folder.glob(f"{top}-*.dist-info")), "a checkout")
        lines.append(f"{framework} known, found {version.removesuffix('.dist-info')}")
        for file, name, known in seams:
            path = folder / file
            found = arguments(path.read_text(), name) if path.is_file() else None
            if found == known:
                lines.append(f"    as known  {name}")
                continue
            wrong += 1
            lines.append(
                f"    GONE      {name} of {file}" if found is None else f"    MOVED     {name} of {file}"
            )
            lines += [] if found is None else [f"        from ({known})", f"        to   ({found})"]
    return lines, wrong


if __name__ == "__main__":
    report, count = moved([Path(folder) for folder in sys.argv[1:]])
    print("\n".join(report))
    sys.exit(count > 0)
