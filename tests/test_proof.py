"""Files that prove themselves (data/proof.py), and the table of kinds (data/schema.py): every damage is one line."""

import hashlib
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidl.data.proof import Damaged, checksum, proven, read_signed, signed, write_signed
from minidl.data.schema import WrongKind, either, flag, listed, mapping, maybe, real, table, text, whole

CONTENT = {"run": "a1", "accuracy": 0.1 + 0.2, "curve": [1, 2.5, None], "words": "Größe", "switch": {"step": 7}}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "result.json"
    write_signed(path, CONTENT)
    return path


def refused(path, *args, **kwargs) -> str:
    with pytest.raises(Damaged) as error:
        read_signed(path, *args, **kwargs)
    assert str(path) in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def test_what_is_written_is_read(file):
    assert read_signed(file) == CONTENT
    assert read_signed(file, run="a1") == CONTENT


def test_the_checksum_is_sha256_of_the_values(file):
    """By another way: the canonical text made by hand."""
    text = '{"a":[1,2.5,null],"b":"\\u00f6"}'
    assert checksum({"b": "ö", "a": [1, 2.5, None]}) == hashlib.sha256(text.encode()).hexdigest()
    stored = json.loads(file.read_text())
    assert list(stored)[-1] == "sha256"


def test_layout_and_order_are_free(file):
    stored = json.loads(file.read_text())
    file.write_text(json.dumps(dict(sorted(stored.items())), indent=7))
    assert read_signed(file) == CONTENT


def test_every_bit_of_the_file(file):
    """Each flipped bit is refused, or changes no value."""
    whole, exact = file.read_bytes(), 0
    for i in range(len(whole)):
        for bit in range(8):
            file.write_bytes(whole[:i] + bytes([whole[i] ^ 1 << bit]) + whole[i + 1 :])
            with suppress(Damaged):
                assert read_signed(file) == CONTENT
                exact += 1
    assert exact < 100  # blanks between the values


def test_every_truncation(file):
    whole = file.read_bytes().rstrip()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        refused(file)


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"5", b"\xff", b"[" * 100_000, b"9" * 5000, b'{"a": 1} x'])
def test_garbage(file, content):
    file.write_bytes(content)
    refused(file)


def test_another_file(file):
    assert "belongs elsewhere: its run is a1, not b2" in refused(file, run="b2")


def test_without_a_checksum(file):
    file.write_text(json.dumps(CONTENT))
    assert "has no checksum" in refused(file)


def test_missing_or_no_file(file, tmp_path):
    file.unlink()
    assert "is missing" in refused(file)
    refused(tmp_path)


def test_signed_again_it_gives_what_it_holds_if_the_kinds_fit(file):
    write_signed(file, {"accuracy": 0.5})
    assert read_signed(file, {"accuracy": real(0, 1)}) == {"accuracy": 0.5}
    write_signed(file, {"accuracy": 1.5})
    assert "accuracy must be a number from 0 to 1, not 1.5" in refused(file, {"accuracy": real(0, 1)})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_any_json_proves_itself_after_a_round_trip(content):
    content.pop("sha256", None)
    back = json.loads(json.dumps(signed(content)))
    assert json.dumps(proven(back, "here"), sort_keys=True) == json.dumps(content, sort_keys=True)


# ---- kinds ----


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (whole(1, 9), [1, 9], [0, 10, 1.0, True, "1", None, [1], 10**400]),
        (real(0, 1), [0, 1, 0.5], [-0.1, 2, float("nan"), float("inf"), True, "0", None, 10**400]),
        (real(0, finite=False), [0.0, float("nan"), float("inf")], [-1.0, float("-inf"), "nan"]),
        (text(3), ["", "abc"], ["abcd", 1, None, b"a"]),
        (flag, [True, False], [0, 1, None, "true"]),
        (maybe(whole()), [None, 3], ["3", -1]),
        (either(whole(), text(2)), [3, "ab"], [-1, "abc", None]),
        (listed(whole(), 1, 2), [[1], [1, 2]], [[], [1, 2, 3], [None], (1,), 1]),
        (mapping(whole()), [{}, {"a": 1}], [{"a": "1"}, [], None]),
        (table({"a": whole()}, {"b": text()}), [{"a": 1}, {"a": 1, "b": ""}], [{}, {"b": ""}, {"a": 1, "c": 1}, 5]),
    ],
)
def test_kinds(kind, good, bad):
    for value in good:
        kind(value, "here")
    for value in bad:
        with pytest.raises(WrongKind) as error:
            kind(value, "here")
        assert len(str(error.value)) < 200
        assert "here" in str(error.value)


def test_the_place_is_named():
    with pytest.raises(WrongKind, match=r"^metrics\[1\]\.loss must be a number, not 'x'$"):
        table({"metrics": listed(table({"loss": real()}))})({"metrics": [{"loss": 1}, {"loss": "x"}]}, "")
