"""The documentation site: docstrings as Sphinx reads them, each page in the contents, broken links found.

And the files about the project agree with each other.
"""

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minidl
import minidl.optim
from tutorials.site import contents, links, reference
from tutorials.site.docstrings import to_rst

ROOT = Path(__file__).parent.parent


def rst(text: str) -> str:
    return "\n".join(to_rst(inspect.cleandoc(text).splitlines())).strip()


def test_a_paragraph_is_escaped_and_its_code_is_kept():
    assert rst("a * b | `x_1`\nand w_") == r"a \* b \| \ ``x_1``\  and w\_"


def test_a_table_of_arguments():
    made = rst("""
        What it does.

        lr            rate, or
                      a schedule
        betas, eps    in [0, 1):
                      None       the default
                      "matched"  another
        """)
    assert "``lr``\n    rate, or a schedule\n" in made
    assert "``betas, eps``\n    in [0, 1):\n    \n    ``None``\n        the default\n" in made
    assert '    ``"matched"``\n        another' in made


def test_formulas_and_code_are_kept_as_they_are():
    assert rst("m <- b1 m + g       mean\nv <- b2 v           square") == (
        "::\n\n    m <- b1 m + g       mean\n    v <- b2 v           square"
    )
    assert rst("\nLike this:\n\n    f(x)\n        y") == "Like this:\n\n::\n\n    f(x)\n        y"


def test_arguments_are_listed_in_one_form():
    """Names at the margin, two blanks: not "name: text", which the site would melt into a paragraph."""
    for path in [*(ROOT / "minidl").rglob("*.py"), *(ROOT / "optim").rglob("*.py"), *(ROOT / "data").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and (text := ast.get_docstring(node)):
                listed = set(re.findall(r"^(\w+): ", text, re.MULTILINE))
                assert not names(node) & listed, f"{path.name}, {node.name}: write two blanks for the colon"


def names(node: ast.FunctionDef | ast.ClassDef) -> set[str]:
    """The arguments of a function, or the fields of a class."""
    if isinstance(node, ast.FunctionDef):
        return {arg.arg for arg in (*node.args.args, *node.args.kwonlyargs)}
    fields = {
        each.target.id for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }
    return fields.union(*(names(each) for each in node.body if isinstance(each, ast.FunctionDef)))


def test_the_contents_name_each_page_once():
    named = [page for pages in contents.sections().values() for page in pages]
    assert sorted(named) == contents.documents()
    assert {"tutorials/01_bytes_to_pictures", "tutorials/assignments/A1/README", "CONTRIBUTING"} <= set(named)


def test_public_names_without_an_entry_are_found(tmp_path):
    (tmp_path / "tutorials" / "site").mkdir(parents=True)
    everything = {name for module in (minidl, minidl.nn, minidl.ops) for name in reference.public(module)}
    assert {"Tensor", "Trainer", "conv2d", "Conv2d", "GELU"} <= everything
    entries = "".join(
        f'<dt id="minidl.x.{name}">' for name in sorted({*everything, *minidl.optim.__all__} - {"GELU", "SWATS"})
    )
    (tmp_path / "tutorials" / "site" / "api.html").write_text(entries)
    found = " ".join(reference.missing(tmp_path))
    assert "minidl.nn.GELU is in no page" in found
    assert "minidl.optim.SWATS is in no page" in found
    assert "minidl.Trainer" not in found
    assert "minidl.data.read_idx" in found


def test_a_class_with_two_entries_is_found(tmp_path):
    """Ten layers had two, as nn.Conv2d and nn_conv.Conv2d."""
    (tmp_path / "tutorials" / "site").mkdir(parents=True)
    names = ("minidl.nn.Linear", "minidl.nn.Conv2d", "minidl.nn_conv.Conv2d", "minidl.nn_conv.Conv2d.extra_repr")
    entries = "".join(f'<dt class="sig sig-object py" id="{name}">' for name in names)
    (tmp_path / "tutorials" / "site" / "api.html").write_text(entries)
    assert reference.twice(tmp_path) == ["minidl.nn.Conv2d and minidl.nn_conv.Conv2d are one class"]


def test_broken_links_and_what_needs_a_network_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="top"></h1><a href="b.html#here">1</a><a href="b.html#nowhere">2</a><a href="c.html">3</a>'
        '<a href="#top">4</a><a href="https://example.com/x">5</a><img src="none.png">'
        '<script src="//cdn.x/y.js"></script>'
    )
    (tmp_path / "b.html").write_text('<p id="here"><a href="a.html">back</a></p>')
    broken, outside = links.check(tmp_path)
    assert broken == [
        "a.html: b.html#nowhere leads nowhere",
        "a.html: c.html leads nowhere",
        "a.html: none.png leads nowhere",
        "a.html loads //cdn.x/y.js",
    ]
    assert outside == {"https://example.com/x"}


@pytest.mark.parametrize("file", ["pyproject.toml", "CITATION.cff"])
def test_the_version_is_the_same_everywhere(file):
    (version,) = re.findall(r'^version(?: = |: )"?([\w.]+)"?$', (ROOT / file).read_text(), re.MULTILINE)
    assert version == minidl.__version__


def test_the_repositorys_address_stands_in_one_place():
    try:
        command = ["git", "grep", "-I", "-c", "example.org/minidl", "--", ".", ":!tests"]
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a clone")
    assert found == "pyproject.toml:1\n"


@pytest.mark.skipif(sys.platform == "win32", reason="the gate is a script for bash")
@pytest.mark.parametrize(("rest", "status"), [("true", 0), ("false", 1)])
def test_the_gate_says_what_it_skips_for_a_stranger(tmp_path, rest, status):
    """Its frame, with other parts in it: neither the full MNIST nor a browser are there."""
    gate = (ROOT / ".ci" / "run").read_text()
    bodies = dict.fromkeys(("surroundings", "readme", "loops", "operations", "lessons", "runs"), "true") | {
        "rest": rest,
        "has_browser": "false",
    }
    for name, body in bodies.items():
        gate, found = re.subn(
            rf"^{name}\(\) {{.*?^}}", f"{name}() {{\n    {body}\n}}", gate, flags=re.MULTILINE | re.DOTALL
        )
        assert found == 1
    (tmp_path / "clone" / ".ci").mkdir(parents=True)
    (tmp_path / "clone" / ".ci" / "run").write_text(gate)
    environment = {name: value for name, value in os.environ.items() if name != "MINIDL_DATA"}
    command = ["bash", str(tmp_path / "clone" / ".ci" / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    assert "SKIPPED: the tests on the full MNIST" in done.stdout
    assert "SKIPPED: the tests in a browser" in done.stdout
    done = subprocess.run(
        command, env={**environment, "MINIDL_DATA": "nowhere"}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "MINIDL_DATA names no folder: nowhere\n")
