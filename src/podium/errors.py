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
