import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import sys
import torch
from podium.training.optimization import build_optimizer
from podium.config.recipe import TrainParams

model = torch.nn.Linear(3, 2)
for name in ("sgd", "adamw"):
    optimizer = build_optimizer(model, TrainParams(optimizer=name))
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
import inspect
inspect.getmodule(sys._getframe())  # walks over every module, as torch.library does while torch.distributed is imported
assert "sympy" not in sys.modules, "the compiler was imported"

import torch._dynamo.config
assert torch._dynamo.config is sys.modules["torch._dynamo.config"]
assert "torch._dynamo.eval_frame" in sys.modules
compiled = torch.compile(model, backend="eager")
assert torch.equal(compiled(torch.ones(4, 3)), model(torch.ones(4, 3)))
print("done")
"""


def test_optimizers_do_without_the_compiler_until_something_is_compiled() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.stdout == "done\n", done.stderr


def test_module_that_imports_the_compiler_half_way_does_not_run_in_a_circle() -> None:
    script = "from podium.training import eager; eager.without_compiler(); import torch.distributed.tensor; "
    script += "import torch; torch.testing.assert_close(torch.ones(2), torch.ones(2))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_compiler_that_is_there_already_is_left_alone() -> None:
    script = "import torch._dynamo as d; from podium.training import eager; eager.without_compiler(); import torch; "
    script += "assert torch._dynamo is d"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
