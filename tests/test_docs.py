"""The pages of the documentation: their code runs and prints what they say; their links exist."""

import contextlib
import inspect
import io
import re
from pathlib import Path

import pytest

import skebm

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("guide/*.md")])
NOT_RUN = "# Not run in the tests"
#: A block of Python and, if one follows directly, what it prints.
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.DOTALL | re.MULTILINE)
WITH_CODE = [
    path for path in PAGES if BLOCK.search(path.read_text()) and path.name != "contributing.md"
]
NUMBER = re.compile(r"\d+\.\d+")


def name(path):
    return str(path.relative_to(DOCS))


@pytest.mark.parametrize("path", WITH_CODE, ids=name)
def test_the_code_of_a_page_runs_and_prints_what_the_page_says(path, tmp_path, monkeypatch):
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    pytest.importorskip("rich")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    text = path.read_text()
    for block in BLOCK.finditer(text):
        code, expected = block.groups()
        if code.startswith(NOT_RUN):
            continue
        line = text[: block.start()].count("\n") + 2
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * (line - 1) + code, path, "exec"), names)
        printed = printed.getvalue()
        if expected:  # the same words, and nearly the same decimal numbers
            assert NUMBER.sub("#", printed) == NUMBER.sub("#", expected), line
            numbers = [[float(n) for n in NUMBER.findall(s)] for s in (printed, expected)]
            assert numbers[0] == pytest.approx(numbers[1], rel=0.05, abs=0.011), line
    plt.close("all")


def slug(title):
    """The anchor of a heading, as GitHub and MyST make it."""
    title = re.sub(r"[`*]", "", title.strip()).lower()
    return re.sub(r"[^\w\- ]", "", title).replace(" ", "-")


def anchors(path):
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    if "{include} ../benchmarks/README.md" in path.read_text():
        text = (ROOT / "benchmarks" / "README.md").read_text()
    return {slug(title) for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


def source(path):
    """The file that a page is made of; the pages of the gallery and the API are generated."""
    if path.parent.name == "auto_examples":
        script = DOCS / "examples" / path.with_suffix(".py").name
        return DOCS / "examples" / "GALLERY_HEADER.rst" if path.stem == "index" else script
    return path


@pytest.mark.parametrize("path", [*PAGES, ROOT / "README.md"], ids=lambda path: path.name)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(path):
    text = re.sub(r"^```python.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    links += [
        f"{link}.md" for link in re.findall(r"^:link: (?!auto|api)(\S+)$", text, re.MULTILINE)
    ]
    for link in links:
        if link.startswith(("http://", "https://")):
            continue
        file, _, anchor = link.partition("#")
        target = source((path.parent / file).resolve()) if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
    for role in re.findall(r"\{(?:class|func)\}`[^`<]*<?~?skebm\.(\w+)>?`", text):
        assert role in skebm.__all__, role


def test_every_page_is_in_a_table_of_contents():
    listed = set()
    for path in PAGES:
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```", path.read_text(), re.DOTALL | re.M):
            entries = [line for line in tree.split("\n") if line and not line.startswith(":")]
            for entry in (re.sub(r".*<(.*)>", r"\1", entry) for entry in entries):
                base = DOCS if entry.startswith("/") else path.parent
                listed.add((base / f"{entry.lstrip('/')}.md").resolve())
    assert {path for path in PAGES if path not in listed} == {DOCS / "index.md"}


def test_every_public_name_has_an_api_page():
    listed = re.findall(r"^   (\w+)$", (DOCS / "api" / "index.rst").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(skebm.__all__)


@pytest.mark.parametrize("name", skebm.__all__)
def test_a_docstring_has_the_references_that_it_cites(name):
    thing = getattr(skebm, name)
    methods = [m for n, m in inspect.getmembers(thing, callable) if n[0] != "_"]
    for each in [thing, *methods]:
        doc = inspect.getdoc(each) or ""
        assert set(re.findall(r"\[(\d+)\]_", doc)) == set(re.findall(r"\.\. \[(\d+)\]", doc)), each


def test_the_diagram_of_an_estimator_links_to_its_api_page():
    from skebm._sklearn import DOCUMENTATION

    for estimator in (skebm.BernoulliRBM(), skebm.DBN(), skebm.RBMImputer(), skebm.DBNRegressor()):
        page = f"{DOCUMENTATION}/api/generated/skebm.{type(estimator).__name__}.html"
        assert estimator._get_doc_link() == page
        assert f'href="{page}"' in estimator._repr_html_()

    class Own(skebm.BernoulliRBM):
        pass

    assert Own()._get_doc_link() == ""
