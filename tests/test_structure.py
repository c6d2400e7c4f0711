"""The plan of the house: who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import skebm

ROOT = Path(skebm.__file__).parent
ENGINE = [
    "noise",
    "capture",
    "units",
    "models",
    "copies",
    "dropout",
    "convolution",
    "sampling",
    "partition",
    "ladder",
    "gradients",
    "damping",
    "joint",
    "deep",
    "training",
    "stack",
    "backprop",
    "updown",
]
ORDER = {
    **{f"skebm.engine.{name}": level for level, name in enumerate(ENGINE)},
    "skebm.engine.devices": 0,
    "skebm.engine.products": 0,
    "skebm.engine.scaling": 0,
    "skebm.engine.batches": 1,
    "skebm.engine.parallel": -2,
    "skebm._sklearn": -1,
    "skebm._version": 0,
    "skebm._shared": 0,
    "skebm.tensors": 1,
    "skebm.diagnostics": 20,
    "skebm.sequences": 23,
    "skebm.quantiles": 19,
    "skebm.encoding": 20,
    "skebm.fitting": 21,
    "skebm.fitted": 22,
    "skebm.missing": 20.5,
    "skebm.targets": 23,
    "skebm.evaluation": 23,
    "skebm.modes": 23,
    "skebm.chains": 23,
    "skebm.energy": 24,
    "skebm.base": 24.5,
    "skebm.rbm": 25,
    "skebm.conv": 26,
    "skebm.tabular": 26,
    "skebm.classifier": 26,
    "skebm.imputer": 26.5,
    "skebm.outliers": 26,
    "skebm.displays._common": 24,
    "skebm.displays._components": 25,
    "skebm.displays._training": 25,
    "skebm.displays._rows": 25,
    "skebm.displays._likelihood": 25,
    "skebm.displays._modes": 25,
    "skebm.displays": 26,
    "skebm.callbacks": 26,
    "skebm.dbn": 27,
    "skebm.dbm": 28,
    "skebm.networks": 29,
    "skebm": 30,
}


def module_name(path):
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = [(module_name(path), path) for path in sorted(ROOT.rglob("*.py"))]
every_module = pytest.mark.parametrize(("name", "path"), MODULES, ids=[n for n, _ in MODULES])


def imports(path):
    """Every module that the file imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield module if module in ORDER else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@every_module
def test_imports_go_one_way(name, path):
    if name == "skebm.engine":
        assert not list(imports(path))
        return
    assert name in ORDER, f"{name} has no place in the order of imports yet"
    for other in imports(path):
        if other.startswith("skebm") and other != "skebm.engine":
            assert ORDER[other] < ORDER[name], f"{name} imports {other}"


@every_module
def test_private_names_of_scikit_learn_are_imported_in_one_place(name, path):
    private = [m for m in imports(path) if m.startswith("sklearn") and "._" in m]
    assert not private or name == "skebm._sklearn"


def test_the_engine_knows_no_estimators():
    for name, path in MODULES:
        if name.startswith("skebm.engine"):
            used = {m for m in imports(path) if m.startswith("sklearn")}
            assert used <= {"sklearn.base"}, name


def test_import_needs_no_optional_dependency_and_changes_nothing():
    code = """
import sys, os, logging, numpy as np, torch
def state():
    return (torch.get_default_dtype(), torch.get_num_threads(), torch.initial_seed(),
            torch.get_float32_matmul_precision(), torch.backends.mkldnn.matmul.fp32_precision,
            str(np.random.get_state()), os.getcwd(), logging.getLogger().handlers[:])
before = state()
for name in ("matplotlib", "rich", "skops", "pandas", "dask"):
    sys.modules[name] = None
import skebm
assert state() == before
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT.parent)


def test_everything_exported_exists_and_is_documented():
    for name in skebm.__all__:
        assert "Examples\n" in getattr(skebm, name).__doc__
