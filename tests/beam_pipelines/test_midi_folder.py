"""Any folder of MIDI files: every spelling of the extensions, nested, nothing outside, everything else counted."""

import os

import pytest

from beam_pipelines.corpora.corpus import LARGEST_FILE, item_from_line, item_line
from beam_pipelines.corpora.midi import MidiFolder
from media.midi import write_midi
from schemas.errors import InputError, Unreadable
from schemas.music import Notes, Piece

MIDI = write_midi(Piece("made", Notes.of([0, 480], [480, 960], [60, 64], 80)))


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def put(root, path, data=MIDI):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def items(root, **settings):
    return list(MidiFolder(**settings).items(str(root)))


def reason(root, item):
    with pytest.raises(Unreadable) as error:
        MidiFolder().parse(item, str(root))
    return error.value.reason


def test_every_spelling_of_the_extensions_is_read_at_any_depth(root):
    for path in ("a.mid", "B/c.MIDI", "B/d/e.Kar", "z.rmi"):
        put(root, path)
    found = items(root)
    assert [item.name for item in found] == ["midi/B/c.MIDI", "midi/B/d/e.Kar", "midi/a.mid", "midi/z.rmi"]
    assert all(MidiFolder().parse(item, str(root)).notes.pitch.tolist() == [60, 64] for item in found)
    assert {item.split for item in found} == {""}


def test_an_rmi_file_is_unwrapped(root):
    data = b"data" + len(MIDI).to_bytes(4, "little") + MIDI
    put(root, "x.rmi", b"RIFF" + (len(data) + 4).to_bytes(4, "little") + b"RMID" + data)
    [item] = items(root)
    assert MidiFolder().parse(item, str(root)).notes.pitch.tolist() == [60, 64]


def test_other_files_are_counted_by_extension(root):
    for path in ("a.mid", "b.txt", "c/d.TXT", "README", "x.tar.gz", "mid"):
        put(root, path)
    assert MidiFolder().ignored(str(root)) == {"": 2, ".gz": 1, ".txt": 2}
    assert len(items(root)) == 1


def test_a_group_is_a_file_or_a_folder(root):
    for path in ("work/one.mid", "work/one.kar", "work/two.mid", "other/one.mid"):
        put(root, path)
    assert len({item.group for item in items(root)}) == 3
    assert {item.group for item in items(root, group="folder")} == {"midi/work", "midi/other"}


def test_links_that_lead_out_are_counted_and_not_followed(root, tmp_path):
    put(tmp_path / "outside", "secret.mid")
    put(root, "a.mid")
    (root / "out.mid").symlink_to(tmp_path / "outside" / "secret.mid")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "gone.mid").symlink_to(root / "nothing")
    assert [item.path for item in items(root)] == ["a.mid"]
    assert MidiFolder().ignored(str(root)) == {"(link)": 3}
    assert "3 links" in MidiFolder().reports(str(root))[0]


def test_a_pipe_is_not_read(root):
    put(root, "a.mid")
    os.mkfifo(root / "pipe.mid")
    assert [item.path for item in items(root)] == ["a.mid"]


def test_a_file_that_turned_into_a_pipe_or_link_after_the_listing_is_refused_without_waiting(root, tmp_path):
    put(root, "a.mid")
    put(root, "b.mid")
    put(tmp_path, "outside.mid")
    first, second = items(root)
    (root / "a.mid").unlink()
    os.mkfifo(root / "a.mid")
    (root / "b.mid").unlink()
    (root / "b.mid").symlink_to(tmp_path / "outside.mid")
    assert reason(root, first) == "not-a-file"
    assert reason(root, second) == "path-escapes-root"


def test_a_file_too_large_to_be_music_is_not_read(root):
    with open(root / "huge.mid", "wb") as file:
        file.truncate(LARGEST_FILE + 1)
    [item] = items(root)
    assert reason(root, item) == "too-large"


@pytest.mark.parametrize(
    "name", ["tab\there.mid", "a#b@c%d!.mid", "Ünïcödé 音楽.mid", "quote'\".mid", "back\\..\\slash.mid"]
)
def test_odd_file_names_are_found_again_from_their_item(root, name):
    put(root, name)
    [item] = items(root)
    again = item_from_line(item_line(item))
    assert again == item
    assert not set("#@!\t") & set(item.name)
    assert MidiFolder().read(again, str(root)) == MIDI


def test_a_name_that_is_no_text_is_found_again(root):
    with open(os.fsencode(root) + b"/\xff\xfe.mid", "wb") as file:
        file.write(MIDI)
    [item] = items(root)
    assert item.name == "midi/%FF%FE.mid"
    assert MidiFolder().read(item_from_line(item_line(item)), str(root)) == MIDI


def test_two_names_that_differ_in_the_coding_of_accents_only_are_refused(root):
    put(root, "e\u0301.mid")
    put(root, "\u00e9.mid")
    with pytest.raises(InputError, match="differ only in how accents are coded"):
        items(root)


def test_a_folder_that_is_not_there_is_an_input_error(root):
    with pytest.raises(InputError, match="not a folder"):
        items(root / "nothing")


def test_every_hostile_file_is_read_or_refused_with_a_reason(sample_data):
    root = sample_data("hostile")
    found = items(root)
    assert len(found) > 190
    refused = 0
    for item in found:
        try:
            MidiFolder().parse(item, str(root))
        except Unreadable as error:
            assert error.reason and str(error)
            refused += 1
    assert 0 < refused < len(found)
