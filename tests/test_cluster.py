import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from own import OwnCode
from podium import cluster, private_names
from podium.config.params import RuntimeParams, parse
from podium.errors import InputError, PodiumError


def _node(cpus: float, gpus: float = 0.0, *, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "NodeManagerHostname": "a", "Resources": {"CPU": cpus, "GPU": gpus}}


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "fit"),
    [
        ([], 1, 0, 0),
        ([_node(4)], 1, 0, 4),
        ([_node(4), _node(2)], 1, 0, 6),
        ([_node(4), _node(2, alive=False)], 1, 0, 4),
        ([_node(3)], 2, 0, 1),
        ([_node(1), _node(1)], 2, 0, 0),  # two halves of a trial are no place for one
        ([_node(1)], 0.1, 0, 10),
        ([_node(8, 1)], 1, 0.5, 2),
        ([_node(8, 2)], 1, 0.4, 4),  # 0.4 fits twice on each GPU, not five times on two
        ([_node(8, 3)], 1, 2, 1),
        ([_node(1, 4)], 1, 0.5, 1),
        ([_node(8)], 1, 0.5, 0),
    ],
)
def test_slots_are_what_fits_on_each_living_node(nodes: list[Any], cpus: float, gpus: float, fit: int) -> None:
    assert cluster.slots(nodes, cpus, gpus) == fit


def test_trial_that_fits_nowhere_is_refused_unless_an_autoscaler_is_to_bring_a_node() -> None:
    wanted = RuntimeParams(engine="ray", trial_cpus=2, trial_gpus=1)
    with pytest.raises(InputError, match=r"trial_gpus 1\); there are a: 4 CPUs, 0 GPUs\. Reserve"):
        cluster.check_fits([_node(4)], wanted)
    cluster.check_fits([_node(4, 1)], wanted)
    cluster.check_fits([_node(4)], wanted.model_copy(update={"queued": 1}))


def test_gpus_that_no_trial_reserves_are_mentioned(capsys: pytest.CaptureFixture[str]) -> None:
    cluster.check_fits([_node(4, 2)], RuntimeParams(engine="ray", trial_gpus=0.0))
    assert "the cluster has 2 GPUs and runtime.trial_gpus is 0: the trials train on CPUs" in capsys.readouterr().out
    for quiet in ({"trial_gpus": 1.0}, {"device": "cpu"}):
        cluster.check_fits([_node(4, 2)], RuntimeParams.model_validate({"engine": "ray"} | quiet))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("nodes", "runtime", "gpus", "said"),
    [
        ([_node(4, 2)], {}, 1.0, "the cluster has 2 GPUs: each trial reserves 1 (runtime.workers_per_device 1)"),
        ([_node(4), _node(4, 1)], {"workers_per_device": 2}, 0.5, "has 1 GPUs: each trial reserves 0.5"),
        ([_node(4, 2)], {"trial_gpus": 0.25, "workers_per_device": 2}, 0.25, ""),
        ([_node(4, 2)], {"device": "cpu"}, 0.0, ""),
        ([_node(4)], {}, 0.0, ""),
    ],
)
def test_trial_reserves_a_share_of_a_gpu_where_there_are_some(
    nodes: list[Any], runtime: dict[str, Any], gpus: float, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = RuntimeParams.model_validate({"engine": "ray", **runtime})
    assert cluster.check_fits(nodes, wanted) == (1.0, gpus)
    assert said in capsys.readouterr().out


def test_ray_that_is_not_installed_is_named_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="need Ray, which is not installed: `make install-cluster`"):
        cluster.prepare(RuntimeParams(engine="ray"))


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("address: ray://head:10001", "runtime.address: must be empty"),
        ("address: head", "runtime.address: must be empty"),
        ("trial_gpus: 1.5", "trial_gpus must be a whole number where it is above 1; got 1.5"),
        (
            "engine: ray\n  device: cuda\n  trial_gpus: 0.0",
            "trial_gpus must be above 0 with engine: ray",
        ),
        ("trial_cpus: 0", "runtime.trial_cpus: must be greater than 0; got 0"),
    ],
)
def test_parameters_that_can_not_be_are_refused(lines: str, problem: str) -> None:
    with pytest.raises(InputError) as error:
        parse(f"runtime:\n  {lines}\n")
    assert problem in str(error.value)


@pytest.mark.parametrize("address", ["", "auto", "10.0.0.1:6379", "head.example:6379"])
def test_addresses_of_clusters_are_taken(address: str) -> None:
    assert parse(f"runtime: {{address: '{address}'}}").runtime.address == address


@pytest.mark.parametrize("there", [True, False])
def test_local_cluster_does_without_shared_memory_that_it_can_not_write_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: bool
) -> None:
    monkeypatch.setattr(cluster, "SHARED_MEMORY", str(tmp_path if there else tmp_path / "none"))
    assert ("_plasma_directory" in cluster._local(2, 0)) is not (there or sys.platform != "linux")


def test_local_cluster_starts_where_ray_has_no_name_for_the_folder_of_objects(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[dict[str, Any]] = []

    def begin(**options: Any) -> None:
        if cluster.OBJECTS in options:
            raise RuntimeError(f"Unknown keyword argument(s): {cluster.OBJECTS}")
        begun.append(options)

    ray = SimpleNamespace(is_initialized=lambda: False, init=begin, shutdown=lambda: None)
    monkeypatch.setattr(cluster, "prepare", lambda runtime: None)
    monkeypatch.setattr(cluster, "SHARED_MEMORY", str(tmp_path / "none"))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(private_names, "_said", set())
    for _ in range(2):
        with cluster.opened(RuntimeParams(), 2):
            pass
    assert [options["num_cpus"] for options in begun] == [2, 2]
    assert capsys.readouterr().err.count("Ray is not what Podium expects") == 1


def test_workers_get_podium_and_every_module_and_package_of_the_projects_src(own: OwnCode) -> None:
    own.write("WIDTH = 3", "my_net")
    for name in ("my_package/__init__.py", "my_package/deep/part.py", "bare/part.py", "podium/old.py"):
        (own.source / name).parent.mkdir(parents=True, exist_ok=True)
        (own.source / name).touch()
    for name in ("__pycache__/my_net.py", "podium.egg-info/x.py", "images/a.png", "notes.txt", "not-a-module.py"):
        (own.source / name).parent.mkdir(parents=True, exist_ok=True)
        (own.source / name).touch()
    podium, *others = cluster.shipped_modules()
    assert podium == str(Path(cluster.__file__).parent)
    assert others == [str(own.source / name) for name in ("bare", "my_net.py", "my_package")]


IMPORTS = """
import sys
import podium.tuning.session, podium.tuning.outcome, podium.tuning.confirm, podium.tuning.upkeep
import podium.tuning.pools.processes, podium.tuning.pools.worker, podium.tuning.pools.inline
import podium.retraining.winner, podium.cli
found = sorted({name.partition(".")[0] for name in sys.modules} & {"ray", "psycopg"})
assert not found, found
"""


@pytest.mark.slow
def test_default_engine_imports_neither_ray_nor_psycopg() -> None:
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)


@pytest.mark.slow
def test_cluster_that_does_not_answer_is_named_with_what_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
from podium import cluster
from podium.config.params import RuntimeParams
with cluster.opened(RuntimeParams(engine="ray", address="127.0.0.1:9"), 1):
    pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert PodiumError.__name__ in done.stderr
    assert "runtime.address: 127.0.0.1:9 does not work" in done.stderr
