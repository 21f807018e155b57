"""Where the time of a training goes: phases, operators, a diagnosis, and a trace for torch-tb-profiler."""

import os


def silence() -> None:
    """Silence the profiler library's messages at every start and its warnings of tensors that are older than it.

    Call it before torch is imported, which is when these are read.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
