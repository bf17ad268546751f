"""The chorales are what music21 reads, four voices each, grouped by tune; a damaged cache does no harm."""

import json
import os
import shutil
import zipfile
from collections import Counter

import pytest

from beam_pipelines.corpora import music21_chorales
from beam_pipelines.corpora.corpus import Skip
from beam_pipelines.corpora.music21_chorales import Music21Chorales
from beam_pipelines.corpora.tunes import group_tunes
from schemas.errors import MissingExtra, Unreadable

pytest.importorskip("music21")
CHORALES = Music21Chorales()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache folder for this module: the corpus is parsed once."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("cache")
    patch.setenv("XDG_CACHE_HOME", str(folder))
    yield folder
    patch.undo()


@pytest.fixture
def few(tmp_path, cache):
    """A folder with three chorales of music21, one of them on the same tune as another, and one with too many parts."""
    return folder_with(tmp_path, "bwv66.6", "bwv18.5-lz", "bwv18.5-w", "bwv1.6")


def folder_with(folder, *names):
    source = music21_chorales._folder("")
    for name in names:
        shutil.copy(os.path.join(source, f"{name}.mxl"), folder)
    return str(folder)


def music21_notes(path):
    """Start, end, pitch and part of every note, ties joined by music21 itself."""
    from music21 import converter

    score = converter.parse(path, forceSource=True, storePickle=False).stripTies()
    found = []
    for number, part in enumerate(score.parts):
        for note in part.flatten().notes:
            if note.duration.quarterLength:
                start = float(note.offset)
                found.append((start, start + float(note.duration.quarterLength), note.pitch.midi, number))
    return sorted(found)


@pytest.mark.parametrize("name", ["bwv66.6", "bwv248.64-s", "bwv299", "bwv315", "bwv113.8", "bwv432", "bwv145-a"])
def test_notes_equal_what_music21_reads_with_its_ties_joined(name, cache):
    path = os.path.join(music21_chorales._folder(""), f"{name}.mxl")
    [item] = [item for item in items_without_tunes() if item.path == f"{name}.mxl"]
    notes = CHORALES.parse(item, "").notes
    ours = sorted(
        zip(
            (notes.start / 480).tolist(),
            (notes.end / 480).tolist(),
            notes.pitch.tolist(),
            notes.track.tolist(),
            strict=True,
        )
    )
    assert ours == music21_notes(path)


def items_without_tunes():
    from beam_pipelines.corpora.corpus import Item
    from schemas.naming import item_name

    names = sorted(os.listdir(music21_chorales._folder("")))
    return [Item(item_name(CHORALES.name, name), "", path=name) for name in names if name.endswith(".mxl")]


def test_a_chorale_is_four_voices_at_one_tempo_with_signatures(few):
    [item] = [item for item in CHORALES.items(few) if item.path == "bwv66.6.mxl"]
    piece = Music21Chorales(tempo=60).parse(item, few)
    assert sorted(set(piece.notes.track.tolist())) == [0, 1, 2, 3]
    assert piece.seconds == 36.0
    assert piece.time_signatures[0] == (0, 4, 4)
    assert piece.key_signatures[0] == (0, 3, True)
    assert piece.labels["voices"] == ("soprano", "alto", "tenor", "bass")


def test_scores_with_other_parts_are_skipped_with_a_reason(few):
    outcomes = {}
    for item in CHORALES.items(few):
        try:
            outcomes[item.path] = len(CHORALES.parse(item, few).notes)
        except Skip as skip:
            outcomes[item.path] = skip.reason
    assert outcomes["bwv1.6.mxl"] == "not-four-parts"
    assert all(isinstance(outcomes[path], int) for path in outcomes if path != "bwv1.6.mxl")


def test_harmonisations_of_one_tune_share_a_group(few):
    groups = {item.path: item.group for item in CHORALES.items(few)}
    assert groups["bwv18.5-lz.mxl"] == groups["bwv18.5-w.mxl"] == "music21-chorales/bwv18.5-lz.mxl"
    assert len(set(groups.values())) == 3


def test_a_chorale_of_the_catalogue_bears_its_title(tmp_path, cache):
    folder = folder_with(tmp_path, "bwv269")
    [item] = CHORALES.items(folder)
    assert CHORALES.parse(item, folder).labels["title"] == "Aus meines Herzens Grunde"


def test_shared_traits_are_followed_to_the_end():
    traits = {"a": ["t1"], "b": ["t2"], "c": ["t1", "t2"], "d": [], "e": ["t3"], "f": ["t3"]}
    assert group_tunes(traits) == {"a": "a", "b": "a", "c": "a", "d": "d", "e": "e", "f": "e"}


def test_a_second_reading_comes_from_the_cache_and_is_equal(few, cache, monkeypatch):
    first = [CHORALES.parse(item, few) for item in CHORALES.items(few) if item.path == "bwv66.6.mxl"]
    monkeypatch.setattr(music21_chorales, "piece_of_text", lambda *_: pytest.fail("parsed again"))
    second = [CHORALES.parse(item, few) for item in CHORALES.items(few) if item.path == "bwv66.6.mxl"]
    assert (first[0].notes.start == second[0].notes.start).all()
    assert (first[0].notes.pitch == second[0].notes.pitch).all()


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"null", b'{"sha256": "0", "content": {}}', b"\xff" * 100, b"[" * 200_000]
)
def test_a_damaged_cache_entry_is_made_again(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = folder_with(tmp_path, "bwv66.6")
    [item] = CHORALES.items(folder)
    [entry] = (tmp_path / "cache").rglob("*.json")
    whole = entry.read_bytes()
    entry.write_bytes(damage)
    assert len(CHORALES.parse(item, folder).notes) > 100
    assert entry.read_bytes() == whole


def test_an_entry_whose_notes_were_changed_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = folder_with(tmp_path, "bwv66.6")
    [item] = CHORALES.items(folder)
    expected = CHORALES.parse(item, folder).notes.pitch.tolist()
    [entry] = (tmp_path / "cache").rglob("*.json")
    stored = json.loads(entry.read_text())
    stored["content"]["notes"][0][2] += 12
    entry.write_text(json.dumps(stored))
    assert CHORALES.parse(item, folder).notes.pitch.tolist() == expected


def test_without_a_place_for_the_cache_the_chorales_are_still_read(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    folder = folder_with(tmp_path, "bwv66.6")
    [item] = CHORALES.items(folder)
    assert len(CHORALES.parse(item, folder).notes) > 100


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 damaged", b"no archive at all"])
def test_a_file_that_is_no_archive_is_quarantined(tmp_path, cache, data):
    (tmp_path / "bwv1.mxl").write_bytes(data)
    [item] = CHORALES.items(str(tmp_path))
    with pytest.raises(Unreadable) as error:
        CHORALES.parse(item, str(tmp_path))
    assert error.value.reason == "bad-mxl"


BAR = "<measure number='1'><attributes><divisions>{}</divisions></attributes>{}</measure>"
NOTE = "<note><pitch><step>{}</step><octave>{}</octave></pitch><duration>4</duration><type>whole</type></note>"


def score(bar):
    """A MusicXML score of four equal parts."""
    names = "".join(f"<score-part id='P{n}'><part-name>x</part-name></score-part>" for n in range(4))
    parts = "".join(f"<part id='P{n}'>{bar}</part>" for n in range(4))
    return f"<score-partwise><part-list>{names}</part-list>{parts}</score-partwise>"


def packed_score(path, text):
    with zipfile.ZipFile(path, "w") as whole:
        whole.writestr("a.xml", text)


@pytest.mark.parametrize(
    "bar",
    [
        BAR.format(0, NOTE.format("C", 4)),
        BAR.format(1, NOTE.format("Q", 4)),
        BAR.format(1, NOTE.format("C", "x")),
        "<x",
    ],
)
def test_a_score_on_which_music21_stumbles_costs_itself_and_not_the_listing(tmp_path, cache, bar):
    packed_score(tmp_path / "a-bad.mxl", score(bar))
    packed_score(tmp_path / "b-good.mxl", score(BAR.format(1, NOTE.format("C", 4))))
    bad, good = CHORALES.items(str(tmp_path))
    assert len(CHORALES.parse(good, str(tmp_path)).notes) == 4
    with pytest.raises(Unreadable, match=r"^a-bad\.mxl: music21 cannot read it: .*, raised by .*, line \d+") as error:
        CHORALES.parse(bad, str(tmp_path))
    assert error.value.reason == "bad-musicxml"
    assert os.path.dirname(os.path.dirname(music21_chorales.__file__)) not in str(error.value)
    assert "site-packages" not in str(error.value)


def test_without_music21_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"stretto\[music21\]"):
        list(CHORALES.items(""))


@pytest.mark.slow
def test_the_installed_corpus_has_364_chorales_in_four_voices(cache):
    counts = Counter()
    for item in CHORALES.items(""):
        try:
            CHORALES.parse(item, "")
            counts["read"] += 1
        except Skip as skip:
            counts[skip.reason] += 1
    assert counts == {"read": 364, "not-four-parts": 44}
    assert CHORALES.ignored("") == {".krn": 3, ".rntxt": 20, ".xml": 2}
