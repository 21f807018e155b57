"""`podium serve`."""

import argparse
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from podium.commands._arguments import alias_name, version_number
from podium.commands._project import opened
from podium.errors import InputError

if TYPE_CHECKING:
    from socket import socket

    from podium.config.params import ServeParams
    from podium.serving.follower import Choice
    from podium.serving.workers import Worker
    from podium.tracking.store import Tracking

NAME = "serve"
HELP = "predictions of image files over HTTP, by the champion"
ORDER = 60
EXAMPLE = "podium serve", "the same over HTTP"
EXAMPLES = """\
  podium serve                           the champion at 127.0.0.1:5001; it follows promotions and rollbacks
  podium serve --pin 7 --port 5002       version 7, whatever is promoted
  podium serve --alias challenger

  curl --data-binary @scan.png -H 'Content-Type: image/png' http://127.0.0.1:5001/invocations
  curl -F image=@scan.png -F image=@other.jpg http://127.0.0.1:5001/invocations
  curl -s http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' \\
    -d "{\\"dataframe_records\\": [{\\"image\\": \\"$(base64 -w0 scan.png)\\"}]}"

Several images a request are several records. "array" instead of "image" takes pixels: rows of 0 to 255, or of
[red, green, blue]. With "params": {"probabilities": true} the response has the probability of every class. An
image that can't be used gets status 400 with an error message. `serve` in params.yaml holds the limits; Ctrl-C or
SIGTERM ends it, after what is at work was answered. /health, /ready and /metrics are for operators.

Exit codes: 2 where the port is in use, 1 where the version's files are not those that were registered."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model, and where."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--pin", "--version", dest="pin", type=version_number, metavar="VERSION", help="this version; never another one"
    )
    which.add_argument(
        "--alias", type=alias_name, metavar="NAME", help="follow the version with this alias (default: champion)"
    )
    parser.add_argument("--host", help="instead of serve.host")
    parser.add_argument("--port", type=int, help="instead of serve.port")


def run(arguments: argparse.Namespace) -> None:
    """Serve until a signal comes. Raises RefusedError where the model's files were changed."""
    from podium.serving import listening

    params = _params(arguments)
    sockets = listening.inherited()
    if sockets:
        _end_with_parent()
        _serve(arguments, params, sockets)
        return
    sockets = listening.listen(params.host, params.port, params.timeout_seconds)
    version = _announce(arguments, params)
    if params.workers == 1:
        _serve(arguments, params, sockets)
    else:
        from podium.serving import workers

        print(f"podium: {params.workers} workers for {version}", file=sys.stderr, flush=True)
        workers.supervise(lambda: _worker(sockets), params.workers, params.drain_seconds)


def _announce(arguments: argparse.Namespace, params: "ServeParams") -> str:
    """Look which version it is, and say where it will be: what can't be is said before workers start."""
    from podium.serving import listening

    with opened() as (tracking, name):
        version = _choice(arguments, tracking, name).find()
    print(f"{version} at {listening.url(params.host, params.port)}/invocations", flush=True)
    if params.host not in ("127.0.0.1", "::1", "localhost"):
        print(f"podium: everybody who reaches {params.host} can use it", file=sys.stderr, flush=True)
    return str(version)


def _serve(arguments: argparse.Namespace, params: "ServeParams", sockets: "list[socket]") -> None:
    with opened() as (tracking, name):
        from podium.serving import server

        server.serve(_choice(arguments, tracking, name), params, sockets)


def _choice(arguments: argparse.Namespace, tracking: "Tracking", name: str) -> "Choice":
    from podium.promotion import ledger
    from podium.registry import versions
    from podium.serving.follower import Choice

    which = arguments.pin or arguments.alias or versions.CHAMPION
    return Choice(tracking, name, which, lambda version: ledger.check_model(tracking, version))


def _worker(sockets: "list[socket]") -> "Worker":
    """The same command in a process of its own, with the sockets."""
    from podium.serving import listening
    from podium.serving.workers import Worker

    numbers = [one.fileno() for one in sockets]
    environment = os.environ | {listening.VARIABLE: ",".join(map(str, numbers))}
    return Worker([sys.executable, "-m", "podium.cli", *sys.argv[1:]], environment, numbers)


def _end_with_parent() -> None:
    """End as by SIGTERM when the process that started this worker is gone, also if it was killed."""

    def wait() -> None:
        while os.read(0, 1024):  # not by sys.stdin, whose lock would still be held when Python ends
            continue
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="podium-parent", daemon=True).start()


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
