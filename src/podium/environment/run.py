"""Everything that is looked at, in the order in which it is told."""

from pathlib import Path

from podium import paths
from podium.config.params import Params, load
from podium.environment import machine, project
from podium.environment.finding import Finding
from podium.errors import InputError


def checkup() -> list[Finding]:
    """Look at this machine and at the project that this process stands in; nothing is changed."""
    root, mlruns = paths.root(), paths.mlruns()
    params = _params(paths.PARAMS)
    return [
        machine.python(),
        machine.packages(Path("requirements.lock")),
        machine.cuda(params.runtime.device),
        machine.disk(root),
        machine.ports(),
        project.parameters(paths.PARAMS),
        project.writable(mlruns),
        project.old_store(mlruns),
        project.foreign_database(root),
        project.tracking(params.tracking),
        project.locks(mlruns, root),
        project.tree(root),
        project.remote(root),
    ]


def _params(path: Path) -> Params:
    """Those of the project; where they are wrong, which is a finding of its own, the defaults."""
    try:
        return load(path)
    except InputError:
        return Params()
