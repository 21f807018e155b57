"""Memory that a batch has freed stays with the process, for the next batch: glibc would give it back each time."""

import ctypes
import os

MMAP, TRIM, ARENAS = -3, -1, -8
"""M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_ARENA_MAX of <malloc.h>."""
LARGEST = 32 * 1024**2
"""Bytes of an allocation that is taken from memory freed before (glibc allows no more); larger ones go back at once."""
KEPT = 64 * 1024**2
"""Free bytes at the end of an arena above which it gives back."""
SHARED = 2
"""Arenas for all threads: each one may keep KEPT bytes. By default there are eight for each core."""


def keep_freed_memory() -> None:
    """Let glibc keep up to KEPT freed bytes in each of SHARED arenas. Does nothing where another library allocates.

    Its own limits move with what was freed last. So in some threads, and not in others, all activations of a network
    were given back after each batch, and asked for again page by page: 3,400 page faults for 64 images of 28x28, a
    quarter of their processor time. What the environment says of a limit counts.
    """
    limits = {
        "MALLOC_MMAP_THRESHOLD_": (MMAP, LARGEST),
        "MALLOC_TRIM_THRESHOLD_": (TRIM, KEPT),
        "MALLOC_ARENA_MAX": (ARENAS, SHARED),
    }
    try:
        set_limit = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS
        return
    tuned = os.environ.get("GLIBC_TUNABLES", "")
    for variable, (number, value) in limits.items():
        if variable not in os.environ and "glibc.malloc." not in tuned:
            set_limit(number, value)
