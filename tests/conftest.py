"""What a process cannot run is left out, with the reason: plain `pytest` is green on any machine."""

import os
import signal
from pathlib import Path

import pytest

VLLM_TESTS = Path(__file__).parent / "vllm"


def only_vllm_tests(config: pytest.Config) -> bool:
    paths = [(config.invocation_params.dir / arg.split("::")[0]).resolve() for arg in config.args]
    return all(path.is_relative_to(VLLM_TESTS) for path in paths)


def pytest_configure(config: pytest.Config) -> None:
    """vLLM reads its environment at import and leaves traces: its tests shape a process of their own only.

    A script's background jobs ignore interrupts, and so would every process to which a test sends one.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if only_vllm_tests(config):
        from lamer_fast.samplers.vllm.environment import prepare_environment

        prepare_environment(cpu=True)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return (collection_path.is_relative_to(VLLM_TESTS) and not only_vllm_tests(config)) or None


def pytest_report_header(config: pytest.Config) -> str | None:
    return None if only_vllm_tests(config) else "tests/vllm: in a process of its own, `pytest tests/vllm`"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = {name for item in items for name in ("interpret", "gpu") if item.get_closest_marker(name)}
    obstacles = {}
    if "interpret" in marked and os.environ.get("TRITON_INTERPRET") != "1":
        obstacles["interpret"] = "TRITON_INTERPRET=1 is not set"
    if "gpu" in marked:
        import torch  # not above: vLLM's environment must be there before

        if not torch.cuda.is_available():
            obstacles["gpu"] = "no CUDA device"
    for item in items:
        for marker, reason in obstacles.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def textworld_games(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four small games of TextWorld, which take a few seconds each to make."""
    pytest.importorskip("textworld", reason="the package textworld is not installed")
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("games")
    program = str(Path(sys.executable).with_name("tw-make"))
    make = [program, "custom", "--world-size", "2", "--nb-objects", "4"]
    for seed in range(4):
        made = [*make, "--quest-length", "2", "--seed", str(seed), "--output", str(folder / f"{seed}.z8")]
        subprocess.run(made, check=True, capture_output=True)
    return folder
