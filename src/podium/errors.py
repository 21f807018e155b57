"""The errors a person can act on; everything else is a bug and keeps its traceback."""


class PodiumError(Exception):
    """Something did not work out; the message says what, and what to do. Exit code 1."""

    exit_code = 1


class RefusedError(PodiumError):
    """A request was understood and turned down for the reason given; nothing was changed. Exit code 1."""


class InputError(PodiumError):
    """What came in (parameters, images, arguments) is wrong; nothing was written. Exit code 2."""

    exit_code = 2


class InterruptedSearchError(PodiumError):
    """A signal ended the work; everything recorded stands and the next run goes on. Exit code 128 + signal."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
