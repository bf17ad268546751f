"""What a document from a file may hold, and what is refused before or while it is parsed."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.documents import MOST_CONTAINERS, parse_json, parse_toml, read_json
from schemas.errors import InputError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**90), 10**90) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from('[]{}"\\')),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('[]{}"\\ab', max_size=4), inner, max_size=4),
    max_leaves=30,
)  # fmt: skip


def depth_of(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


@given(VALUES, st.booleans())
def test_what_json_writes_is_read_as_it_was(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert parse_json(text, "x.json") == value == parse_json(text.encode(), "x.json")


@given(VALUES)
def test_a_document_may_be_as_deep_as_the_limit_and_no_deeper(value: object) -> None:
    # Long enough that the brackets are looked at one by one, which short documents do not need.
    text = json.dumps([value, " " * (1 << 16)])
    deep = depth_of([value])
    parse_json(text, "x.json", depth=deep)
    if deep > 1:
        with pytest.raises(InputError, match="x.json: nested more than"):
            parse_json(text, "x.json", depth=deep - 1)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "[" * 65 + "]" * 65, '["]]]]",' * 65 + "1" + "]" * 65]
)
def test_what_is_nested_too_deep_is_refused_before_it_is_parsed(text: str) -> None:
    with pytest.raises(InputError, match="m.json: nested more than 64 deep"):
        parse_json(text, "m.json")


def test_brackets_in_texts_are_no_depth() -> None:
    texts = ["[" * 1000, '\\"[[', "\\\\", "{" * 70]
    assert parse_json(json.dumps(texts), "x.json") == texts


def test_many_empty_lists_are_refused_before_they_fill_the_memory() -> None:
    with pytest.raises(InputError, match="lists and objects"):
        parse_json(b"[" + b"[]," * MOST_CONTAINERS + b"0]", "x.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": NaN}', "NaN"),
        ("[Infinity]", "Infinity"),
        ("[-Infinity]", "Infinity"),
        ("[1e999]", "beyond the range"),
        ("[-1e999]", "beyond the range"),
        ("[1" + "0" * 100 + "]", "101 digits"),
        ("[1" + "0" * 5000 + "]", "5001 digits"),
        ("[" + f'"{0:064}",' * 2000 + "1" + "0" * 100 + "]", "101 digits"),
        ('{"a": {"b": -1' + "0" * 5000 + "}}", "'b' is an integer of 5001 digits"),
        ('["\\ud800"]', "surrogate"),
        ('["\\uDC00\\ud800"]', "surrogate"),
        ("{'a': 1}", "is no JSON"),
        ("", "is no JSON"),
        ("[1] [2]", "is no JSON"),
    ],
)
def test_what_is_no_plain_value_is_refused_with_the_name_of_the_file(text: str, said: str) -> None:
    with pytest.raises(InputError, match="dir/x.json: .*" + said):
        parse_json(text.encode(), "dir/x.json")


@pytest.mark.parametrize("offset", range(25))
def test_a_huge_integer_is_found_wherever_it_stands_in_a_large_document(offset: int) -> None:
    data = b" " * offset + b"[" + b'"text", ' * 10_000 + b"9" * 101 + b"]"
    with pytest.raises(InputError, match="101 digits"):
        parse_json(data, "x.json")


def test_what_is_not_utf_8_is_refused_with_line_and_offset() -> None:
    with pytest.raises(InputError, match="x.json, line 2: byte 0xe9 at offset 4 is not UTF-8"):
        parse_json(b'[\n"a\xe9"]', "x.json")
    with pytest.raises(InputError, match="x.toml, line 1: byte 0xe9 at offset 5"):
        parse_toml(b'a = "\xe9"', "x.toml")
    with pytest.raises(InputError, match="x.json, line 2: byte 0xe9 at offset 6"):
        parse_json(b'\xef\xbb\xbf[\n"\xe9"]', "x.json")


@pytest.mark.parametrize("data", [b"PK\x03\x04\x00[[[[[[[[[[" * 99, '{"a": 1}'.encode("utf-16")])
def test_another_kind_of_file_is_called_that_however_many_brackets_it_has(data: bytes) -> None:
    with pytest.raises(InputError, match="evil.json: holds a zero byte, so it is no JSON, but another kind of file"):
        parse_json(data, "evil.json")


def test_a_byte_order_mark_is_no_part_of_the_document() -> None:
    assert parse_json(b"\xef\xbb\xbf[1]", "x.json") == [1]
    assert parse_toml(b"\xef\xbb\xbfa = 1", "x.toml") == {"a": 1}


def test_a_document_over_the_limit_is_refused_and_one_at_the_limit_is_read() -> None:
    assert parse_json(b"[1]", "x.json", limit_bytes=3) == [1]
    for parse in (parse_json, parse_toml):
        with pytest.raises(InputError, match="x.json: more than 3 bytes"):
            parse(b"[1] ", "x.json", limit_bytes=3)


def test_a_key_given_twice_is_refused_where_that_is_asked_for() -> None:
    assert parse_json('{"a": 1, "a": 2}', "x.json") == {"a": 2}
    with pytest.raises(InputError, match="'a' stands twice"):
        parse_json('{"b": [{"a": 1, "a": 2}]}', "x.json", unique_keys=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = " + "[" * 10_000, "deep|no TOML"),
        ("a = " + "[" * 40 + "]" * 40, "nested more than 32 deep"),
        ("a = " + "[" * 32 + "]" * 32, "nested more than 32 deep"),
        ("a = " + "{b = " * 40 + "1" + "}" * 40, "nested more than 32 deep"),
        (".".join("a" * 33) + " = 1", "more than 32 parts"),
        ("[" + " . ".join(['"a"'] * 100_000) + "]", "more than 32 parts"),
        ("[[" + ".".join(["'a'", "b"] * 20) + "]]", "more than 32 parts"),
        (".".join("a" * 33) + " " * 900_000 + "= 1", "more than 32 parts"),
        (" " * 900_000 + "a", "no TOML"),
        ("a = inf", "inf"),
        ("a = [nan]", "nan"),
        ("a = 1" + "0" * 100, "'a' holds an integer of more than 100 digits"),
        ("a = 0x" + "f" * 1000, "100 digits"),
        ("a = 1" + "0" * 5000, "'a' is an integer of 5001 digits; at most 100"),
        ("a = 1\na = 2", "no TOML"),
        ("a =", "no TOML"),
    ],
)
def test_toml_that_is_not_plain_is_refused_with_the_name_of_the_file(text: str, said: str) -> None:
    with pytest.raises(InputError, match=f"dir/x.toml: .*({said})"):
        parse_toml(text.encode(), "dir/x.toml")


def test_toml_may_be_as_deep_as_the_limit() -> None:
    assert parse_toml("a = [[1]]", "x.toml", depth=3) == {"a": [[1]]}
    with pytest.raises(InputError, match="nested more than 2 deep"):
        parse_toml("a = [[]]", "x.toml", depth=2)


def test_toml_of_a_person_is_read() -> None:
    text = 'a = 1.5 # 0.1 0.2. e.g. this...\n"b.c".d = ["x.y.z", 2]\n[e.f]\nday = 2020-01-02\ng = """\n..\n"""\n'
    assert parse_toml(text, "x.toml")["b.c"] == {"d": ["x.y.z", 2]}
    assert parse_toml("a = [" + "0.25, " * 100 + "]", "x.toml")["a"] == [0.25] * 100


def test_a_file_is_read_only_if_it_is_regular_and_small_enough(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("[1, 2]")
    assert read_json(path) == [1, 2]
    with pytest.raises(InputError, match="x.json: more than 3 bytes"):
        read_json(path, limit_bytes=3)
    with pytest.raises(InputError, match="gone.json: cannot be read: No such file"):
        read_json(tmp_path / "gone.json")
    os.mkfifo(tmp_path / "pipe.json")
    for name in (tmp_path / "pipe.json", tmp_path, Path("/dev/zero")):
        with pytest.raises(InputError, match="regular file|Is a directory"):
            read_json(name)
