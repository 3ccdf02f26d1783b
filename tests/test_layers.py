"""How the files hang together: no circles of imports, and tests that keep to what is public."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

PACKAGES = ("omni", "data_shards", "eval", "stages")
TESTS = Path(__file__).parent
REPLACING = ("setattr", "delattr", "patch", "object", "multiple")  # of monkeypatch and of mock


def test_no_two_files_import_each_other():
    """Nor a package and a file of it, which the contract "No circles" passes over."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    TopologicalSorter(imports).prepare()  # a circle is an error that lists its files


def trees(folder: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(folder.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def private_names() -> set[str]:
    """Return the names of one underscore that the packages define or assign."""
    found = set()
    for _, tree in (pair for package in PACKAGES for pair in trees(TESTS.parent / package)):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return {name for name in found if name[0] == "_" and name[1:2].isalpha()}


def replaced(tree: ast.Module, names: set[str]) -> Iterator[tuple[int, str]]:
    """Yield line and name where one of the names is set on something other than self."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            if node.attr in names and ast.unparse(node.value) not in ("self", "cls"):
                yield node.lineno, node.attr
        elif isinstance(node, ast.Call):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
            if (function if isinstance(function, str) else ast.unparse(function)) in REPLACING:
                values = [*node.args, *(keyword.value for keyword in node.keywords)]
                texts = [v.value for v in values if isinstance(v, ast.Constant)]
                texts += [keyword.arg for keyword in node.keywords]
                for text in texts:
                    if (name := str(text).rpartition(".")[2]) in names:
                        yield node.lineno, name


def test_no_test_replaces_what_is_private():
    """A test that does breaks with every tidying, and passes where the public way is broken."""
    names = private_names()
    found = [f"{path.name}:{line}: {name}" for path, tree in trees(TESTS)
             for line, name in replaced(tree, names)]  # fmt: skip
    assert names
    assert not found


@pytest.mark.parametrize("code", [
    "monkeypatch.setattr(module, '_x', None)", "patch.setattr('omni.module._x', None)",
    "monkeypatch.delattr(module.Class, name='_x')", "setattr(module, '_x', 1)",
    "mock.patch('omni.module._x')", "mock.patch.object(thing, '_x')", "multiple(thing, _x=1)",
    "thing._x = 1", "Class.part._x += 1", "thing._x, y = 1, 2", "del thing._x",
])  # fmt: skip
def test_each_way_to_replace_is_seen(code):
    assert list(replaced(ast.parse(code), {"_x"})) == [(1, "_x")]
    assert not list(replaced(ast.parse(code.replace("_x", "x")), {"_x"}))
