"""What a server says instead of predictions: a status of HTTP, a code as MLflow calls it, and a sentence."""

NAMED = 5
"""Bad rows that an error names; it counts the rest."""
CODES = {400: "INVALID_PARAMETER_VALUE", 404: "ENDPOINT_NOT_FOUND", 500: "INTERNAL_ERROR"}


class RequestError(Exception):
    """A request gets no predictions; the message says why, in words of ours: nothing of the request is in it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        """Of HTTP (RFC 9110): 400, 404, 405, 408, 413, 415, 500, 503 or 504."""

    @property
    def content(self) -> dict[str, str]:
        """The answer's JSON, in the form of MLflow's scoring server."""
        code = CODES.get(self.status, "TEMPORARILY_UNAVAILABLE" if self.status >= 500 else "INVALID_PARAMETER_VALUE")
        return {"error_code": code, "message": str(self)}


def about_rows(problems: list[tuple[int, str]], count: int, status: int = 400) -> RequestError:
    """The error for the bad ones among `count` rows: the place of each, counted from 0, and what is wrong with it."""
    named = [f"image {row + 1} of {count}: {why}" for row, why in problems[:NAMED]]
    if len(problems) > NAMED:
        named.append(f"and {len(problems) - NAMED} more")
    return RequestError(status, "; ".join(named))


def too_many_images(most: int, got: str) -> RequestError:
    """The error 400 of a request with more than `most` images; `got`: how many, or that there are more."""
    return RequestError(400, f"a request may hold at most {most:,} images (serve.max_images); got {got}")
