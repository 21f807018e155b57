"""Where the time of a training goes: phases, operators, a verdict, and a trace for torch-tb-profiler."""

import os


def silence() -> None:
    """Keep the profiler's library from greeting every start and from warning of tensors that are older than it.

    To be called before torch is imported, which is when it reads this.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
