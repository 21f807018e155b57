"""`podium serve`."""

import argparse
import sys
from typing import TYPE_CHECKING

from podium.commands._arguments import alias_name, version_number
from podium.commands._project import opened
from podium.errors import InputError

if TYPE_CHECKING:
    from podium.config.params import ServeParams

NAME = "serve"
HELP = "predictions of image files over HTTP, by the champion"
ORDER = 60
EXAMPLE = "podium serve", "the same over HTTP"
EXAMPLES = """\
  podium serve                           the champion at 127.0.0.1:5001
  podium serve --version 7 --port 5002
  podium serve --alias challenger

  curl -s http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' \\
    -d "{\\"dataframe_records\\": [{\\"image\\": \\"$(base64 -w0 scan.png)\\"}]}"

Several images a request are several records. "array" instead of "image" takes pixels: rows of 0 to 255, or of
[red, green, blue]. With "params": {"probabilities": true} the response has the probability of every class. An
image that can't be used gets status 400 with an error message. `serve` in params.yaml holds the limits; Ctrl-C ends it.

It does what `mlflow models serve -m models:/NAME@champion --env-manager local` does, with files that were checked and
with limits on the size and the number of requests."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model, and where."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", type=version_number, metavar="N", help="this version instead of the champion")
    which.add_argument(
        "--alias", type=alias_name, metavar="NAME", help="the version with this alias (default: champion)"
    )
    parser.add_argument("--host", help="instead of serve.host")
    parser.add_argument("--port", type=int, help="instead of serve.port")


def run(arguments: argparse.Namespace) -> None:
    """Serve until a signal comes. Raises RefusedError where the model's files were changed."""
    params = _params(arguments)
    with opened() as (tracking, name):
        from podium.promotion import ledger
        from podium.registry import versions
        from podium.serving import server

        version = versions.find(tracking, name, arguments.version or arguments.alias or versions.CHAMPION)
        ledger.check_model(tracking, version)
        with versions.checked(tracking, version) as folder:
            print(f"{version} at http://{params.host}:{params.port}/invocations", flush=True)
            if params.host not in ("127.0.0.1", "::1", "localhost"):
                print(f"podium: everybody who reaches {params.host} can use it", file=sys.stderr, flush=True)
            server.serve(folder, params)


def _params(arguments: argparse.Namespace) -> "ServeParams":
    from pydantic import ValidationError

    from podium import paths
    from podium.config import problems
    from podium.config.params import ServeParams, load

    given = {name: getattr(arguments, name) for name in ("host", "port") if getattr(arguments, name) is not None}
    try:
        return ServeParams.model_validate(load(paths.PARAMS).serve.model_dump() | given)
    except ValidationError as error:
        raise InputError("; ".join(f"--{line}" for line in problems.sentences(error, [*given], []))) from None
