"""Errors that a person can act on; every other exception is a bug and is shown with its traceback."""


class PodiumError(Exception):
    """Something failed; the message says what, and what to do. Exit code 1."""

    exit_code = 1


class RefusedError(PodiumError):
    """A valid request was refused for the reason given; nothing was changed. Exit code 1."""


class InputError(PodiumError):
    """The input (parameters, images, arguments) is wrong; nothing was written. Exit code 2."""

    exit_code = 2


class InterruptedSearchError(PodiumError):
    """A signal ended the search; what was recorded is kept and the next run resumes. Exit code 128 + signal."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def of_parameter(parameter: str, message: str) -> str:
    """`message` about the value of `parameter`, or about `arguments` below it, with the parameter's name before it."""
    lines = message.split("\n  ")
    named = [f"{parameter}.{line}" if line.startswith(("arguments.", "arguments:")) else line for line in lines]
    return "\n  ".join([f"{parameter}: {named[0]}" if named[0] == lines[0] else named[0], *named[1:]])
