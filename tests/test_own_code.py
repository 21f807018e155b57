"""People's own code by name: what is wrong with it is said with the file and the line of that code."""

import math
import re
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pydantic
import pytest
import torch

from own import OwnCode
from podium import own_code
from podium.errors import InputError

MODULE = """
import math


class Net:
    class Inner:
        depth = 3

    def __init__(self, hidden: int, rate=0.5, *, name: "str" = "a"):
        self.hidden = hidden


def fails(value):
    numbers = [1]
    return numbers[value]


def takes_all(first, **others):
    return others
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my_net:Net", True),
        ("my.deep_net:Net.Inner", True),
        ("_my:_net", True),
        ("my_net", False),
        ("my_net:", False),
        (":Net", False),
        ("my-net:Net", False),
        ("src/my_net.py:Net", False),
        ("my_net:Net()", False),
        ("1net:Net", False),
        ("my..net:Net", False),
        ("my_net:Net:more", False),
    ],
)
def test_name_is_a_module_and_an_object(text: str, expected: bool) -> None:
    assert own_code.is_name(text) == expected


def test_object_of_the_projects_own_source_is_loaded(own: OwnCode) -> None:
    module = own.write(MODULE)
    assert own_code.load(f"{module}:Net", "model.name").__module__ == module
    assert own_code.load(f"{module}:Net.Inner.depth", "model.name") == 3


def test_object_of_an_installed_package_is_loaded(own: OwnCode) -> None:
    assert own_code.load("collections:OrderedDict.fromkeys", "train.loss")


def test_module_in_a_package_of_its_own_is_loaded(own: OwnCode) -> None:
    package = own.source / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "net.py").write_text("DEPTH = 4\n", encoding="utf-8")
    own.modules += ["own_package", "own_package.net"]
    assert own_code.load("own_package.net:DEPTH", "model.name") == 4


def test_missing_module_is_refused_with_the_folder_and_the_nearest_name(own: OwnCode) -> None:
    module = own.write(MODULE, "own_transformer")
    with pytest.raises(InputError) as caught:
        own_code.load("own_transfomer:Net", "model.name")
    assert str(caught.value) == (
        f"model.name: own_transfomer:Net: there is no module 'own_transfomer' in {own.source} or among the installed"
        f" packages; did you mean {module}?"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import no_such_package_at_all\n", "line 1, in <module>: ModuleNotFoundError: No module named 'no_such"),
        ("x = 1\n\ny = 1 / 0\n", "line 3, in <module>: ZeroDivisionError: division by zero"),
        ("def f(:\n    pass\n", "line 1: SyntaxError: invalid syntax"),
        ("\nimport sys\nsys.exit(3)\n", "line 2, in <module>: SystemExit: 3"),
        ("def g():\n    raise ValueError\n\n\ng()\n", "line 2, in g: ValueError"),
    ],
    ids=["import", "error", "syntax", "exit", "deeper"],
)
def test_module_that_does_not_import_is_refused_with_file_and_line(own: OwnCode, text: str, problem: str) -> None:
    module = own.write(text)
    with pytest.raises(InputError) as caught:
        own_code.load(f"{module}:Net", "train.loss")
    assert str(caught.value).startswith(f"train.loss: {module}:Net does not import: src/{module}.py, {problem}")


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("Nett", "has no 'Nett'; did you mean Net?"),
        ("Net.Iner", "has no 'Net.Iner'; did you mean Inner?"),
        ("zzz", "has no 'zzz'; it has Net, fails, takes_all"),
    ],
)
def test_object_that_is_not_there_is_refused_with_the_nearest_name(own: OwnCode, path: str, problem: str) -> None:
    module = own.write(MODULE)
    with pytest.raises(InputError, match=rf"^model\.name: {module}:{path}: {module} {re.escape(problem)}$"):
        own_code.load(f"{module}:{path}", "model.name")


def test_arguments_are_those_by_name_with_their_types_and_defaults(own: OwnCode) -> None:
    net = own_code.load(f"{own.write(MODULE)}:Net", "model.name")
    known, takes_any = own_code.arguments_of(net)
    assert {name: (one.type, one.required) for name, one in known.items()} == {
        "hidden": (int, True),
        "rate": (float, False),
        "name": (str, False),
    }
    assert not takes_any


def test_arguments_of_built_in_code_are_not_known() -> None:
    assert own_code.arguments_of(dict) == ({}, True)


@pytest.mark.parametrize(
    ("function", "given", "offered", "problem"),
    [
        (lambda hidden: None, {"hidden": 3}, set(), ""),
        (lambda hidden: None, {}, {"hidden", "seed"}, ""),
        (lambda hidden=3: None, {}, set(), ""),
        (lambda **others: None, {"anything": 3}, set(), ""),
        (lambda hidden: None, {}, set(), "model.arguments: own:f needs hidden, which has no default: give it there"),
        (
            lambda hidden=1: None,
            {"hiden": 3},
            set(),
            "model.arguments.hiden: own:f has no such argument; did you mean hidden?",
        ),
        (
            lambda hidden=1, depth=2: None,
            {"zzz": 3},
            set(),
            "model.arguments.zzz: own:f has no such argument; it takes hidden, depth",
        ),
        (lambda: None, {"zzz": 3}, set(), "model.arguments.zzz: own:f has no such argument; it takes none"),
        (
            lambda hidden: None,
            {"hiden": 3},
            set(),
            "model.arguments.hiden: own:f has no such argument; did you mean hidden?\n"
            "  model.arguments: own:f needs hidden, which has no default: give it there",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused_all_at_once(
    function: Callable[..., Any], given: dict[str, Any], offered: set[str], problem: str
) -> None:
    if not problem:
        own_code.check_arguments(function, "own:f", "model.name", given, offered)
        return
    with pytest.raises(InputError) as caught:
        own_code.check_arguments(function, "own:f", "model.name", given, offered)
    assert str(caught.value) == problem


def test_arguments_of_other_places_are_named_below_their_place() -> None:
    with pytest.raises(InputError, match=r"^train\.loss\.arguments\.gama: own:f has no such argument; did you mean ga"):
        own_code.check_arguments(lambda gamma: None, "own:f", "train.loss", {"gama": 1}, {"gamma"})


def test_call_gives_what_is_named_and_lets_what_is_given_win() -> None:
    def called(one: int, two: int = 2, three: int = 3) -> tuple[int, int, int]:
        return one, two, three

    assert own_code.call(called, "own:f", "train.loss", {"three": 30}, {"one": 1, "three": 9, "more": 7}) == (1, 2, 30)


def test_error_within_the_code_names_its_file_line_and_function(own: OwnCode) -> None:
    module = own.write(MODULE)
    function = own_code.load(f"{module}:fails", "train.loss")
    with pytest.raises(InputError) as caught:
        own_code.call(function, f"{module}:fails", "train.loss", {"value": 5}, {})
    assert str(caught.value) == (
        f"train.loss: {module}:fails failed: src/{module}.py, line 14, in fails: IndexError: list index out of range"
    )
    assert isinstance(caught.value.__cause__, IndexError)


def test_refusal_within_the_code_stays_as_it_is() -> None:
    def refuses() -> None:
        raise InputError("model.name: no")

    with pytest.raises(InputError, match=r"^model\.name: no$"):
        own_code.call(refuses, "own:f", "model.name", {}, {})


def test_blame_names_the_innermost_line_of_own_code(own: OwnCode) -> None:
    module = own.write(
        "import json\n\n\ndef inner(text):\n    return json.loads(text)\n\n\ndef outer(text):\n    inner(text)\n"
    )
    outer = own_code.load(f"{module}:outer", "train.loss")
    with pytest.raises(ValueError, match="Expecting value") as caught:
        outer("nothing")
    assert own_code.blame(caught.value).startswith(f"src/{module}.py, line 5, in inner: JSONDecodeError: Expecting")


def test_blame_cuts_a_long_text() -> None:
    said = own_code.blame(ValueError("x" * 1000))
    assert said == f"ValueError: {'x' * own_code.SHOWN} ..."


def test_file_with_a_null_byte_is_named(own: OwnCode) -> None:
    module = own.write("VALUE = 1\0\n")
    with pytest.raises(InputError, match=rf"{module}:f does not import: src/{module}\.py.*: .*null bytes"):
        own_code.load(f"{module}:f", "model.name")


@pytest.mark.parametrize(
    ("bad", "name", "place"),
    [
        ("pk_nul", "pk_nul.mod", "src/pk_nul/__init__.py: SyntaxError"),
        ("pk_nul.mod", "pk_nul.mod", "src/pk_nul/mod.py: SyntaxError"),
        ("pk_nul.sub", "pk_nul.sub.net", "src/pk_nul/sub/__init__.py: SyntaxError"),
        ("pk_nul.helper", "pk_nul.user", "src/pk_nul/user.py, line 1, in <module>: SyntaxError"),
    ],
    ids=["the package", "the module", "a package in it", "what it imports"],
)
def test_file_with_a_null_byte_in_a_package_is_named_once(own: OwnCode, bad: str, name: str, place: str) -> None:
    package = own.source / "pk_nul"
    (package / "sub").mkdir(parents=True)
    files = {"pk_nul": "__init__.py", "pk_nul.mod": "mod.py", "pk_nul.sub": "sub/__init__.py"}
    files |= {"pk_nul.sub.net": "sub/net.py", "pk_nul.helper": "helper.py", "pk_nul.user": "user.py"}
    for module, file in files.items():
        text = "import pk_nul.helper\n" if module == "pk_nul.user" else "VALUE = 1\n"
        (package / file).write_text("VALUE = 1\0\n" if module == bad else text, encoding="utf-8")
    own.modules += list(files)
    with pytest.raises(InputError) as caught:
        own_code.load(f"{name}:net", "model.name")
    assert str(caught.value).startswith(f"model.name: {name}:net does not import: {place}: source code ")


@pytest.mark.parametrize(
    ("name", "place"),
    [("Net", "line 4"), ("f", "line 9"), ("made", "")],
    ids=["a class", "a decorated function", "an object"],
)
def test_place_of_a_name_is_its_file_and_line(own: OwnCode, name: str, place: str) -> None:
    module = own.write(
        "import functools\n\n\nclass Net:\n    pass\n\n\n\n@functools.cache\ndef f():\n    pass\n\n\nmade = 3\n"
    )
    assert own_code.at(f"{module}:{name}") == ""  # not imported yet
    own_code.load(f"{module}:{name}", "model.name")
    assert own_code.at(f"{module}:{name}") == (f" (src/{module}.py, {place})" if place else "")


def test_module_named_like_one_of_pythons_is_refused(own: OwnCode) -> None:
    (own.source / "random.py").write_text("class Net:\n    pass\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"^model\.name: .*random\.py has the name of one of Python's own, and each"):
        own_code.load("random:Net", "model.name")


def test_module_that_reads_the_command_line_finds_no_arguments(own: OwnCode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["podium", "train", "--set", "train.epochs=2"])
    text = "import argparse\n\nparser = argparse.ArgumentParser()\nparser.add_argument('--hidden', default=3)\n"
    text += "ARGS = parser.parse_args()\n"
    assert own_code.load(f"{own.write(text)}:ARGS.hidden", "model.name") == 3


class Counting:
    """An object that counts, and holds what can't be copied in `held`."""

    def __init__(self, **held: Any) -> None:
        self.count: list[int] = []
        self.me: list[Any] = []
        self.held = held
        vars(self).update(held)


ABSENT = "That package is not installed: write {} into requirements-own.txt, then `make install`"


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("import no_such_package.part", ABSENT.format("no_such_package")),
        ("import pywt", ABSENT.format("PyWavelets")),
        ("raise ImportError(\"Actual error: No module named 'no_such'.\")", ABSENT.format("no_such")),
        (
            "import own_helpres",
            "There is no such module in src/ or among the installed packages: did you mean own_helpers?",
        ),
        ("import torch.no_such_part", "ModuleNotFoundError: No module named 'torch.no_such_part'"),
        ("raise ValueError(\"No module named 'no_such'\")", "ValueError: No module named 'no_such'"),
    ],
    ids=["package", "other name", "library's words", "typo", "part of an installed one", "other error"],
)
def test_package_that_is_not_installed_is_named_with_the_remedy(own: OwnCode, line: str, remedy: str) -> None:
    own.write("", "own_helpers")
    module = own.write(f"def make():\n    {line}\n")
    with pytest.raises(InputError) as caught:
        own_code.call(own_code.load(f"{module}:make", "search.sampler"), f"{module}:make", "search.sampler", {}, {})
    assert str(caught.value).startswith(f"search.sampler: {module}:make failed: src/{module}.py, line 2, in make: ")
    assert str(caught.value).endswith(remedy)


class Silent:
    """An object that refuses to be copied, and to show its attributes."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


@pytest.mark.parametrize(
    "held",
    [
        {"np": np},
        {"F": torch.nn.functional, "m": torch},
        {"np": np, "lock": threading.Lock()},
        {"pydantic": pydantic, "cls": np.ndarray, "deep": {"list": [{"math": math}, (threading.Lock(),)]}},
        {"silent": Silent(), "array": np.zeros(3)},
        {"file": sys.__stdout__, "lambda": lambda: 1, "iterator": iter([1])},
    ],
    ids=["numpy", "torch", "lock", "deep", "silent", "file"],
)
def test_copy_of_an_object_has_in_common_only_what_python_cannot_copy(held: dict[str, Any]) -> None:
    found = Counting(**held)
    vars(found)["me"] = [found]
    made = own_code.fresh(found)
    made.count.append(1)
    assert type(made) is Counting
    assert found.count == []
    assert made.me[0] is made
    for name, value in held.items():
        if type(value) not in (dict, np.ndarray) and name != "iterator":
            assert getattr(made, name) is value
    if "deep" in held:
        assert made.deep is not found.held["deep"]
        assert made.deep["list"][0] == {"math": math}
        assert made.deep["list"][1][0] is found.held["deep"]["list"][1][0]
    if "array" in held:
        assert made.array is not held["array"]


def test_object_of_too_many_parts_is_used_itself_where_python_cannot_copy_it() -> None:
    parts: list[list[int]] = [[number] for number in range(own_code.MOST_COPIES)]
    assert own_code.fresh(found := Counting(parts=parts)) is not found
    assert own_code.fresh(found := Counting(parts=parts, lock=threading.Lock())) is found


class Refuses:
    """An object with parts that refuses to be copied."""

    def __init__(self) -> None:
        self.parts: list[int] = [1]

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("no")


@pytest.mark.parametrize(("children", "copied"), [(10, True), (300, False)])
def test_object_whose_parts_refer_to_it_is_copied_where_that_takes_few_tries(children: int, copied: bool) -> None:
    found = Counting()
    found.me = [Counting(parent=found) for _ in range(children)]
    vars(found)["refuses"] = Refuses()
    made: Any = own_code.fresh(found)
    assert (made is not found) == copied
    assert made.refuses is vars(found)["refuses"]
    assert made.me[0].parent is made


def test_object_of_many_objects_within_each_other_is_copied() -> None:
    found: Any = Counting(lock=threading.Lock())
    for _ in range(100):
        found = Counting(inner=found, again=found)
    made = own_code.fresh(found)
    assert made is not found
    assert made.inner is made.again
