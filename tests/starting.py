"""What tests need to start programs: a port that nobody else takes, and Ctrl-C as it is in a terminal."""

import random
import signal
import socket
from pathlib import Path

LOWEST = 10_000
"""Programs that a person starts, Ray and DVC listen below it."""
GIVEN = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""The ports that the system gives to who asks for any: each connection of any program takes one of them."""


def free_port() -> int:
    """A port of loopback that nobody listens on, and that the system gives to nobody before its server is there."""
    first_given = int(GIVEN.read_text(encoding="ascii").split()[0]) if GIVEN.is_file() else 32_768
    candidates = range(LOWEST, first_given) if first_given > LOWEST else range(61_000, 65_536)
    for _ in range(100):
        port = random.SystemRandom().choice(candidates)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port of {candidates} is free")


def with_ctrl_c() -> None:
    """Have SIGINT and SIGHUP end this process; for `preexec_fn` of one that a test interrupts.

    A suite in a script's background ignores SIGINT, one under `nohup` SIGHUP, and so would all that it starts.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def with_nohup() -> None:
    """The same for one that outlives its terminal."""
    with_ctrl_c()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
