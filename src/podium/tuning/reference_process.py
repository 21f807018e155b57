"""The reference lines are measured in a process of its own, forked from the server of the workers where there is one.

So the search's process does without torch to its end; and where memory is short, the kernel kills what computes the
lines, not what has the study, and the search ends without them.
"""

import json
import multiprocessing
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from podium import process
from podium.config.params import Params
from podium.data.dataset import open_split
from podium.errors import InputError, PodiumError
from podium.own_code import RAISED
from podium.training.memory_errors import out_of_memory
from podium.tuning.pools.processes import how_it_ended
from podium.tuning.reference_lines import LABELS, Lines


def measure(params: Params, prepared: Path) -> Lines:
    """See `reference_measuring.measure`, which this raises the errors of. Without a single line where its process was
    killed, or found too little memory.
    """
    if params.runtime.engine == "inline":  # it has trained in this very process: torch is here
        from podium.tuning import reference_measuring

        return reference_measuring.measure(params, prepared)
    context: Any = multiprocessing.get_context("spawn" if sys.platform == "darwin" else "forkserver")
    ours, theirs = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(theirs, params, str(prepared)), daemon=True)
    with process.ignored_signals():
        worker.start()
    theirs.close()
    try:
        answer: dict[str, Any] = json.loads(ours.recv_bytes())
    except (EOFError, OSError):
        worker.join(timeout=5)
        return _without(params, prepared, worker.exitcode)
    finally:
        worker.kill()
        ours.close()
    if "missing" in answer:
        return _no_lines(params, prepared, answer["missing"])
    if "lines" in answer:
        return Lines.from_dict(answer["lines"])
    raise (InputError if answer["input"] else PodiumError)(answer["error"])


def _without(params: Params, prepared: Path, code: int | None) -> Lines:
    """No line at all, and why. Raises PodiumError where the process ended by an error, which it has printed."""
    why = f"its process {how_it_ended(code)}"
    if code is None or code >= 0:
        raise PodiumError(f"the baselines could not be measured: {why}; see what it printed above")
    return _no_lines(params, prepared, why)


def _no_lines(params: Params, prepared: Path, why: str) -> Lines:
    metric, images = params.search.component("metric"), open_split(prepared / "val").labels
    return Lines(metric.label, metric.direction, len(images), (), dict.fromkeys(LABELS, why))


def _work(pipe: "Connection[Any, Any]", params: Params, prepared: str) -> None:
    from podium.tuning.pools.worker import end_with_the_driver
    from podium.tuning.reference_measuring import measure as measured

    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Ctrl-C reaches the whole group: it is the driver's
    end_with_the_driver()
    answer: dict[str, Any]
    try:
        answer = {"lines": measured(params, Path(prepared)).to_dict()}
    except RAISED as error:
        if out_of_memory(error):
            answer = {"missing": f"its process found too little memory: {error or 'MemoryError'}"}
        elif isinstance(error, PodiumError):
            answer = {"error": str(error), "input": isinstance(error, InputError)}
        else:
            raise
    pipe.send_bytes(json.dumps(answer).encode())
