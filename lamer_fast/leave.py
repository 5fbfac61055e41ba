"""The end of a process that is one of several ranks."""

import atexit
import os
import sys
import traceback
from typing import NoReturn


def leave(status: int) -> NoReturn:
    """Ends the process with `status`, without tearing the interpreter down.

    A thread of gloo may still hold the tensors of the last collective when Python begins to finalise, since
    modules under FSDP2 keep the process group alive beyond `destroy_process_group`. To free them it asks for
    the interpreter's lock, which ends such a thread, and with it the process by SIGABRT, after all work is
    done (pytorch#190489). Functions of `atexit` have run and both streams are flushed. The group is destroyed
    only after success: after a failure the others may be inside a collective (torchtitan#1342).
    """
    distributed = sys.modules.get("torch.distributed")
    try:
        atexit._run_exitfuncs()  # vLLM destroys its own groups there, which must be there still
        if status == 0 and distributed and distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
        status = status or 1
    finally:
        os._exit(status)
