"""Memory that a batch has freed stays with the process, for the next batch: glibc would give it back each time."""

import ctypes
import os

MMAP, TRIM, ARENAS = -3, -1, -8
"""M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_ARENA_MAX of <malloc.h>."""
LARGEST = 32 * 1024**2
"""Bytes of an allocation that is taken from memory freed before (glibc allows no more); larger ones go back at once."""
KEPT = 64 * 1024**2
"""Free bytes at the end of an arena above which it gives these back; those between blocks in use stay, as always."""
SHARED = 2
"""Arenas for all threads. By default there are eight for each core, and each one keeps what it has."""
LIMITS = (
    ("MALLOC_MMAP_THRESHOLD_", "glibc.malloc.mmap_threshold", MMAP, LARGEST),
    ("MALLOC_TRIM_THRESHOLD_", "glibc.malloc.trim_threshold", TRIM, KEPT),
    ("MALLOC_ARENA_MAX", "glibc.malloc.arena_max", ARENAS, SHARED),
)
"""Variable and tunable by which the environment sets a limit, its number, and its value where neither is there."""


def keep_freed_memory() -> None:
    """Let glibc keep up to KEPT freed bytes at the end of each of SHARED arenas.

    This is no bound of what stays: memory freed between blocks in use is not given back, whatever the limits. It does
    nothing where another library allocates.

    glibc's own limits move with what was freed last. So in some threads, and not in others, all activations of a
    network were given back after each batch, and asked for again page by page: 3,400 page faults for 64 images of
    28x28, a quarter of their processor time. A limit that the environment sets stays; the others are set.
    """
    try:
        set_limit = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS
        return
    tuned = {one.partition("=")[0] for one in os.environ.get("GLIBC_TUNABLES", "").split(":")}
    for variable, tunable, number, value in LIMITS:
        if variable not in os.environ and tunable not in tuned:
            set_limit(number, value)
