"""What is said of corrupt records that are passed over: each once, whether or not the run was stopped between."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from schemas.manifest import read_manifest
from tests.trainer.synthetic import scales
from tests.trainer.test_corrupt_records import damage
from trainer.config import Run, TrainSettings
from trainer.corrupt import CorruptRecords, sentences
from trainer.course import Course, Place
from trainer.data import Reader
from trainer.devices import Processes
from trainer.divergence import _example
from trainer.models.music_transformer import MusicTransformer
from trainer.task import EXAMPLE_WEIGHT
from trainer.watch import NotFinite, Watch, means

UPDATE = SimpleNamespace(devices=SimpleNamespace(processes=Processes()))

BATCH, EVERY = 4, 3
DAMAGED = (1, 5, 6, 7, 11, 13, 17)


class Board:
    """Takes the points of TensorBoard."""

    def __init__(self):
        self.points = []

    def scalars(self, step, values, on="train"):
        self.points.append((step, on, dict(values)))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("data"))
    scales(folder)
    manifest = read_manifest(folder)
    for split, records in (("train", DAMAGED), ("validation", (2,))):
        path = os.path.join(folder, manifest.shards_of(split)[0].name)
        for record in records:
            damage(path, record)
    return folder


def walk(data, folder, first, last, on_corrupt="skip", loss=lambda step: 1.0):
    """The steps of a training without a model; returns the points of TensorBoard."""
    manifest = read_manifest(data)
    settings = TrainSettings(steps=30, batch=BATCH, log_every=EVERY, on_corrupt=on_corrupt)
    readers = [Reader(data, manifest, split, on_corrupt=on_corrupt) for split in ("train", "validation")]
    run = Run("toy", "music-transformer", MusicTransformer(), settings)
    place, board = Place(first, first * BATCH), Board()
    watch = Watch(Course(run, {}, {}, str(folder), manifest, None, *readers, UPDATE), place, board)
    batches = readers[0].shuffled(settings.seed, place.position, BATCH)
    for step in range(first + 1, last + 1):
        batch = next(batches)
        watch.look_at(batch)
        place.step, place.position = step, step * BATCH
        watch.record({"loss": loss(step), "weight": float(batch[EXAMPLE_WEIGHT].sum())}, 0.1)
        if step % EVERY == 0 or step == last:
            watch.report()
    list(readers[1].in_order(BATCH))
    watch.report_scores({"loss": 2.0})
    return board.points


def lines(folder, kind):
    found = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def test_each_corrupt_record_is_told_once_with_shard_record_and_offset(data, tmp_path, capfd):
    points = walk(data, tmp_path, 0, 25)
    told = lines(tmp_path, "corrupt")
    assert sorted(one["record"] for one in told if one["split"] == "train") == list(DAMAGED)
    assert [one["record"] for one in told if one["split"] == "validation"] == [2]
    shards = read_manifest(data).shards
    for one in told:
        assert one["shard"] in [shard.name for shard in shards if shard.split == one["split"]]
        assert one["what"] == "checksum of the payload does not match" and one["offset"] > 0
    said = capfd.readouterr().err
    assert said.count("corrupt, passed over") >= 3
    assert f"{told[0]['shard']}: record {told[0]['record']} at byte {told[0]['offset']}: checksum" in said
    totals = [values["corrupt_records"] for _, on, values in points if on == "train"]
    assert totals == sorted(totals) and totals[-1] == len(DAMAGED)
    assert [line["corrupt_records"] for line in lines(tmp_path, "train")] == totals


def test_a_run_that_was_stopped_between_tells_the_same(data, tmp_path):
    walk(data, tmp_path / "whole", 0, 25)
    for first, last in ((0, 7), (7, 9), (6, 25)):  # the last one goes back behind what was told
        walk(data, tmp_path / "parts", first, last)
    whole, parts = (lines(tmp_path / name, "corrupt") for name in ("whole", "parts"))
    assert keys(whole) == keys(parts)
    assert (
        lines(tmp_path / "whole", "train")[-1]["corrupt_records"]
        == lines(tmp_path / "parts", "train")[-1]["corrupt_records"]
    )


def test_those_met_before_a_step_that_diverged_are_told_too(data, tmp_path, capfd):
    with pytest.raises(NotFinite, match="step 11: loss is nan"):
        walk(data, tmp_path, 0, 12, loss=lambda step: float("nan") if step == 11 else 1.0)
    assert max(line["step"] for line in lines(tmp_path, "train")) == 9
    late = [one for one in lines(tmp_path, "corrupt") if one["step"] == 12]
    assert late and f"step 12: corrupt, passed over: {late[0]['shard']}" in capfd.readouterr().err


def test_the_means_of_a_report_weigh_a_batch_by_what_was_left_of_it():
    rows = [{"loss": 1.0, "weight": 30.0, "gradient_norm": 1.0}, {"loss": 4.0, "weight": 10.0, "gradient_norm": 3.0}]
    assert means(rows) == {"loss": 1.75, "weight": 20.0, "gradient_norm": 2.0}
    assert means([{"loss": 0.0, "weight": 0.0}] * 2) == {"weight": 0.0}
    parts = [{"one/loss": 1.0, "one/weight": 1.0, "two/loss": 2.0, "two/weight": 0.0}]
    assert means([*parts, {"one/loss": 3.0, "one/weight": 3.0, "two/loss": 6.0, "two/weight": 2.0}]) == {
        "one/loss": 2.5, "one/weight": 2.0, "two/loss": 6.0, "two/weight": 1.0,
    }  # fmt: skip


def keys(told):
    return sorted((one["split"], one["shard"], one["record"]) for one in told)


def test_nothing_is_said_of_corrupt_records_where_they_end_the_run(tmp_path):
    scales(str(tmp_path / "sound"))
    points = walk(str(tmp_path / "sound"), tmp_path / "run", 0, 6, on_corrupt="fail")
    assert not lines(tmp_path / "run", "corrupt")
    assert all("corrupt_records" not in values for _, _, values in points)


def test_many_are_named_in_the_journal_and_few_on_the_screen(data):
    reader = Reader(data, read_manifest(data), "train", on_corrupt="skip")
    list(reader.in_order(8))
    corrupt = CorruptRecords()
    corrupt.note("train", reader, [*DAMAGED, *DAMAGED])
    told = corrupt.take()
    assert len(told) == len(corrupt) == len(DAMAGED) and not corrupt.take()
    assert len(sentences(told)) == 6 and "2 more records" in sentences(told)[-1]


def test_a_batch_that_diverged_names_no_other_record_in_a_corrupt_ones_place(data):
    reader = Reader(data, read_manifest(data), "train", on_corrupt="skip")
    told = [_example(reader, number) for number in (0, 1)]
    assert told[0]["key"].startswith("synthetic/train/") and told[0]["record"] == 0
    assert told[1]["key"] == "a corrupt record, passed over" and told[1]["record"] == 1
