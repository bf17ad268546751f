"""One shard: order, index, what a failing input leaves behind, and when a shard is kept."""

import hashlib
import os
from dataclasses import asdict, dataclass

import pytest

from beam_pipelines.decide import decide, write_plan
from beam_pipelines.folder import Folder, read_value
from beam_pipelines.survey import survey
from beam_pipelines.write import write_shard
from schemas.feature import KEY_FEATURES, RecordError
from schemas.hashing import stable_hash
from schemas.naming import index_name
from schemas.record import from_example, read_framed, read_index
from schemas.representations.events import Events
from tests.beam_pipelines.midi_files import build_of, midi_folder


@dataclass(frozen=True)
class Broken(Events):
    """Events that cannot encode one piece: it fails after its first window."""

    victim: str = ""

    def encode(self, piece):
        for number, record in enumerate(super().encode(piece)):
            if number and piece.name.endswith(self.victim):
                raise RecordError("no such music")
            yield record


@pytest.fixture
def planned(tmp_path):
    """A function: choices -> build, folder and shard names, surveyed and decided."""

    def make(count=6, **choices):
        midi_folder(tmp_path / "in", count)
        choices = {"shards": 1, "splits": "train=1", "transpose": (-1, 0), **choices}
        build = build_of(tmp_path, **choices)
        folder = Folder(str(tmp_path / "building"))
        reports = [survey(build, item) for item in build.corpus.items(build.input)]
        plan = decide(build, reports)
        write_plan(build, folder, reports, plan)
        return build, folder, list(plan.shards)

    return make


def written(build, folder, name):
    assert write_shard(build, folder, name, lambda: None) is False
    return read_value(folder.shard_report(name))


def test_records_lie_in_order_of_the_hash_of_their_keys(planned):
    build, folder, (name,) = planned()
    report = written(build, folder, name)
    features = {**KEY_FEATURES, **build.representation.features()}
    keys = [from_example(payload, features)["key"].decode() for _, payload in read_framed(folder.path(name))]
    assert len(keys) == report["shard"]["records"] > 20
    assert keys == sorted(keys, key=lambda key: (stable_hash(key), key))


def test_keys_of_one_hash_are_ordered_by_name(planned, monkeypatch):
    build, folder, (name,) = planned()
    monkeypatch.setattr("beam_pipelines.write.stable_hash", lambda key: 7)
    written(build, folder, name)
    features = {**KEY_FEATURES, **build.representation.features()}
    keys = [from_example(payload, features)["key"] for _, payload in read_framed(folder.path(name))]
    assert keys == sorted(keys)


def test_the_index_says_where_every_record_begins(planned):
    build, folder, (name,) = planned()
    written(build, folder, name)
    places = [(offset, len(payload) + 16) for offset, payload in read_framed(folder.path(name))]
    assert [tuple(row) for row in read_index(folder.path(index_name(name))).tolist()] == places


def test_the_report_holds_checksums_records_and_statistics(planned):
    build, folder, (name,) = planned()
    report = written(build, folder, name)
    for path, key in ((name, "sha256"), (index_name(name), "index_sha256")):
        with open(folder.path(path), "rb") as file:
            assert hashlib.sha256(file.read()).hexdigest() == report["shard"][key]
    assert sum(report["items"].values()) == report["shard"]["records"] == report["statistics"]["records"]
    assert report["statistics"]["copies"] == 12 and report["statistics"]["pieces"] == 6


def test_a_finished_shard_is_kept_and_not_touched(planned):
    build, folder, (name,) = planned()
    written(build, folder, name)
    before = os.stat(folder.path(name)).st_mtime_ns
    assert write_shard(build, folder, name, lambda: pytest.fail("an input was read")) is True
    assert os.stat(folder.path(name)).st_mtime_ns == before


@pytest.mark.parametrize("damage", ["shard", "index", "size"])
def test_a_damaged_shard_is_written_again(planned, damage):
    build, folder, (name,) = planned()
    report = written(build, folder, name)
    path = folder.path(index_name(name) if damage == "index" else name)
    with open(path, "r+b") as file:
        file.truncate(3) if damage == "size" else file.write(b"\xff")
    assert written(build, folder, name) == report


def test_a_failing_input_is_quarantined_and_leaves_no_record(planned):
    build, folder, (name,) = planned(representation=Broken(window=16, victim="003.mid"))
    report = written(build, folder, name)
    outcome = report["items"]["midi/003.mid"]
    assert (outcome["status"], outcome["reason"]) == ("quarantined", "not-encodable")
    features = {**KEY_FEATURES, **build.representation.features()}
    keys = [from_example(payload, features)["key"] for _, payload in read_framed(folder.path(name))]
    assert len(keys) == report["shard"]["records"] and not any(b"003.mid" in key for key in keys)


def test_a_shard_whose_inputs_all_fail_is_an_empty_file_with_an_empty_index(planned):
    build, folder, (name,) = planned(count=1, representation=Broken(window=16))
    report = written(build, folder, name)
    assert report["shard"]["records"] == 0
    assert os.path.getsize(folder.path(name)) == os.path.getsize(folder.path(index_name(name))) == 0


def test_a_file_that_changed_since_the_survey_is_quarantined(planned, tmp_path):
    build, folder, (name,) = planned()
    changed = tmp_path / "in" / "001.mid"
    changed.write_bytes((tmp_path / "in" / "002.mid").read_bytes())
    assert written(build, folder, name)["items"]["midi/001.mid"]["reason"] == "changed-while-reading"


def test_nothing_but_shard_index_and_working_files_is_left(planned):
    build, folder, (name,) = planned()
    written(build, folder, name)
    assert sorted(os.listdir(folder.root)) == ["index", name, "progress"]
    assert os.listdir(folder.path("progress", "scratch")) == []


def test_a_survey_report_survives_as_json(planned):
    build, _, _ = planned()
    item = next(build.corpus.items(build.input))
    from beam_pipelines.survey import report_from_json, report_to_json

    report = survey(build, item)
    assert report_from_json(report_to_json(report)) == report and report.measures.notes == 40
    assert asdict(report)["item"]["path"] == "000.mid"
