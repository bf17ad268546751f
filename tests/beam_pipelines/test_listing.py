"""The listing: streamed in order to parts; what is asked for and not there is refused."""

from dataclasses import dataclass, replace
from itertools import islice

import pytest

from beam_pipelines.build import prepare
from beam_pipelines.corpora.corpus import Item
from beam_pipelines.corpora.midi import MidiFolder
from beam_pipelines.folder import Folder
from beam_pipelines.listing import part_sizes, read_part, write_listing
from schemas.errors import InputError
from tests.beam_pipelines.midi_files import build_of, midi_folder


def prepare_dry(build):
    prepare(replace(build, dry_run=True), [], as_json=False)


@dataclass(frozen=True)
class Named(MidiFolder):
    """A corpus that lists given names."""

    names: tuple[str, ...] = ()

    def items(self, root):
        yield from (Item(name, name, path=name) for name in self.names)


def test_parts_hold_every_item_in_order(tmp_path):
    names = tuple(f"{number:04d}" for number in range(150))
    folder = Folder(str(tmp_path))
    listing = write_listing(replace(build_of(tmp_path), corpus=Named(names=names)), folder)
    assert listing.items == 150
    assert [item.name for part in range(listing.parts) for item in read_part(folder, part)[1]] == list(names)


def test_parts_grow_so_that_a_million_items_need_about_a_thousand():
    assert sum(islice(part_sizes(), 1200)) > 1_000_000 and list(islice(part_sizes(), 2)) == [4, 4]


def test_a_shorter_listing_leaves_no_parts_of_a_longer_one(tmp_path):
    folder, build = Folder(str(tmp_path)), build_of(tmp_path)
    write_listing(replace(build, corpus=Named(names=tuple(f"{n:03d}" for n in range(20)))), folder)
    listing = write_listing(replace(build, corpus=Named(names=("000",))), folder)
    assert listing.parts == 1 and len(list((tmp_path / "items").iterdir())) == 1


@pytest.mark.parametrize("names", [("b", "a"), ("a", "a")])
def test_names_out_of_order_or_given_twice_are_refused(tmp_path, names):
    with pytest.raises(InputError, match="sorted and unique"):
        write_listing(replace(build_of(tmp_path), corpus=Named(names=names)), Folder(str(tmp_path)))


def test_an_empty_corpus_is_refused_with_where_to_get_it(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="no input.*any folder"):
        write_listing(build_of(tmp_path), Folder(str(tmp_path)))


@pytest.mark.parametrize("ask", [lambda build: write_listing(build, Folder(build.building)), prepare_dry])
def test_a_folder_of_links_alone_says_how_many_there_are_and_what_to_do(tmp_path, ask):
    midi_folder(tmp_path / "elsewhere", 2)
    (tmp_path / "in").mkdir()
    for name in ("000.mid", "001.mid"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "elsewhere" / name)
    with pytest.raises(InputError, match=r"2 names there are links.*'000\.mid'.*not followed.*cp -rL"):
        ask(build_of(tmp_path))


def test_only_says_which_of_its_paths_are_links_or_behind_one(tmp_path):
    midi_folder(tmp_path / "elsewhere", 2)
    midi_folder(tmp_path / "in", 1)
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "elsewhere")
    only = tmp_path / "only.txt"
    only.write_text("000.mid\nfolder/001.mid\n")
    with pytest.raises(InputError, match=r"1 of 2 paths are no input.*1 name there is a link.*'folder/001\.mid'"):
        write_listing(build_of(tmp_path, only=str(only)), Folder(str(tmp_path)))


def test_an_empty_list_is_refused_and_no_odd_name_reaches_the_screen_raw(tmp_path):
    midi_folder(tmp_path / "in", 1)
    only = tmp_path / "on\nly\x1b[31m.txt"
    for text, told in (("\n\n", "names no path"), ("a\x1b[31m.mid\n", r"'a\\x1b\[31m\.mid'")):
        only.write_text(text)
        with pytest.raises(InputError, match=rf"on\\nly\\x1b.*{told}") as caught:
            write_listing(build_of(tmp_path, only=str(only)), Folder(str(tmp_path)))
        assert str(caught.value).isprintable()


def test_only_chooses_paths_and_refuses_those_that_are_not_there(tmp_path):
    midi_folder(tmp_path / "in", 3)
    only = tmp_path / "only.txt"
    only.write_text("002.mid\r\n\n000.mid\n")
    assert write_listing(build_of(tmp_path, only=str(only)), Folder(str(tmp_path))).items == 2
    only.write_text("000.mid\nnone.mid\n")
    with pytest.raises(InputError, match=r"1 of 2 paths are no input.*'none\.mid'"):
        write_listing(build_of(tmp_path, only=str(only)), Folder(str(tmp_path)))


def test_a_missing_list_is_refused_with_its_name(tmp_path):
    midi_folder(tmp_path / "in", 1)
    with pytest.raises(InputError, match=r"none\.txt.*--only"):
        write_listing(build_of(tmp_path, only=str(tmp_path / "none.txt")), Folder(str(tmp_path)))


def test_names_with_odd_bytes_survive(tmp_path):
    odd = Item("midi/a%FF", "g", path="a\udcff\u2028\n.mid")
    folder = Folder(str(tmp_path))

    @dataclass(frozen=True)
    class Odd(MidiFolder):
        def items(self, root):
            yield odd

    write_listing(replace(build_of(tmp_path), corpus=Odd()), folder)
    assert read_part(folder, 0)[1] == [odd]
