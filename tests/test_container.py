"""deploy/: the rules that the image and the manifest of the server rely on, and what the image holds."""

import ast
import json
import re
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from asgi_calls import application
from podium.closure import import_closure
from podium.config.params import Params, ServeParams, load

ROOT = Path(__file__).parents[1]
NUMBER = re.compile(r"[1-9]\d*")
OPTIONAL = {"pillow-heif"}
"""Imported where it is installed."""
PARTS = {"pydantic-core"}
"""Of another package of the group, which asks for one exact version of it."""


def instructions() -> list[tuple[str, str]]:
    """Of deploy/Dockerfile: each with what follows it on its line and the lines continued."""
    text = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def last_stage() -> dict[str, str]:
    """The last of each instruction in what becomes the image."""
    found = instructions()
    start = max(place for place, (name, _) in enumerate(found) if name == "FROM")
    return dict(found[start:])


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    """The objects of deploy/server.yaml by kind."""
    loaded = YAML(typ="safe").load_all((ROOT / "deploy/server.yaml").read_text(encoding="utf-8"))
    return {one["kind"]: one for one in loaded}


@pytest.fixture(scope="module")
def params(manifest: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Params:
    """What the server in the pod reads."""
    path = tmp_path_factory.mktemp("project") / "params.yaml"
    path.write_text(manifest["ConfigMap"]["data"]["params.yaml"], encoding="utf-8")
    return load(path)


def pod(manifest: dict[str, Any]) -> Any:
    return manifest["Deployment"]["spec"]["template"]["spec"]


def server(manifest: dict[str, Any]) -> Any:
    (one,) = pod(manifest)["containers"]
    return one


def test_image_runs_as_a_numbered_user_in_a_process_that_signals_reach() -> None:
    last = last_stage()
    user, group = last["USER"].split(":")
    assert NUMBER.fullmatch(user)
    assert NUMBER.fullmatch(group)
    command = json.loads(last["ENTRYPOINT"])  # a list: no shell between the signal and the server
    assert command[:2] == ["podium", "serve"]
    assert command[command.index("--port") + 1] == last["EXPOSE"] == str(ServeParams().port)
    assert "CMD" not in last
    address = re.search(r"http://[\w.]+:(\d+)(/\w+)", last["HEALTHCHECK"])
    assert address
    assert address.groups() == (last["EXPOSE"], "/health")


def test_image_is_made_of_pinned_parts() -> None:
    found = instructions()
    assert "ADD" not in {name for name, _ in found}
    bases = [rest for name, rest in found if name == "FROM"]
    assert all(base.split()[0] == "python:${PYTHON}" for base in bases)
    assert next(rest for name, rest in found if name == "ARG") == "PYTHON=3.11-slim-bookworm"
    installs = [one for name, rest in found if name == "RUN" for one in rest.split("&&") if "pip install" in one]
    for one in installs:
        assert "--no-deps" in one
        assert any(pin in one for pin in ("--require-hashes", "--no-index", "'^torch==[0-9.]*' requirements.lock"))
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert len(re.findall(r"^torch==[0-9.]*", lock, re.MULTILINE)) == 1


def test_context_lets_through_what_is_copied_and_no_data() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] not in "#"]
    assert rules[0] == "*"
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    copied = [
        word
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for word in rest.split()[:-1]
    ]
    assert sorted(copied) == sorted(allowed)
    assert all((ROOT / one).exists() for one in copied)
    assert not any(fnmatch(one, "data*") or fnmatch(one, "mlruns*") for one in allowed)


def test_probes_ask_pages_that_the_server_has(manifest: dict[str, Any]) -> None:
    paths = application().pages.paths
    container = server(manifest)
    probes = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["path"] for probe in probes.values()} <= paths
    assert probes["livenessProbe"]["path"] == "/health"  # a registry that is away must restart nobody
    assert probes["readinessProbe"]["path"] == "/ready"
    (port,) = container["ports"]
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    assert str(port["containerPort"]) == last_stage()["EXPOSE"]
    notes = manifest["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert (notes["prometheus.io/port"], notes["prometheus.io/path"]) == (last_stage()["EXPOSE"], "/metrics")
    assert notes["prometheus.io/path"] in paths


def test_pod_has_no_rights_and_writes_to_tmp_alone(manifest: dict[str, Any]) -> None:
    inside, container = pod(manifest), server(manifest)
    user = last_stage()["USER"]
    assert inside["securityContext"]["runAsNonRoot"] is True
    assert f"{inside['securityContext']['runAsUser']}:{inside['securityContext']['runAsGroup']}" == user
    assert inside["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert inside["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    writable = [path for path, mount in mounts.items() if not mount.get("readOnly")]
    assert writable == [re.findall(r"TMPDIR=(\S+)", last_stage()["ENV"])[0]]
    assert mounts[last_stage()["WORKDIR"]]["name"] == "params"


def test_windows_of_drift_have_a_folder_that_the_pod_can_write(manifest: dict[str, Any], params: Params) -> None:
    mounts = server(manifest)["volumeMounts"]
    writable = [Path(mount["mountPath"]) for mount in mounts if not mount.get("readOnly")]
    folder = Path(params.drift.folder)
    assert params.drift.window is None or any(folder.is_relative_to(path) for path in writable)


def test_pod_has_the_time_and_the_memory_that_its_parameters_ask_for(manifest: dict[str, Any], params: Params) -> None:
    inside, container, serve = pod(manifest), server(manifest), params.serve
    pause = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert inside["terminationGracePeriodSeconds"] >= serve.drain_seconds + pause + 10
    memory = re.fullmatch(r"(\d+)Gi", container["resources"]["limits"]["memory"])
    assert memory
    assert int(memory[1]) * 2**30 >= serve.workers * (serve.memory_mb * 1e6 + 1e9)
    assert params.tracking.uri.startswith("http")  # no file is shared with a pod
    assert manifest["Service"]["spec"]["selector"] == inside_labels(manifest)


def inside_labels(manifest: dict[str, Any]) -> Any:
    return manifest["Deployment"]["spec"]["template"]["metadata"]["labels"]


def of_the_group() -> dict[str, Requirement]:
    """The packages of the dependency group `serve`."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = [Requirement(line) for line in content["dependency-groups"]["serve"]]
    return {canonicalize_name(one.name): one for one in found}


def imported(modules: tuple[str, ...]) -> set[str]:
    """The packages that the modules' own files import, wherever in them."""
    files = {path for module in modules for path in import_closure(module, ROOT / "src")}
    names: set[str] = set()
    for path in files:
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module)
    tops = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"podium"}
    known = packages_distributions()
    return {canonicalize_name(known[top][0]) for top in tops - {"mlflow", "ruamel"}} | (
        {"mlflow-skinny"} if "mlflow" in tops else set()
    )


def test_group_holds_what_the_server_and_the_model_in_it_import() -> None:
    modules = ("podium.cli", "podium.commands.serve", "podium.registry.served_model")
    missing = imported(modules) - {"torch"} - OPTIONAL - PARTS - of_the_group().keys()
    assert not missing, "add them to the group `serve` of pyproject.toml, and run `make lock`"


def test_group_holds_what_torch_needs_without_cuda() -> None:
    needed = {
        canonicalize_name(one.name)
        for one in map(Requirement, requires("torch") or [])
        if "extra" not in str(one.marker) and not re.match(r"nvidia|cuda|triton", one.name)
    }
    assert needed <= of_the_group().keys()


def test_lock_of_the_image_has_the_versions_of_the_project() -> None:
    pins = [
        dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))
        for name in ("requirements.lock", "requirements-serve.lock")
    ]
    assert of_the_group().keys() <= pins[1].keys()
    assert pins[1].items() <= pins[0].items()
    assert "torch" not in pins[1]
    assert "mlflow" not in pins[1]  # skinny: without its pages
