"""What a dataset says of itself is true, complete and the same for equal data; hostile names do no harm."""

import base64
import html.parser
import io
import json
import os
import re
import shutil

import numpy as np
import PIL.Image
import pytest

from beam_pipelines.card import card, hours, readable
from beam_pipelines.charts import png, share_chart
from beam_pipelines.corpora.midi import MidiFolder
from beam_pipelines.describe import as_text, inspect, stats_json, write_documents, write_report
from beam_pipelines.examples import beginning
from schemas.errors import InputError
from schemas.manifest import read_manifest
from schemas.music import Notes, Piece, TempoMap
from tests.beam_pipelines.tiny_dataset import edit_ledger, entries, seal, write_dataset

HOSTILE = "midi/<script>alert(1)</script>\"'&|`*\x1b[31m\u202e\x00.mid"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_dataset(str(tmp_path_factory.mktemp("sound") / "data"), entries())


@pytest.fixture
def hostile(sound, tmp_path):
    """A dataset whose ledger and quarantine hold the worst names."""
    folder = shutil.copytree(sound, str(tmp_path / "data"))
    bad = {"name": HOSTILE, "group": HOSTILE, "split": "train", "sha256": "", "bytes": 3, "records": 0}
    lines = [
        {**bad, "status": "quarantined", "reason": "not-<b>midi"},
        {**bad, "name": HOSTILE + "2", "status": "skipped", "reason": "x|y"},
    ]
    edit_ledger(folder, lambda old: old + lines)
    with open(os.path.join(folder, "quarantine", "quarantine.jsonl"), "w") as file:
        file.write(json.dumps({"name": HOSTILE, "message": "<img src=x onerror=alert(2)>", "offset": 7}) + "\n")
    seal(folder)
    return folder


class Page(html.parser.HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.text += data


def page_of(folder, tmp_path):
    write_report(folder, str(tmp_path / "page.html"))
    return Page((tmp_path / "page.html").read_text())


def test_all_documents_are_there_and_not_empty(sound):
    for name in ("stats.json", "card.md", "report.html", "LICENSE-DATA", "CITATION.bib"):
        assert os.path.getsize(os.path.join(sound, name)) > 20, name


def test_inspect_says_what_the_manifest_and_the_ledger_say(sound):
    found = inspect(sound)
    manifest = read_manifest(sound)
    assert found["items"] == {"train": 6, "validation": 2, "test": 2}
    assert found["splits"]["train"]["records"] == manifest.records("train")
    assert found["splits"]["train"]["copies"] == 18
    assert found["splits"]["train"]["pieces"] == 6
    assert found["ledger"] == {"written": {"": 10}, "skipped": {}, "quarantined": {}}
    assert found["dropped_copies"] == {"instrument": 3}
    assert found["ignored_files"] == {".txt": 2}
    assert found["fingerprint"] == manifest.fingerprint
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(inspect(sound)))


def test_the_text_for_a_terminal_has_every_split_and_the_reports(sound):
    text = as_text(inspect(sound))
    assert [line.split()[0] for line in text.splitlines()[3:6]] == ["train", "validation", "test"]
    assert "a report" in text and "instrument 3" in text


def test_equal_datasets_have_equal_documents(sound, tmp_path):
    again = write_dataset(str(tmp_path / "again"), entries())
    for name in ("stats.json", "card.md", "report.html", "LICENSE-DATA", "CITATION.bib", "COMPLETED"):
        with open(os.path.join(sound, name), "rb") as one, open(os.path.join(again, name), "rb") as other:
            assert one.read() == other.read(), name


def test_the_report_shows_a_piano_roll_of_each_split_that_decodes(sound, tmp_path):
    page = page_of(sound, tmp_path)
    sources = [value for name, value in page.attributes if name == "src"]
    assert len(sources) == 3
    for source in sources:
        image = PIL.Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,"))))
        assert image.size == (1040, 260)
        assert len(set(np.asarray(image.convert("RGB")).reshape(-1, 3).max(axis=1).tolist())) > 3


def test_the_report_has_four_charts_and_needs_nothing_from_outside(sound, tmp_path):
    page = page_of(sound, tmp_path)
    assert page.tags.count("svg") == 4
    assert "script" not in page.tags and "link" not in page.tags and "iframe" not in page.tags
    assert not [value for _, value in page.attributes if value and re.match(r"(?:https?:)?//", value)]
    assert any("default-src 'none'" in (value or "") for _, value in page.attributes)


def test_hostile_names_can_do_nothing_in_the_report(hostile, tmp_path):
    page = page_of(hostile, tmp_path)
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.tags.count("img") == 3
    assert "<script>alert(1)</script>" in page.text and "<img src=x onerror=alert(2)>" in page.text
    assert not {"\x1b", "\x00", "\u202e"} & set(page.text)
    assert "\\x1b" in page.text


def test_hostile_names_can_do_nothing_in_a_terminal_or_the_card(hostile):
    crossing = {"crossing_groups": [HOSTILE], "crossing_copies": [[HOSTILE, HOSTILE]]}
    found = {**inspect(hostile), "reports": [readable(HOSTILE)], **crossing}
    for text in (as_text(found), card(found)):
        assert all(letter.isprintable() or letter == "\n" for letter in text)
    lines = card(found).splitlines()
    assert not [line for line in lines if "<script>" in line]
    assert any("\\<script\\>" in line for line in lines)
    rows = [line for line in lines if line.startswith("| inputs")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)


def test_the_card_names_licence_citation_and_what_was_left_out(sound):
    found = {
        **inspect(sound),
        "crossing_groups": ["one group"],
        "crossing_copies": [["one", "other"], ["two", "three"]],
    }
    assert "known leaks  1 group and 2 copies that the corpus itself lets cross" in as_text(found)
    text = card(found)
    for part in (
        "## Licence and citation",
        "not known: that of the files",
        "| train | 6 |",
        "copies dropped | instrument | 3",
        "lets 1 group and 2 copies cross its splits",
        "- one group",
        "- one, a copy of other",
    ):
        assert part in text, part


def test_statistics_are_kept_as_given_and_harmless():
    stats = stats_json(MidiFolder(), {}, {"b": 1, "a": 2}, {"\udcff": 1}, ["\x1b[2J", "\udcfe"])
    assert stats["ignored_files"] == {"\\udcff": 1}
    assert stats["reports"] == ["\\x1b[2J", "\\udcfe"]
    assert list(stats["dropped_copies"]) == ["a", "b"]
    assert stats["splits"]["train"]["notes"] == 0
    json.dumps(stats).encode()


def test_a_dataset_of_one_split_has_a_page_too(tmp_path):
    folder = write_dataset(str(tmp_path / "data"), entries(train=1, validation=0, test=0))
    page = page_of(folder, tmp_path)
    assert page.tags.count("img") == 1


def test_a_page_is_made_although_a_shard_is_damaged(sound, tmp_path):
    folder = shutil.copytree(sound, str(tmp_path / "data"))
    path = os.path.join(folder, read_manifest(folder).shards_of("test")[0].name)
    with open(path, "r+b") as file:
        file.truncate(10)
    assert page_of(folder, tmp_path).tags.count("img") == 2


@pytest.mark.parametrize(
    ("name", "text"), [("stats.json", "{"), ("stats.json", "[]"), ("items.jsonl", "{\n"), ("items.jsonl", "[]\n")]
)
def test_a_damaged_document_is_an_input_error_that_names_it(sound, tmp_path, name, text):
    folder = shutil.copytree(sound, str(tmp_path / "data"))
    with open(os.path.join(folder, name), "w") as file:
        file.write(text)
    with pytest.raises(InputError, match=f"{name}.*stretto verify"):
        inspect(folder)


def test_a_folder_that_is_no_dataset_is_an_input_error(tmp_path):
    with pytest.raises(InputError):
        inspect(str(tmp_path))


def test_licence_and_citation_are_those_of_the_corpus(tmp_path):
    from beam_pipelines.corpora.maestro import Maestro

    folder = write_dataset(str(tmp_path / "data"), entries())
    write_documents(folder, Maestro(), read_manifest(folder), {}, {}, {}, [])
    with open(os.path.join(folder, "LICENSE-DATA")) as licence, open(os.path.join(folder, "CITATION.bib")) as citation:
        assert "CC BY-NC-SA 4.0" in licence.read()
        assert citation.read().startswith("@inproceedings{hawthorne2019maestro,")


def test_the_beginning_of_a_piece_is_cut_at_its_time():
    piece = Piece("x", Notes.of([0, 900, 1500], [5000, 1200, 1600], [60, 62, 64], 80), tempo=TempoMap.constant(500))
    assert beginning(piece, 1.0).end_seconds().tolist() == [1.0, 1.0]


def test_a_chart_of_nothing_says_so():
    assert "nothing to show" in share_chart("Pitch", {"train": [0, 0]}, {}, "notes")


def test_a_png_decodes_to_the_same_picture():
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    assert (np.asarray(PIL.Image.open(io.BytesIO(png(image)))) == image).all()


@pytest.mark.parametrize(
    ("centiseconds", "text"),
    [(0, "0.0 minutes"), (6000, "1.0 minutes"), (360_000, "1.0 hours"), (36_000_000, "100.0 hours")],
)
def test_time_is_told_in_minutes_or_hours(centiseconds, text):
    assert hours(centiseconds) == text
