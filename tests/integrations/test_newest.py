"""The report of moved signatures, on trees made here."""

from tests.integrations import newest


def tree(folder, arguments):
    path = folder / "prime_rl" / "trainer" / "models" / "layers" / "lm_head.py"
    path.parent.mkdir(parents=True)
    path.write_text(f"class FusedOutputLinear:\n    def forward({arguments}): ...\n")
    loss = folder / "prime_rl" / "trainer" / "rl" / "loss.py"
    loss.parent.mkdir(parents=True)
    fields = [
        "trainer_logprobs",
        "inference_logprobs",
        "ref_logprobs",
        "advantages",
        "loss_mask",
        "loss_weights",
    ]
    loss.write_text("class LossInputs:\n" + "".join(f"    {name}: object\n" for name in fields))


def test_what_is_as_known_passes(tmp_path):
    tree(tmp_path, "self, hidden_states, labels=None, temperature=None")
    lines, wrong = newest.moved([tmp_path])
    assert wrong == 0 and "prime-rl 0.8 known, found a checkout" in lines
    assert "verl 0.9.1: not here" in lines


def test_a_moved_signature_and_one_that_went_are_told(tmp_path):
    tree(tmp_path, "self, hidden_states, labels, *, temperature, mask=None, **more")
    (tmp_path / "prime_rl" / "trainer" / "rl" / "loss.py").write_text("class Inputs: ...")
    lines, wrong = newest.moved([tmp_path])
    assert wrong == 2
    text = "\n".join(lines)
    assert "GONE      LossInputs of prime_rl/trainer/rl/loss.py" in text
    assert "from (self hidden_states labels temperature)" in text
    assert "to   (self hidden_states labels temperature mask more)" in text
