"""`python -m lamer_fast`: the command `lamer-fast`."""

import sys

from lamer_fast.cli import main

sys.exit(main())
