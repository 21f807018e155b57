"""`podium serve`."""

import argparse
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from podium import process
from podium.commands._arguments import alias_name, version_number
from podium.commands._project import opened
from podium.errors import InputError

if TYPE_CHECKING:
    from socket import socket

    from podium.config.params import ServeParams
    from podium.registry.versions import Version
    from podium.serving.challenger import Beside
    from podium.serving.follower import Choice
    from podium.serving.workers import Worker
    from podium.tracking.store import Tracking

NAME = "serve"
HELP = "serve the champion over HTTP"
ORDER = 60
EXAMPLE = "podium serve", "the same over HTTP"
EXAMPLES = """\
  podium serve                           the champion at 127.0.0.1:5001; it follows promotions and rollbacks
  podium serve --pin 7 --port 5002       version 7, whatever is promoted
  podium serve --alias challenger
  podium serve --shadow challenger       the champion serves; the challenger predicts too, for `podium compare`
  podium serve --canary 0.05             the challenger serves one image of twenty, always the same ones

  curl --data-binary @scan.png -H 'Content-Type: image/png' http://127.0.0.1:5001/invocations
  curl -F image=@scan.png -F image=@other.jpg http://127.0.0.1:5001/invocations
  curl -s http://127.0.0.1:5001/invocations -H 'Content-Type: application/json' \\
    -d "{\\"dataframe_records\\": [{\\"image\\": \\"$(base64 -w0 scan.png)\\"}]}"

Several images per request are several records. "array" instead of "image" takes pixels: rows of 0 to 255, or of
[red, green, blue]. With "params": {"probabilities": true} the response has the probability of every class. An
image that can't be used gets status 400 with an error message. `serve` in params.yaml holds the limits; Ctrl-C or
SIGTERM ends it, after the requests in progress. /health, /ready and /metrics are for operators.

--shadow stores what both versions predict, in mlruns/shadow; it delays and changes no response. With --canary the
image's own bytes (SHA-256) decide, so the same image always goes to the same version; every prediction names its
version. Both together compare on all images. The second version is followed and verified like the first one.

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
    parser.add_argument(
        "--shadow", type=second_version, metavar="NAME", help="let the version with this alias, or number, predict too"
    )
    parser.add_argument(
        "--canary",
        type=share_of_images,
        metavar="FRACTION",
        help="fraction of the images that the version of --shadow serves, such as 0.05 (alone: the challenger)",
    )
    parser.add_argument("--host", help="instead of serve.host")
    parser.add_argument("--port", type=int, help="instead of serve.port")


def second_version(text: str) -> int | str:
    """The number of a version, or the name of an alias."""
    return version_number(text) if text.isascii() and text.isdigit() else alias_name(text)


def share_of_images(text: str) -> float:
    """A part of the images, above 0 and below 1."""
    try:
        share = float(text)
    except ValueError:
        share = float("nan")
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(
            f"must be a fraction of the images, above 0 and below 1, such as 0.05; got {text!r}"
        )
    return share


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
    try:
        version = _announce(arguments, params)
        if params.workers == 1:
            _serve(arguments, params, sockets)
        else:
            from podium.serving import workers

            process.print_if_possible(f"podium: {params.workers} workers for {version}", sys.stderr)
            workers.supervise(lambda: _worker(sockets), params.workers, params.drain_seconds)
    finally:
        for one in sockets:
            one.close()


def _announce(arguments: argparse.Namespace, params: "ServeParams") -> str:
    """Look which version it is, and say where it will be: what can't be is said before workers start."""
    from podium.serving import listening

    with opened() as (tracking, name):
        version = _choice(arguments, tracking, name, said=None).find()
        if (beside := _beside(arguments, tracking, name)) is not None:
            process.print_if_possible(_what_for(beside, beside.choice.find()), sys.stderr)
    # A full disk of logs is no reason not to serve.
    process.print_if_possible(f"{version} at {listening.url(params.host, params.port)}/invocations", sys.stdout)
    if params.host not in ("127.0.0.1", "::1", "localhost"):
        process.print_if_possible(f"podium: everybody who reaches {params.host} can use it", sys.stderr)
    return str(version)


def _serve(arguments: argparse.Namespace, params: "ServeParams", sockets: "list[socket]") -> None:
    with opened() as (tracking, name):
        from podium import paths
        from podium.config.params import load
        from podium.serving import server

        beside = _beside(arguments, tracking, name)
        drift = load(paths.PARAMS).drift
        server.serve(_choice(arguments, tracking, name, said=set()), params, sockets, beside, drift)


def _choice(arguments: argparse.Namespace, tracking: "Tracking", name: str, said: set[str] | None) -> "Choice":
    from podium.registry import versions

    return _choice_of(arguments.pin or arguments.alias or versions.CHAMPION, tracking, name, said)


def _choice_of(which: int | str, tracking: "Tracking", name: str, said: set[str] | None = None) -> "Choice":
    """Where the version comes from. In `said` are the warnings about it that are in the log already; None: log none."""
    from podium.promotion import ledger
    from podium.serving.follower import LOG, Choice

    def check(version: "Version") -> None:
        book = ledger.read(tracking.client, name)
        ledger.check_model(tracking, version, book)
        warning = ledger.by_hand(version, book) if isinstance(which, str) else ""
        if said is not None and warning and warning not in said:
            LOG.warning("%s", warning)
            said.add(warning)

    return Choice(tracking, name, which, check)


def _beside(arguments: argparse.Namespace, tracking: "Tracking", name: str) -> "Beside | None":
    """The second version. Raises InputError where it is the first one by its own name."""
    from podium.registry import versions
    from podium.serving.challenger import Beside

    if arguments.shadow is None and arguments.canary is None:
        return None
    which = arguments.shadow or versions.CHALLENGER
    if which == (arguments.pin or arguments.alias or versions.CHAMPION):
        option = "--shadow" if arguments.shadow else "--canary"
        raise InputError(f"{option}: {which} is served already: name another version, such as the challenger")
    choice = _choice_of(which, tracking, name)
    return Beside(choice, arguments.shadow is not None, arguments.canary or 0.0)


def _what_for(beside: "Beside", version: object) -> str:
    done = [f"serves {100 * beside.canary:g}% of the images"] if beside.canary else []
    done += ["predicts every served image (`podium compare`)"] if beside.shadow else []
    return f"podium: {version} {' and '.join(done)}"


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
