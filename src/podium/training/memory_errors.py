"""Which errors say that memory is short. torch is not imported: the search's driver, which does without, asks too."""

WORDS = ("out of memory", "ALLOC_FAILED", "allocate memory")
"""What they contain: those of CUDA, ROCm and Metal; of cuBLAS and cuDNN; of torch on the CPU (`can't allocate memory`)
and of the operating system (`Cannot allocate memory`). Few of them have an exception of their own."""


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that the machine or its device has no more memory."""
    return isinstance(error, MemoryError) or tells_of_memory(str(error))


def tells_of_memory(message: str) -> bool:
    """Whether the message of an error says so."""
    return any(one in message for one in WORDS)
