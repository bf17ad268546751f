"""Names: every key leads back to its file, no two files share one, and no name can be mistaken for another."""

import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from schemas.naming import (
    SPLITS,
    Key,
    copy_key,
    index_name,
    item_name,
    parse_key,
    parse_shard_name,
    shard_name,
    window_key,
)

# What a file system may give: any bytes but NUL, undecodable ones as surrogates.
PATHS = (
    st.binary(min_size=1, max_size=40)
    .filter(lambda b: b"\0" not in b)
    .map(lambda b: b.decode(errors="surrogateescape"))
)
STRETCHES = st.floats(0.01, 100, allow_nan=False)


@given(PATHS, st.text(max_size=8).filter(lambda text: "\0" not in text))
def test_an_item_name_is_clean_text_for_any_path_a_disk_can_hold(path, part):
    name = item_name("midi", path, part)
    assert name == unicodedata.normalize("NFC", name)
    assert name.encode("utf-8").decode() == name
    assert not set(name) & set("#@\n\r\t\0")
    assert name.count("!") == bool(part)


@given(PATHS, PATHS)
def test_two_paths_share_a_name_only_if_unicode_calls_them_equal(first, second):
    assume(unicodedata.normalize("NFC", first) != unicodedata.normalize("NFC", second))
    assert item_name("midi", first) != item_name("midi", second)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("2018/a.midi", "maestro/2018/a.midi"),
        ("Étude.mid", "maestro/Étude.mid"),
        ("E\u0301tude.mid", "maestro/Étude.mid"),
        ("caf\udce9.mid", "maestro/caf%E9.mid"),
        ("50% #1 @home!.mid", "maestro/50%25 %231 %40home%21.mid"),
        ("line\nbreak.mid", "maestro/line%0Abreak.mid"),
    ],
)
def test_a_name_keeps_what_it_can_and_encodes_the_rest(path, name):
    assert item_name("maestro", path) == name


@given(PATHS, st.integers(-127, 127), STRETCHES, st.integers(0, 10**7))
def test_a_key_taken_apart_gives_what_it_was_made_of(path, semitones, stretch, window):
    item = item_name("midi", path)
    key = window_key(copy_key(item, semitones, stretch), window)
    assert parse_key(key) == Key(item, semitones, stretch, window)


def test_keys_look_as_documented():
    assert window_key(copy_key("maestro/a.midi", 3, 1.025), 12) == "maestro/a.midi#+3@1.025/00012"
    assert window_key(copy_key("maestro/a.midi", 0, 1.0), 123456) == "maestro/a.midi#+0@1/123456"
    assert parse_key("maestro/a.midi#+0@1/00000").is_original
    assert not parse_key("maestro/a.midi#-1@1/00000").is_original


@pytest.mark.parametrize(
    "text",
    ["", "a", "a/00000", "a#+0@1", "a#0@1/00000", "a#+0@1/0", "a#+0@/00000", "a#+0@nan/00000", "a#+0@-1/00000"]
    + ["#+0@1/00000", "a#+0@1#+0@1/00000", "a#+0@1/00000\n", "a#+0@1/ 0000", "a#+0@1/٠٠٠٠٠", "a#+٣@1/00000"],
)
def test_what_is_no_key_is_refused(text):
    with pytest.raises(ValueError, match="is no record key"):
        parse_key(text)


@given(
    st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True),
    st.sampled_from(SPLITS),
    st.integers(0, 10**6),
    st.integers(1, 10**6),
)
def test_a_shard_name_taken_apart_gives_what_it_was_made_of(corpus, split, index, total):
    assert parse_shard_name(shard_name(corpus, split, index, total)) == (corpus, split, index, total)


def test_shards_and_indexes_are_named_as_documented():
    name = shard_name("music21-chorales", "train", 3, 32)
    assert name == "music21-chorales-train.tfrecord-00003-of-00032"
    assert index_name(name) == "index/music21-chorales-train.tfrecord-00003-of-00032.idx"


@pytest.mark.parametrize(
    "text",
    ["a-train.tfrecord-1-of-2", "a-dev.tfrecord-00000-of-00001", "manifest.json", "-train.tfrecord-00000-of-00001"],
)
def test_what_is_no_shard_name_is_refused(text):
    with pytest.raises(ValueError, match="is no shard name"):
        parse_shard_name(text)
