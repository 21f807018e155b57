"""The addresses that a server listens on: taken before anything is loaded, so that a port in use is said at once."""

import errno
import os
import resource
import socket

from podium.errors import InputError

VARIABLE = "PODIUM_SERVE_SOCKETS"
"""Numbers of the open sockets that a worker process gets from the process that started it."""
BACKLOG = 1024
OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)
HURRIED, RESERVED = 1, 8
"""Seconds of a silent connection where fewer than RESERVED open files, or an eighth of those allowed, are left."""


def listen(host: str, port: int, seconds: int) -> list[socket.socket]:
    """Sockets on every address of `host` (localhost has two: 127.0.0.1 and ::1).

    A client that takes nothing of its answer for `seconds` is dropped by the kernel. Raises InputError where the port
    is in use, or the address is none of this machine.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, ValueError) as error:  # ValueError: no such text can be a name
        why = error.strerror if isinstance(error, OSError) else "a part of it is empty, too long or no text"
        raise InputError(f"serve.host: {host!r} is no address: {why}. Write such as 127.0.0.1 or ::1") from None
    sockets: list[socket.socket] = []
    failures: list[OSError] = []
    for family, address in dict.fromkeys((one[0], one[4]) for one in found):
        try:
            sockets.append(_bound(family, address, seconds))
        except OSError as error:
            failures.append(error)
            if error.errno == errno.EADDRINUSE:
                break
    if failures and (not sockets or failures[-1].errno == errno.EADDRINUSE):
        for one in sockets:
            one.close()
        raise _refused(host, port, failures[-1])
    return sockets


def _bound(family: int, address: tuple[object, ...], seconds: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Headers and body of an answer are two packets: else the second waits 40 ms until the first is confirmed.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; sockets that are accepted inherit it
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * seconds)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    made.setblocking(False)
    return made


def _refused(host: str, port: int, error: OSError) -> InputError:
    if error.errno == errno.EADDRINUSE:
        return InputError(
            f"serve.port: {port} of {host} is in use by another process: end that one, or `podium serve --port"
            f" {port + 1}`"
        )
    if error.errno == errno.EACCES:
        return InputError(f"serve.port: {port} may not be used by this user: ports from 1024 may")
    return InputError(
        f"serve.host: {host!r} can't be listened on: {error.strerror}. It must be an address of this machine"
    )


def inherited() -> list[socket.socket]:
    """The sockets of a worker process; none in the process that a person started."""
    numbers = os.environ.get(VARIABLE, "")
    found = [socket.socket(fileno=int(number)) for number in numbers.split(",") if number]
    for one in found:
        one.setblocking(False)
    return found


def allow_many_connections() -> int:
    """Raise this process's soft limit of open files to the hard one: each silent connection is an open file.

    Returns what it is now.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return wanted if soft == resource.RLIM_INFINITY else soft


def patience(seconds: int, most: int) -> int:
    """How long a connection may be silent: `seconds`, or HURRIED where few of `most` open files are left.

    So others, health checks too, get a connection soon: what is silent beyond the first ones goes again.
    """
    try:
        lowest = os.dup(0)  # the lowest number that is free: about the count of open files, and quicker to ask
    except OSError as error:
        return min(HURRIED, seconds) if error.errno in OUT_OF_FILES else seconds
    os.close(lowest)
    return seconds if lowest < most - max(RESERVED, most // 8) else min(HURRIED, seconds)


def url(host: str, port: int) -> str:
    """The address for people and programs; IPv6 in brackets (RFC 3986)."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
