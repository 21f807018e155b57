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


FAILURES = """
import importlib.util, sys, types
import torch
from podium.training import eager

def is_untouched():
    return "torch._dynamo" not in sys.modules and "_dynamo" not in vars(torch)

assert is_untouched()
find_spec = importlib.util.find_spec
def fails(name):
    raise ValueError(name)
for other in (fails, lambda name: None):
    importlib.util.find_spec = other
    eager.without_compiler()
    assert is_untouched(), other
del importlib.util.find_spec
eager.without_compiler()
assert is_untouched(), "no find_spec"
importlib.util.find_spec = find_spec

class Refusing(types.ModuleType):
    def __setattr__(self, name, value):
        if name == "_dynamo":
            raise TypeError(name)
        super().__setattr__(name, value)
torch.__class__ = Refusing
eager.without_compiler()
assert is_untouched(), "torch takes no attribute"
torch.__class__ = types.ModuleType

class NoCompiler:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("torch._dynamo"):
            raise ModuleNotFoundError(name)
eager.without_compiler()
assert sys.modules["torch._dynamo"] is vars(torch)["_dynamo"]
sys.meta_path.insert(0, NoCompiler())
for ask in (lambda: torch._dynamo.config, lambda: torch._dynamo.disable()):
    try:
        ask()
    except ModuleNotFoundError:
        assert is_untouched()
    else:
        raise AssertionError("an import that fails has to say so")
sys.meta_path.pop(0)

eager.without_compiler()
later = torch._dynamo
assert callable(later.disable(recursive=False)(print))
assert callable(later.disable(print, reason="an option that is not known"))
assert sys.modules["torch._dynamo"] is torch._dynamo is not later
assert hasattr(sys.modules["torch._dynamo"], "eval_frame")
print("done")
"""


def test_whatever_fails_leaves_torch_as_it_was() -> None:
    done = subprocess.run([sys.executable, "-c", FAILURES], capture_output=True, text=True)
    assert done.stdout == "done\n", done.stderr
    assert done.stderr.count("is not what Podium expects") == 1
