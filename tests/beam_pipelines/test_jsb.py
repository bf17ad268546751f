"""The published chorales: whole, in their splits, cell for cell; what is wrong with a file is told by file and step."""

import json
import shutil
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.build import prepare
from beam_pipelines.config import Build
from beam_pipelines.corpora.jsb import FILE, SPLITS, Jsb
from beam_pipelines.listing import checked_items
from beam_pipelines.split import crossing_groups, own_split
from beam_pipelines.verify import verify
from schemas.errors import InputError, Unreadable
from schemas.feature import KEY_FEATURES
from schemas.grid import LENGTH_TICKS, RANGES, cells_of, within
from schemas.manifest import read_manifest
from schemas.naming import parse_key
from schemas.record import from_example, read_records
from schemas.representations.raster import Raster
from schemas.representations.voices import Voices

JSB = Jsb()
STEPS = {"train": 55_228, "validation": 18_408, "test": 18_900}
STEPS_ON = {
    "16th": STEPS,
    "8th": {"train": 27_614, "validation": 9_204, "test": 9_450},
    "quarter": {"train": 13_807, "validation": 4_602, "test": 4_725},
}
CROSSING = ("test/069", "train/142", "train/224")
CROSSING_COPIES = {"16th": (), "8th": (), "quarter": (("train/197", "test/049"),)}


def chorale(first=60, steps=80, seed=0):
    """A chorale that no other seed gives: lists of four pitches."""
    draw = np.random.default_rng(seed).integers(0, 12, (steps, 4))
    return (draw + [first, first - 5, first - 12, first - 20]).tolist()


def write_file(folder, **lists):
    values = {name: [chorale(seed=seed)] for seed, name in enumerate(SPLITS)}
    (folder / FILE).write_text(json.dumps({**values, **lists}))
    return str(folder)


@pytest.fixture(scope="module")
def real(sample_data):
    return str(sample_data("jsb"))


@pytest.fixture(scope="module")
def pieces(real):
    """Item -> piece of the published file."""
    return {item: JSB.parse(item, real, JSB.read(item, real)) for item in JSB.items(real)}


def test_the_published_file_is_whole_in_its_splits(real, pieces):
    assert Counter(item.split for item in pieces) == {"train": 229, "validation": 76, "test": 77}
    assert JSB.version_at(real) == JSB.version and JSB.reports(real) == []


def test_pieces_are_as_long_as_published_rests_at_their_ends_included(pieces):
    steps = Counter()
    for item, piece in pieces.items():
        steps[item.split] += len(cells_of(piece, 4))
    assert steps == STEPS


def test_ids_of_the_raster_are_the_numbers_of_the_file(real, pieces):
    with open(f"{real}/{FILE}") as file:
        lists = json.load(file)
    for item, piece in pieces.items():
        name, _, number = item.part.partition("/")
        numbers = np.array(lists[name][int(number)]).reshape(-1)
        np.testing.assert_array_equal(Raster().tokens(piece), np.where(numbers < 0, 128, numbers))


def test_no_published_chorale_leaves_the_vocal_ranges_and_none_of_them_is_wider_than_it_must_be(pieces, real):
    assert all(within(piece, RANGES["vocal"]) for piece in pieces.values())
    low, high = np.transpose(RANGES["vocal"])
    cells = np.concatenate([cells_of(piece, 4) for piece in pieces.values()]).astype(int)
    used_low, used_high = np.where(cells < 128, cells, 999).min(0), np.where(cells < 128, cells, -1).max(0)
    assert used_low.tolist() == [60, 52, 46, 36] and used_high.tolist() == [81, 74, 69, 66]
    # The soprano of music21's chorales goes three semitones lower.
    assert (low - used_low).tolist() == [-3, 0, 0, 0] and (high == used_high).all()


def test_chorales_that_share_four_bars_are_one_group_and_three_of_them_cross_the_splits(pieces):
    named = {item.part: item.group.partition("!")[2] for item in pieces}
    assert named["valid/074"] == named["train/224"] and named["valid/058"] == named["train/142"]
    assert named["train/124"] == named["test/069"]
    crossing = crossing_groups((item.group, item.split) for item in pieces)
    assert tuple(group.partition("!")[2] for group in crossing) == CROSSING


def test_where_splits_are_made_anew_a_group_is_a_tune_that_crosses_none(real):
    build = Build(JSB, Voices(), input=real)
    official, anew = list(checked_items(build)), list(checked_items(replace(build, splits="composition")))
    assert [item.name for item in official] == [item.name for item in anew]
    assert (len({item.group for item in official}), len({item.group for item in anew})) == (378, 232)
    of_train = {item.group for item in anew if item.split == "train"}
    shared = Counter(item.split for item in anew if item.group in of_train)
    assert (shared["validation"], shared["test"]) == (33, 37)


@pytest.mark.slow
@pytest.mark.parametrize(
    "representation", [kind(grid=grid, hop=16) for grid in CROSSING_COPIES for kind in (Raster, Voices)], ids=str
)
def test_the_dataset_of_the_published_file_is_whole_and_its_leaks_are_known(representation, real, tmp_path):
    build = Build(JSB, representation, input=f"{real}/{FILE}", output=str(tmp_path / "out"), workers=1)
    prepare(build, [], as_json=False)
    manifest = read_manifest(build.output)
    assert manifest.items == {"train": 229, "validation": 76, "test": 77}
    assert tuple(group.partition("!")[2] for group in manifest.crossing_groups) == CROSSING
    copies = tuple(tuple(name.partition("!")[2] for name in pair) for pair in manifest.crossing_copies)
    assert copies == CROSSING_COPIES[representation.grid]
    report, strict = verify(build.output), verify(build.output, strict=True)
    assert report.counts == {} and len(report.known_copies) == len(copies)
    assert strict.counts == {"leak": 3, **({"copy": len(copies)} if copies else {})}
    statistics = json.loads((tmp_path / "out" / "stats.json").read_text())["splits"]
    width = 4 if isinstance(representation, Raster) else 1
    assert {split: statistics[split]["tokens"] for split in STEPS} == {
        split: width * steps for split, steps in STEPS_ON[representation.grid].items()
    }


def dataset_of(folder, representation, **choices):
    build = Build(JSB, representation, input=str(folder), output=str(folder / "out"), workers=1, **choices)
    prepare(build, [], as_json=False)
    return build.output


def test_a_piece_that_the_file_holds_in_two_splits_stays_and_is_known(tmp_path):
    twin = chorale(seed=1)
    write_file(tmp_path, train=[chorale(seed=5), twin], test=[[[pitch - 2 for pitch in step] for step in twin]])
    folder = dataset_of(tmp_path, Voices(window=16))
    assert read_manifest(folder).items == {"train": 2, "validation": 1, "test": 1}
    assert verify(folder).exit_code == 0 and len(verify(folder).known) == 1
    assert set(verify(folder, strict=True).counts) >= {"leak", "copy"}


def alike_on_beats(semitones):
    """Two chorales that are one on a grid of quarters, and share nothing else."""
    original, between = chorale(seed=21), chorale(seed=22)
    beats = {step: [pitch + semitones for pitch in original[step]] for step in range(0, len(original), 4)}
    return original, [beats.get(step, between[step]) for step in range(len(original))]


def with_alike(folder, semitones=-2, other_tune=False, **choices):
    original, twin = alike_on_beats(semitones)
    twin[4][0] += other_tune  # a tune is the first eight beats of the soprano
    write_file(folder, train=[chorale(seed=5), twin], test=[original])
    return dataset_of(folder, Voices(grid="quarter", window=16), **choices)


@pytest.mark.parametrize(("semitones", "kind"), [(-2, "copy"), (0, "same-piece")])
def test_a_piece_that_only_the_grid_makes_a_copy_of_a_test_piece_stays_and_is_known(semitones, kind, tmp_path):
    folder = with_alike(tmp_path, semitones)
    assert read_manifest(folder).items == {"train": 2, "validation": 1, "test": 1}
    report = verify(folder)
    assert report.exit_code == 0 and report.known == ()
    [known] = report.known_copies
    assert (known.kind, known.key) == (kind, f"jsb/{FILE}!train/001")
    assert any(line.startswith(f"known: {known.key}: ") and "!test/000" in line for line in report.lines())
    assert report.to_json()["known_copies"][0]["key"] == known.key
    strict = verify(folder, strict=True)
    assert strict.exit_code == 5 and strict.counts == {kind: 1} and strict.known_copies == ()


def test_on_a_finer_grid_the_same_pieces_are_none(tmp_path):
    original, twin = alike_on_beats(0)
    write_file(tmp_path, train=[twin], test=[original])
    folder = dataset_of(tmp_path, Voices(window=16))
    assert read_manifest(folder).crossing_copies == () and verify(folder).exit_code == 0


def test_of_a_piece_that_only_changed_copies_are_written_of_the_leak_is_known_too(tmp_path):
    folder = with_alike(tmp_path, transpose=(1, 2), stretch=(0.5, 2.0))
    assert len(read_manifest(folder).crossing_copies) == 1
    assert verify(folder).exit_code == 0 and verify(folder, strict=True).counts == {"copy": 1}


def test_a_copy_that_splits_of_our_own_let_cross_is_wrong_although_the_corpus_has_both(tmp_path):
    names = [f"jsb/{FILE}!{part}" for part in ("test/000", "train/001")]
    fractions = (0.4, 0.3, 0.3)
    seed = next(seed for seed in range(99) if len({own_split(seed, name, fractions) for name in names}) == 2)
    folder = with_alike(tmp_path, other_tune=True, splits="train=0.4,validation=0.3,test=0.3", seed=seed)
    assert read_manifest(folder).crossing_copies == ()
    assert verify(folder).exit_code == 5 and verify(folder).counts == {"copy": 1}


@pytest.mark.parametrize("representation", [Voices(window=16, hop=4), Raster(window=64, hop=16)])
def test_copies_in_other_keys_and_tempos_are_the_cells_transposed(representation, tmp_path):
    write_file(tmp_path, valid=[[[60, 55, 50, 45]] * 20 + [[-1] * 4] * 4])
    folder = dataset_of(tmp_path, representation, transpose=(-2, 0, 2), stretch=(1.0, 1.25))
    assert verify(folder).exit_code == 0
    copies = copies_of(folder, "jsb/Jsb16thSeparated.json!train/000")
    assert copies.keys() == {(-2, 1.0), (0, 1.0), (2, 1.0), (-2, 1.25), (0, 1.25), (2, 1.25)}
    for (semitones, _), records in copies.items():
        piece = representation.decode(records)
        assert piece.labels[LENGTH_TICKS] == 80 * 120
        np.testing.assert_array_equal(cells_of(piece, 4), np.array(chorale(seed=0)) + semitones)


def copies_of(folder, item):
    """(semitones, factor) -> records of every copy of one item."""
    manifest, found = read_manifest(folder), defaultdict(list)
    for shard in manifest.shards:
        for payload in read_records(f"{folder}/{shard.name}"):
            record = from_example(payload, {**KEY_FEATURES, **manifest.features})
            key = parse_key(record["key"].decode())
            if key.item == item:
                found[key.semitones, key.stretch].append(record)
    return found


WRONG = {
    "three voices": [[60, 55, 50]] * 4,
    "five voices": [[60, 55, 50, 45, 40]],
    "truth": [[True, 55, 50, 45]],
    "a fraction": [[60.0, 55, 50, 45]],
    "a text": [["60", 55, 50, 45]],
    "too high": [[128, 55, 50, 45]],
    "too low": [[60, 55, 50, -2]],
    "huge": [[60, 55, 50, 10**30]],
    "no list": [60, 55, 50, 45],
    "null": [None],
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_chorale_that_is_none_is_quarantined_by_its_step_and_costs_no_other(wrong, tmp_path):
    root = write_file(tmp_path, valid=[chorale(seed=3)[:2] + wrong, chorale(seed=4)])
    bad, sound = (item for item in JSB.items(root) if item.split == "validation")
    with pytest.raises(Unreadable, match="sixteenth 2 is") as caught:
        JSB.parse(bad, root)
    assert caught.value.reason == "bad-chorale" and bad.name in str(caught.value)
    assert len(JSB.parse(sound, root).notes)


@pytest.mark.parametrize("empty", [[], None, {}, "chorale", 7])
def test_an_empty_chorale_is_quarantined(empty, tmp_path):
    root = write_file(tmp_path, test=[empty])
    [item] = (item for item in JSB.items(root) if item.split == "test")
    with pytest.raises(Unreadable, match="no list of sixteenths") as caught:
        JSB.parse(item, root)
    assert caught.value.reason == "bad-chorale"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        '{"train": [], "valid": []}',
        '{"train": [], "valid": [], "test": [], "more": []}',
        '{"train": [], "valid": [], "test": {}}',
        '{"train": [], "train": [], "valid": [], "test": []}',
        '{"train": [[[NaN, 1, 2, 3]]], "valid": [], "test": []}',
        '{"train": [[[[1]]]], "valid": [], "test": []}',
        '{"train": ' + "[" * 500 + "]" * 500 + ', "valid": [], "test": []}',
        '{"train": ' + "[" * 100_000,
        '{"train": [[[1e999, 1, 2, 3]]], "valid": [], "test": []}',
        '{"train": [[[1' + "0" * 5000 + ', 1, 2, 3]]], "valid": [], "test": []}',
        '{"train": ["\\ud800"], "valid": [], "test": []}',
        '{"\\u001b[2J": []}',
    ],
)
def test_a_file_of_another_shape_is_refused_by_its_name(text, tmp_path):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(InputError, match=FILE):
        list(JSB.items(str(tmp_path)))


def test_a_list_of_numbers_does_not_become_as_many_items(tmp_path):
    write_file(tmp_path, valid=[0] * 100_000)
    with pytest.raises(InputError, match=f"{FILE}: 100,002 chorales, of which at most 10,000 are read. Give --input"):
        list(JSB.items(str(tmp_path)))


def test_a_step_is_shown_in_letters_that_do_no_harm(tmp_path):
    root = write_file(tmp_path, test=[["\x1b[2J\n\u202e" + "x" * 100_000]])
    [item] = (item for item in JSB.items(root) if item.split == "test")
    with pytest.raises(Unreadable, match=r"sixteenth 0 is '\\x1b\[2J\\n\\u202ex") as caught:
        JSB.parse(item, root)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 200


OTHER_KINDS = {
    "chords": [[[60, 64, 67]] * 20] * 4,
    "chords and rests": [[[48, 60, 64, 67], []] * 20] * 4,
    "a melody": [[60, 62, 64]] * 4,
    "rolls": [[[0] * 88] * 20] * 4,
    "mostly chords": [chorale(seed=7), *[[[60, 64, 67]] * 20] * 9],
}


@pytest.mark.parametrize("train", OTHER_KINDS.values(), ids=OTHER_KINDS)
def test_a_file_of_another_kind_is_refused_as_such_before_any_chorale_is(train, tmp_path):
    write_file(tmp_path, train=train)
    with pytest.raises(InputError) as caught:
        dataset_of(tmp_path, Voices(window=16))
    said = str(caught.value)
    assert said.startswith(f"{FILE}: ") and f"so it is no {FILE}. Give --input {FILE} from https://" in said
    assert "sixteenth" in said and len(said) < 400
    assert not (tmp_path / "out.building").exists()


def test_the_published_chorales_without_their_voices_are_refused_as_such(real):
    with pytest.raises(InputError, match="376 of its 382 chorales are no lists of four voices apart"):
        list(JSB.items(f"{real}/jsb-chorales-quarter.json"))


def test_a_file_with_one_bad_chorale_is_read_without_it(tmp_path):
    root = write_file(tmp_path, train=[[[60, 64, 67]] * 20])
    assert len(list(JSB.items(root))) == 3


def test_another_file_of_the_right_form_is_read_and_said_to_be_another(tmp_path):
    held = [step for step in chorale(seed=5, steps=20) for _ in range(4)]
    write_file(tmp_path, train=[held], valid=[held[4:]], test=[held[8:]])
    [sentence] = JSB.reports(str(tmp_path))
    assert "not the published file" in sentence and sentence.endswith("compares with nothing")
    write_file(tmp_path, train=[held[::4]], valid=[held[4::4]], test=[held[8::4]])
    [sentence] = JSB.reports(str(tmp_path))
    assert sentence.endswith("only 0% of its steps repeat the one before, so they may be longer than sixteenths")


def test_a_folder_without_the_file_is_refused_with_what_to_give(tmp_path):
    with pytest.raises(InputError, match=f"Give --input {FILE}"):
        list(JSB.items(str(tmp_path)))


def test_another_file_than_the_published_one_is_reported(tmp_path):
    [sentence] = JSB.reports(write_file(tmp_path))
    assert FILE in sentence and "not the published file" in sentence


def test_the_file_may_be_given_itself_or_in_a_zip(tmp_path):
    folder = write_file(tmp_path)
    items = list(JSB.items(folder))
    assert list(JSB.items(f"{folder}/{FILE}")) == items and JSB.ignored(f"{folder}/{FILE}") == {}
    archive = shutil.make_archive(str(tmp_path / "jsb"), "zip", folder, FILE)
    assert list(JSB.items(archive)) == items
    one, other = (JSB.parse(items[0], root, JSB.read(items[0], root)) for root in (folder, archive))
    np.testing.assert_array_equal(one.notes.pitch, other.notes.pitch)


def test_a_chorale_that_is_gone_since_it_was_listed_is_missing(tmp_path):
    root = write_file(tmp_path, train=[chorale(), chorale(seed=9)])
    item = list(JSB.items(root))[2]
    write_file(tmp_path)
    assert item.part == "train/001"
    with pytest.raises(Unreadable) as caught:
        JSB.parse(item, root)
    assert caught.value.reason == "missing-part"


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 200) | st.floats(allow_nan=True) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


@given(lists=st.fixed_dictionaries({}, optional=dict.fromkeys(SPLITS, values)))
@settings(max_examples=200)
def test_whatever_stands_in_the_file_is_listed_or_refused_by_name(lists, tmp_path_factory):
    root = write_file(tmp_path_factory.mktemp("jsb"), **lists)
    try:
        items = list(JSB.items(root))
    except InputError:
        return
    for item in items:
        try:
            JSB.parse(item, root)
        except Unreadable as error:
            assert error.reason == "bad-chorale"
