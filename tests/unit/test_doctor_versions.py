"""The doctor names a version that the package's own metadata rules out, and the way to a right one."""

import platform

import numpy as np
import pytest

from lamer_fast.doctor.check import Failed
from lamer_fast.doctor.machine import check_versions

WANTED = ["numpy>=1", "torch>=1; extra == 'train'", "vllm==0.0; extra == 'vllm'", "no-such-package>=9"]


def test_fitting_versions_pass():
    check_versions(">=3.11", WANTED)


@pytest.mark.parametrize(
    ("python", "requirements", "names"),
    [
        (">=3.99", WANTED, [platform.python_version(), "use Python >=3.99"]),
        (">=3.11", [*WANTED, "numpy<1.5"], [f"numpy {np.__version__}", "pip install 'numpy<1.5'"]),
        (">=3.11", ["torch>=99; extra == 'train'"], ["torch 2.", "pip install 'torch>=99'"]),
    ],
)
def test_a_version_outside_is_named(python, requirements, names):
    with pytest.raises(Failed) as caught:
        check_versions(python, requirements)
    assert all(name in f"{caught.value} {caught.value.advice}" for name in names)
