"""Which process wrote something, and whether it has ended: with real processes."""

import os

import pytest

from podium import process_identity
from podium.process_identity import has_ended, is_gone, own


def of_a_child(*, reaped: bool) -> str:
    """The identity of a process that has ended; not `reaped`: it is a zombie until the test ends."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, own().encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitid(os.P_PID, child, os.WEXITED | (0 if reaped else os.WNOWAIT))
    return said


def test_process_that_runs_has_not_ended() -> None:
    assert process_identity.IDENTITY.fullmatch(own())
    assert own() == own()
    assert not has_ended(own())


@pytest.mark.parametrize("reaped", [True, False])
def test_process_that_has_ended_is_known_to(reaped: bool) -> None:
    assert has_ended(of_a_child(reaped=reaped))


@pytest.mark.parametrize("reaped", [True, False], ids=["collected", "zombie"])
def test_number_of_a_process_that_has_ended_is_gone(reaped: bool) -> None:
    assert is_gone(int(of_a_child(reaped=reaped).split(" ")[3]))


def test_numbers_that_run_and_that_can_not_be() -> None:
    found = {number: is_gone(number) for number in (os.getpid(), os.getppid(), 10**9, 10**30)}
    assert list(found.values()) == [False, False, True, True]


def test_number_that_was_given_again_is_another_process() -> None:
    first, _, start = own().rpartition(" ")
    assert has_ended(f"{first} {int(start) - 1}")


@pytest.mark.parametrize("part", [0, 1, 2])
def test_process_of_another_start_container_or_host_is_not_known_to_have_ended(part: int) -> None:
    parts = of_a_child(reaped=True).split(" ")
    parts[part] = ["00000000-0000-0000-0000-000000000000", "1", "elsewhere"][part]
    assert not has_ended(" ".join(parts))


@pytest.mark.parametrize("text", ["", "x", "1", "negative", "longer", "٣" * 40])
def test_what_is_no_identity_says_nothing(text: str) -> None:
    own_ones = {"negative": own().replace(str(os.getpid()), "-1"), "longer": own() + " 1"}
    assert not has_ended(own_ones.get(text, text))


def test_number_that_no_process_can_have_has_ended() -> None:
    parts = own().split(" ")
    parts[3] = "9" * 10
    assert has_ended(" ".join(parts))
