"""The tutorials: complete in form, in step with their notebooks, and fit to be shown.

Running all cells and all answers takes minutes and is a command of its own: `python -m tutorials.build --check`.
"""

import ast
import base64
import json
import re
from itertools import pairwise

import pytest

from tutorials import build
from tutorials.assignments.assignment import NAMES as ASSIGNMENTS

SCRIPTS = build.scripts()
NAMES = [script.stem for script in SCRIPTS]
README = (build.HERE / "README.md").read_text(encoding="utf-8")
every_script = pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)


def cells(script):
    """(kind, text) of each cell, by a reader of our own: percent format is that simple."""
    found = []
    for part in re.split(r"^# %%", script.read_text(), flags=re.MULTILINE)[1:]:
        first, _, rest = part.partition("\n")
        if "[markdown]" in first:
            found.append(("markdown", "\n".join(line.removeprefix("#").removeprefix(" ") for line in rest.split("\n"))))
        else:
            found.append(("code", rest))
    return found


def markdown(script):
    return "\n".join(text for kind, text in cells(script) if kind == "markdown")


def notebook(script):
    return json.loads(script.with_suffix(".ipynb").read_text(encoding="utf-8"))


def outputs(script):
    """All that the cells of a notebook print."""
    found = [output for cell in notebook(script)["cells"] for output in cell.get("outputs", [])]
    return "\n".join("".join(output.get("text", "")) for output in found)


def test_they_are_numbered_and_the_readme_lists_them_in_order():
    numbers = [int(name[:2]) for name in NAMES]
    assert numbers == list(range(1, len(numbers) + 1))
    rows = re.findall(r"^\| (\d+) \| \[.*?\]\((\w+)\.ipynb\).*\| (\d+) \|$", README, re.MULTILINE)
    assert [name for _, name, _ in rows] == NAMES
    assert [int(number) for number, *_ in rows] == numbers
    for (_, _, minutes), script in zip(rows, SCRIPTS, strict=True):
        assert f"**Time.** {minutes} minutes" in script.read_text(encoding="utf-8")


def test_what_is_optional_is_marked_in_both_places():
    for script in SCRIPTS:
        (row,) = re.findall(rf"^.*\({script.stem}\.ipynb\).*$", README, re.MULTILINE)
        assert ("**Optional" in markdown(script)) == ("optional" in row), script.stem


def test_lessons_and_assignments_link_each_other():
    for name in ASSIGNMENTS:
        (lesson,) = re.findall(
            r"Lesson for this assignment: \[[^]]*\]\(\.\./\.\./(\w+)\.ipynb\)",
            (build.HERE / "assignments" / name / "README.md").read_text(encoding="utf-8"),
        )
        assert f"(assignments/{name}/README.md)" in markdown(build.HERE / f"{lesson}.py"), name


@every_script
def test_has_all_that_a_lesson_needs(script):
    text = markdown(script)
    number = int(script.stem[:2])
    assert text.lstrip().startswith(f"# {number}. ")
    assert "**Goal.**" in text
    assert 10 <= int(re.search(r"\*\*Time\.\*\* (\d+) minutes", text)[1]) <= 25
    assert "On Colab" in text
    assert text.count("**Predict before you run.**") >= 2
    exercises, _, after = text.partition("## Exercises")[2].partition("## What to read next")
    asked = re.findall(r"^\*\*(\d)\.\*\*", exercises, re.MULTILINE)
    assert asked == [str(i + 1) for i in range(len(asked))]
    assert len(asked) >= 3
    assert exercises.count("<details><summary>Answer</summary>") == exercises.count("</details>") == len(asked)
    assert after.strip()
    assert not any(kind == "code" for kind, _ in cells(script)[-1:]), "it ends with what to read next"


@every_script
def test_every_answer_is_code_that_python_reads(script):
    code = build.CODE.findall("".join(build.ANSWER.findall(markdown(script))))
    assert len(code) >= 3
    for answer in code:
        ast.parse(answer)


@every_script
def test_every_answer_has_a_sentence(script):
    for answer in build.ANSWER.findall(markdown(script)):
        words = build.CODE.sub("", answer).replace("<details><summary>Answer</summary>", "").replace("</details>", "")
        assert re.search(r"[.?!)]\s*$", words.strip()), answer
        assert len(words.split()) >= 4, answer


@every_script
def test_no_formula_was_broken_into_a_list(script):
    lines = markdown(script).split("\n")
    for before, line in pairwise(lines):
        if re.match(r"[-+*] ", line):
            assert not before.strip() or re.match(r"[-+*] ", before) or before.startswith("  "), line
            assert not line.startswith("+ ")


@every_script
def test_links_lead_somewhere(script):
    for path in re.findall(r"\]\(([^)#:]+)\)", markdown(script)):
        assert (build.HERE / path).exists(), path


@every_script
@pytest.mark.extra("jupytext")
def test_notebook_is_in_step_and_was_run(script):
    build.in_step(script)


@pytest.mark.extra("jupytext")
def test_a_notebook_out_of_step_is_noticed(tmp_path):
    script = tmp_path / SCRIPTS[1].name
    script.write_text(SCRIPTS[1].read_text().replace("w1, w2, b = 0.5", "w1, w2, b = 0.6"))
    with pytest.raises(build.TutorialError, match="is missing"):
        build.in_step(script)
    script.with_suffix(".ipynb").write_text(SCRIPTS[1].with_suffix(".ipynb").read_text())
    with pytest.raises(build.TutorialError, match="differs from"):
        build.in_step(script)


@every_script
def test_outputs_are_fit_to_be_shown(script):
    book = notebook(script)
    raw = json.dumps(book)
    assert len(raw) < 300_000
    assert not re.search(r"/(home|root|tmp|work|Users|content)/|[A-Z]:\\\\", raw), "a path of some machine"
    pictures = 0
    for cell in book["cells"]:
        assert "execution" not in cell["metadata"]
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr"
            text = "".join(output.get("text", output.get("data", {}).get("text/plain", "")))
            assert "Warning" not in text
            assert "it/s" not in text
            data = output.get("data", {})
            pictures += "image/png" in data or "image/svg+xml" in data
            if "image/png" in data:
                assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert pictures >= 1


@every_script
def test_a_number_in_the_words_stands_in_an_output(script):
    """What was measured elsewhere, on the full MNIST, is in a paragraph or table that says so."""
    words = markdown(script).partition("## Exercises")[0]
    words = re.sub(r"On the full MNIST, measured on \d{4}-\d\d-\d\d .*?\n\n(\|[^\n]*\n)*", "", words, flags=re.DOTALL)
    claims = re.findall(r"\b\d+\.\d+ ?%|[-+]\d+\.\d+ points|accuracy (?:of|is) 0?\.\d+", words)
    printed = outputs(script)
    for claim in set(claims) - {"97.9 %", "97.6 %"}:  # the made-up sentence that tutorial 12 warns of
        assert re.search(rf"(?<![\d.]){re.escape(claim.replace(' %', '%'))}", printed), claim


@every_script
def test_a_network_is_printed_as_it_is_printed_now(script):
    """With the shapes and the number of its weights, and not in the older form, `Sequential(` with a line each."""
    assert not re.search(r"^[A-Z]\w*\($", outputs(script), re.MULTILINE)


def test_the_rate_of_the_lesson_on_gpus_counts_the_epochs_that_were_timed():
    """That cell runs with a GPU only. fit(n) trains n more epochs, whatever was trained before."""
    text = build.HERE.joinpath("11_on_a_gpu.py").read_text(encoding="utf-8")
    ((timed, counted),) = re.findall(r"fit\((\d+), verbose=False\)\n +rate = (\d+) \* len", text)
    assert timed == counted


@pytest.mark.extra("jupytext")
def test_answers_run_after_the_cells_before_them():
    whole = build.with_answers(build.read(SCRIPTS[0]))
    plain = build.read(SCRIPTS[0])
    assert len(whole.cells) == len(plain.cells) + len(build.answers(plain))
    assert whole.cells[-1].cell_type == "code"
    other = build.with_answers(build.read(SCRIPTS[0]), dataset="mnist")
    assert any('"mnist"' in cell.source for cell in other.cells)
    assert not any('"mnist5k"' in cell.source for cell in other.cells if cell.cell_type == "code")


@pytest.mark.parametrize("name", ["02_one_neuron", "03_order_of_the_walk"])
def test_cells_and_answers_run(name, tmp_path, monkeypatch):
    """The quick ones here and now, in this process; `python -m tutorials.build --check` runs all in kernels."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": "lesson"}
    for kind, text in cells(build.HERE / f"{name}.py"):
        code = [text] if kind == "code" else build.CODE.findall("".join(build.ANSWER.findall(text)))
        for piece in code:
            exec(compile(piece, name, "exec"), scope)


@pytest.mark.extra("nbclient")
def test_a_failing_cell_is_reported(tmp_path):
    import asyncio

    from nbformat.v4 import new_code_cell, new_notebook

    quiet = new_notebook(cells=[new_code_cell("import sys\nprint('3 of 9 runs done, more to come', file=sys.stderr)")])
    assert asyncio.run(build.run(quiet, "lesson")).cells[0].outputs == []
    for source, complaint in (("1 / 0", "ZeroDivisionError"), ("import sys\nprint('x', file=sys.stderr)", "stderr")):
        with pytest.raises(build.TutorialError, match=complaint):
            asyncio.run(build.run(new_notebook(cells=[new_code_cell(source)]), "lesson"))
