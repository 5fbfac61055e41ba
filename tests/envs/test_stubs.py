"""lamer_fast/_C.pyi lists exactly what the native module has, with the same arguments and defaults."""

import ast
import re
from pathlib import Path

import pytest

import lamer_fast
from lamer_fast import _C

STUB = ast.parse((Path(lamer_fast.__file__).parent / "_C.pyi").read_text())
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
TYPES = [name for name in dir(_C) if isinstance(getattr(_C, name), type)]
ERRORS = [name for name in TYPES if issubclass(getattr(_C, name), Exception)]
NATIVE = sorted(set(TYPES) - set(ERRORS))


def members(name):
    """name -> node, of a stub class and its bases."""
    node = CLASSES[name]
    found = {}
    for base in node.bases:
        found |= members(base.id)
    for item in node.body:
        if isinstance(item, ast.FunctionDef):
            found[item.name] = item
        elif isinstance(item, ast.AnnAssign):
            found[item.target.id] = item
    return found


def is_property(node):
    return isinstance(node, ast.AnnAssign) or bool(node.decorator_list)


def test_functions():
    functions = {node.name for node in STUB.body if isinstance(node, ast.FunctionDef)}
    assert functions == {name for name in dir(_C) if not name.startswith("_")} - set(TYPES)


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_what_their_stub_says(name):
    bases = [base.__name__ for base in getattr(_C, name).__bases__]
    assert bases == [base.id for base in CLASSES[name].bases]


@pytest.mark.parametrize("name", NATIVE)
def test_members(name):
    native = {member for member in dir(getattr(_C, name)) if not member.startswith("_")}
    assert native == set(members(name)) - {"__init__"}


@pytest.mark.parametrize("name", NATIVE)
def test_arguments_and_defaults(name):
    for member, node in members(name).items():
        if is_property(node):
            continue
        signature = getattr(getattr(_C, name), member).__doc__.split("\n")[0]
        arguments = signature[signature.index("(") + 1 : signature.rindex(") ->")]
        native = re.findall(r"(?:^|, )(\w+): [^=]*?(?: = ([^,]+))?(?=, \w+:|, \*|$)", arguments)
        args = node.args
        positional = list(zip(args.args[::-1], args.defaults[::-1], strict=False))
        defaults = {arg.arg: ast.literal_eval(default) for arg, default in positional}
        pairs = zip(args.kwonlyargs, args.kw_defaults, strict=True)
        defaults |= {arg.arg: ast.literal_eval(default) for arg, default in pairs if default is not None}
        names = [arg.arg for arg in (*args.args, *args.kwonlyargs)]
        assert [argument for argument, _ in native] == names, signature
        found = {argument: ast.literal_eval(default) for argument, default in native if default}
        assert found == defaults, signature
