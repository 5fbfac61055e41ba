"""The doctor's check of ranks: what it finds where a launch works, and what it names where one cannot."""

import os
import re
import socket
import subprocess
import sys

import pytest

from lamer_fast.doctor import one_rank, ranks
from lamer_fast.doctor.check import Failed


def test_two_processes_meet():
    found = ranks.launch()
    assert re.match(r"2 processes met on 127\.0\.0\.1 and added up over gloo in [\d.]+ s; ", found)


def test_it_names_the_step_that_was_not_taken():
    with pytest.raises(Failed, match="start: rank 0 did not in 0 s"):
        ranks.exchange(ranks.rendezvous(), os.environ, patience_s=0.2)


def test_a_rank_says_how_far_it_came(capsys):
    with socket.socket() as held:
        held.bind((ranks.LOOPBACK, 0))  # and nobody listens there
        with pytest.raises(RuntimeError, match="timed out"):
            one_rank.main(held.getsockname()[1], 1.0, 0, 2)
    taken = capsys.readouterr().out.count("\n")
    assert ranks.STEPS[taken] == "reach the rendezvous"


def test_a_machine_without_its_loopback():
    """A network of its own, in which `lo` is down."""
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        pytest.skip("unshare -rn is not allowed here")
    program = "from lamer_fast.doctor.ranks import check_port; check_port()"
    ended = subprocess.run(["unshare", "-rn", sys.executable, "-c", program], capture_output=True, text=True)
    assert "ports: no process can reach another at 127.0.0.1: Network is unreachable" in ended.stderr


def test_an_interface_that_is_not_there():
    with pytest.raises(Failed, match="GLOO_SOCKET_IFNAME = 'eth77', this machine has lo") as failed:
        ranks.check_interface({"GLOO_SOCKET_IFNAME": "eth77"})
    assert "unset GLOO_SOCKET_IFNAME" in failed.value.advice
    ranks.check_interface({"GLOO_SOCKET_IFNAME": "lo"})
    ranks.check_interface({})


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("no-such-host.invalid", "does not resolve"),
        ("localhost", "is the loopback's"),
        ("192.0.2.1", "resolves to 192.0.2.1, which is no address of it"),
    ],
)
def test_a_name_that_other_machines_cannot_use(name, found):
    said = ranks.of_name(name)
    assert found in said and "--local-addr" in said
