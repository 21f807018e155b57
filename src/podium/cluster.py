"""The way into Ray: a cluster of this machine alone, or one that is there; its token, and what fits on its nodes.

Importing this does not import Ray, which the one-machine default does without.
"""

import importlib.util
import logging
import math
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from podium import own_code
from podium.errors import InputError, PodiumError
from podium.private_names import say

if TYPE_CHECKING:
    from podium.config.params import RuntimeParams

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # who reserves no GPU sees none
}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray's own switch for laptops: a cluster of one machine that listens on 127.0.0.1; else it listens everywhere."""
ANSWERS_WITHIN = 10.0
"""Seconds in which a cluster's head takes a connection."""
OBJECTS = "_plasma_directory"
"""The folder of the objects that workers share, as Ray 2.60 calls it."""
SHARED_MEMORY = "/dev/shm"  # noqa: S108 (Ray's own choice: we only look whether it is one)
"""Where Ray has the object store on Linux: a container may have none there, or a read-only one."""
SPARE = 96 * 2**20
"""Bytes of the local object store beyond the images."""


@contextmanager
def opened(runtime: "RuntimeParams", cpus: float, stored: int = 0) -> Iterator[None]:
    """Be connected to Ray within the block: to `runtime.address`, or to a new cluster of this machine.

    A local cluster has `cpus` CPUs, the GPUs that are there, and a store for `stored` bytes; it ends with the block,
    and with this process however that ends. A connection that is there already is used and left as it is.
    Raises InputError where Ray is not installed, PodiumError where the cluster does not answer or does not let us in.
    """
    prepare(runtime)
    import ray

    if ray.is_initialized():
        yield
        return
    _check_answers(runtime.address)
    try:
        with _signals_are_ours():
            _begin(_cluster(runtime.address) if runtime.address else _local(cpus, stored))
    except Exception as error:  # a cluster that does not start raises just this
        raise PodiumError(_message(runtime.address, error)) from None
    try:
        yield
    finally:
        ray.shutdown()


def _begin(options: dict[str, Any]) -> None:
    """Start Ray. It has no public name for where a cluster of this process keeps its objects."""
    import ray

    try:
        ray.init(**options)
    except (RuntimeError, TypeError) as error:
        if OBJECTS not in options or OBJECTS not in str(error):
            raise
        ray.init(**{name: value for name, value in options.items() if name != OBJECTS})
        say("ray", "it chooses by itself where the workers' objects lie, and may be slower", error)


def prepare(runtime: "RuntimeParams") -> None:
    """Set what Ray reads from the environment when it is imported. Raises InputError where it is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise InputError(
            "runtime.engine: ray and runtime.devices above 1 need Ray, which is not installed: `make install-cluster`"
        )
    local = not runtime.address
    for key, value in (ENVIRONMENT | (LOOPBACK if local else {})).items():
        os.environ.setdefault(key, value)
    if local and not _has_token():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # of this cluster alone, and in no file


def nodes() -> list[dict[str, Any]]:
    """The nodes of the cluster, those that are gone too, as Ray describes them."""
    import ray

    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return found


def on_this_node() -> dict[str, Any]:
    """Options of an actor that lives on this process's node, needs no CPU, and is started again where it is killed."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}


def slots(nodes: Iterable[Mapping[str, Any]], cpus: float, gpus: float) -> int:
    """How many tasks of `cpus` CPUs and `gpus` GPUs fit on `nodes` (as ray.nodes() gives them) at the same time."""
    return sum(_fits(node["Resources"], cpus, gpus) for node in nodes if node["Alive"])


def reserved(nodes: Iterable[Mapping[str, Any]], runtime: "RuntimeParams") -> tuple[float, float]:
    """The CPUs and GPUs that a trial reserves: `runtime`'s, or where it leaves the GPUs open a share of one if `nodes`
    have some.
    """
    if runtime.trial_gpus is not None:
        return runtime.trial_cpus, runtime.trial_gpus
    gpus = sum(node["Resources"].get("GPU", 0.0) for node in nodes if node["Alive"])
    if runtime.device == "cpu" or not (gpus or runtime.device == "cuda"):
        return runtime.trial_cpus, 0.0
    share = 1 / runtime.workers_per_device
    print(
        f"the cluster has {gpus:g} GPUs: each trial reserves {share:g}"
        f" (runtime.workers_per_device {runtime.workers_per_device})"
    )
    return runtime.trial_cpus, share


def check_fits(nodes: Iterable[Mapping[str, Any]], runtime: "RuntimeParams") -> tuple[float, float]:
    """The CPUs and GPUs that a trial reserves. Raises InputError where no node has them, unless an autoscaler is to add
    one.

    GPUs that nobody reserves stay idle, which is printed.
    """
    nodes = [node for node in nodes if node["Alive"]]
    cpus, share = reserved(nodes, runtime)
    gpus = sum(node["Resources"].get("GPU", 0.0) for node in nodes)
    if gpus and not share and runtime.device != "cpu":
        print(f"the cluster has {gpus:g} GPUs and runtime.trial_gpus is 0: the trials train on CPUs")
    if runtime.queued or slots(nodes, cpus, share):
        return cpus, share
    has = "; ".join(f"{n['NodeManagerHostname']}: {_amounts(n['Resources'])}" for n in nodes) or "no node"
    raise InputError(
        f"no node of the cluster has what a trial reserves (runtime.trial_cpus {cpus:g},"
        f" runtime.trial_gpus {share:g}); there are {has}. Reserve less, or let an autoscaler add more"
        " nodes with runtime.queued: 1"
    )


@contextmanager
def _signals_are_ours() -> Iterator[None]:
    """Within the block Ray starts with SIGTERM blocked, and this process's own answer to it stays.

    Ray would answer in our place with exit code 1. And where SIGTERM is sent to the whole group, its servers would be
    gone before the trials are saved; the mask is inherited, as Ray itself has it inherited for Ctrl-C. They still end
    with this process: the kernel kills them then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    answer = signal.getsignal(signal.SIGTERM)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, answer)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _check_answers(address: str) -> None:
    """Raise PodiumError where nobody listens at `address`, host:port: Ray itself would try for many minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return  # nothing, `auto`, or an address of Ray's client
    try:
        socket.create_connection((host, int(port)), timeout=ANSWERS_WITHIN).close()
    except OSError as error:
        raise PodiumError(_message(address, error)) from None


def _message(address: str, error: Exception) -> str:
    cause = " ".join(str(error).split())[:300].rstrip(".")
    if not address:
        return (
            f"Ray could not start a cluster on this machine: {cause}. A busy machine may be too slow for it: try again"
        )
    return (
        f"runtime.address: {address} does not work: {cause}. See that `ray status` answers here and that this machine"
        " has the cluster's token (~/.ray/auth_token, RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH)"
    )


def _has_token() -> bool:
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or (Path.home() / ".ray" / "auth_token").is_file()


def _local(cpus: float, stored: int) -> dict[str, Any]:
    usable = sys.platform != "linux" or os.access(SHARED_MEMORY, os.W_OK | os.X_OK)
    return {
        "address": "local",
        "num_cpus": max(1, math.ceil(cpus)),
        "include_dashboard": False,
        "object_store_memory": 2 * stored + SPARE,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    } | ({} if usable else {OBJECTS: tempfile.gettempdir()})  # one that is too small Ray sees by itself


def _cluster(address: str) -> dict[str, Any]:
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        print("Ray's token authentication is switched off (RAY_AUTH_MODE): whoever reaches the cluster can use it")
    return {
        "address": address,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        # The workers' code is the driver's, whatever is installed there: a study is named after a digest of it.
        "runtime_env": {"py_modules": shipped_modules()},
    }


def shipped_modules() -> list[str]:
    """The paths of the code that every worker of a cluster gets: Podium, then the modules and packages of `src/`."""
    podium = Path(__file__).resolve().parent
    own = sorted(path for path in own_code.source_folder().glob("*") if _is_module(path) and path.name != podium.name)
    return [str(path) for path in (podium, *own)]


def _is_module(path: Path) -> bool:
    """Whether `path` is a module or a package, with or without an `__init__.py`."""
    if path.is_dir():
        return path.name.isidentifier() and path.name != "__pycache__" and any(path.rglob("*.py"))
    return path.suffix == ".py" and path.stem.isidentifier()


def _fits(resources: Mapping[str, float], cpus: float, gpus: float) -> int:
    fits = int(resources.get("CPU", 0.0) / cpus + 1e-6)
    if not gpus:
        return fits
    there = resources.get("GPU", 0.0)
    # Shares of one GPU do not add up across two: 0.4 fits twice on each.
    return min(fits, int(there) * int(1 / gpus + 1e-6) if gpus <= 1 else int(there / gpus))


def _amounts(resources: Mapping[str, float]) -> str:
    return f"{resources.get('CPU', 0.0):g} CPUs, {resources.get('GPU', 0.0):g} GPUs"
