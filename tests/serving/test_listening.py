"""The addresses of a server."""

import errno
import os
import socket

import pytest

from podium.errors import InputError
from podium.serving import listening
from podium.serving.listening import listen, patience, url
from starting import free_port


def close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("localhost", "localhost")])
def test_listen_takes_loopback_of_both_families(host: str, shown: str) -> None:
    port = free_port()
    sockets = listen(host, port, 30)
    try:
        with socket.create_connection((host, port), timeout=60):
            assert sockets[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)  # else each answer takes 40 ms more
            assert url(host, port) == f"http://{shown}:{port}"
        with pytest.raises(InputError, match=f"serve.port: {port} of {host} is in use by another process"):
            listen(host, port, 30)
    finally:
        close(sockets)


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("192.0.2.1", "serve.host: '192.0.2.1' can't be listened on"),
        ("no.such.host.invalid", "serve.host: 'no.such.host.invalid' is no address"),
        ("a\0b", r"serve.host: 'a\\x00b' is no address"),
        (".example", "serve.host: '.example' is no address: a part of it is empty, too long or no text. Write such as"),
        ("a" * 64, "serve.host: 'a+' is no address: a part of it is empty, too long"),
    ],
)
def test_address_of_another_machine_is_refused(host: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        listen(host, 5001, 30)


def test_connections_may_be_silent_for_less_where_few_open_files_are_left() -> None:
    with socket.socket() as newest:
        used = newest.fileno() + 1
    assert patience(30, used + used // 4 + listening.RESERVED + 1) == 30
    assert patience(30, 65536 + 2 * used) == 30
    assert patience(30, used + listening.RESERVED // 2) == listening.HURRIED
    assert patience(30, (used + 1000) * 9 // 8) == 30
    assert patience(30, 1) == listening.HURRIED


@pytest.mark.parametrize(("number", "seconds"), [(errno.EMFILE, listening.HURRIED), (errno.EBADF, 30)])
def test_no_number_of_a_file_is_left_or_standard_input_is_closed(
    monkeypatch: pytest.MonkeyPatch, number: int, seconds: int
) -> None:
    def refused(file: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "dup", refused)
    assert patience(30, 1024) == seconds
