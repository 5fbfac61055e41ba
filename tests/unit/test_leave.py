"""A rank ends with its own status, its output written, and no interpreter left to be torn down."""

import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
    import atexit
    from lamer_fast.leave import leave

    class Late:
        def __del__(self):
            print("torn down", flush=True)

    late = Late()
    atexit.register(print, "at exit")
    print("done", end=" ")
    leave({status})
"""


@pytest.mark.parametrize("status", [0, 3])
def test_output_is_written_and_nothing_is_torn_down(status: int) -> None:
    program = textwrap.dedent(PROGRAM.format(status=status))
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "done at exit\n", "")


def test_a_failure_at_the_end_keeps_the_status() -> None:
    program = "import sys; from lamer_fast.leave import leave; sys.stdout.close(); leave(3)"
    assert (
        subprocess.run([sys.executable, "-c", program], timeout=120, stderr=subprocess.PIPE).returncode == 3
    )
