"""`python -m lamer_fast`: the command `lamer-fast`."""

import sys

from lamer_fast.cli import main
from lamer_fast.launch import started_by_torchrun
from lamer_fast.leave import leave

status = main()
if started_by_torchrun():
    leave(status)
sys.exit(status)
