"""What TensorBoard is given, read back with TensorBoard's own reader."""

import wave
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from media.roll import roll
from schemas.representations.events import Events
from tests.trainer.synthetic import scales
from trainer import loop
from trainer.course import Place
from trainer.data import Reader
from trainer.devices import Processes
from trainer.given import one_note
from trainer.summaries import RATE, Summaries, decoded

CONFIG = {"name": "tiny", "model": {"layers": 2, "pitch": [1, 2]}, "train": {"batch": 4, "clip": 1.0}}


def read(folder, side):
    found = EventAccumulator(str(folder / "tensorboard" / side), size_guidance={"images": 0, "audio": 0, "scalars": 0})
    return found.Reload()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder in which one process wrote steps 0 to 30, was lost, and another went on from step 20."""
    folder = tmp_path_factory.mktemp("run")
    representation = Events(window=64)
    manifest = scales(str(folder / "data"))
    source = Reader(str(folder / "data"), manifest, "train")
    with Summaries(str(folder), 0) as summaries:
        summaries.configuration(CONFIG, "a run in a sentence")
        assert summaries.pieces(0, "first_batch", decoded(representation, [source.record(n) for n in range(2)])) == []
        for step in (10, 20, 30):
            summaries.scalars(step, {"loss": 1.0 / step})
        summaries.scalars(20, {"loss": 0.5}, on="eval")
    with Summaries(str(folder), 20) as summaries:
        summaries.scalars(30, {"loss": 9.0})
        summaries.hparams(CONFIG, {"validation/loss": 0.5})
    return folder


def test_curves_of_both_splits_have_the_same_name(written):
    assert "loss" in read(written, "train").Tags()["scalars"]
    assert [point.value for point in read(written, "eval").Scalars("loss")] == [0.5]


def test_points_after_the_restored_step_are_cut_back(written):
    points = {point.step: point.value for point in read(written, "train").Scalars("loss")}
    assert points == pytest.approx({10: 0.1, 20: 0.05, 30: 9.0})


def test_the_first_batch_can_be_seen_and_heard(written):
    board = read(written, "train")
    assert board.Tags()["images"] == ["first_batch/0/roll", "first_batch/1/roll"]
    assert board.Tags()["audio"] == ["first_batch/0/sound", "first_batch/1/sound"]
    (image,) = board.Images("first_batch/0/roll")
    (clip,) = board.Audio("first_batch/0/sound")
    assert image.step == 0 and image.width > 200 and image.encoded_image_string.startswith(b"\x89PNG")
    assert clip.length_frames / clip.sample_rate > 1 and clip.encoded_audio_string.startswith(b"RIFF")


@pytest.mark.parametrize(("number", "expected"), [(0, ["read", "shown"]), (1, [])])
def test_the_first_examples_are_read_only_by_the_process_that_shows_them(tmp_path, monkeypatch, number, expected):
    processes, done = Processes(2, number), []
    monkeypatch.setattr(loop, "first_pieces", lambda course: done.append("read"))
    devices = SimpleNamespace(mesh="data=2", kind="cpu", processes=processes, count=2)
    update, run = SimpleNamespace(devices=devices), SimpleNamespace(name="tiny", expected="")
    course = SimpleNamespace(
        changes={}, update=update, processes=processes, folder=str(tmp_path), config=CONFIG, run=run
    )
    watch = SimpleNamespace(
        place=Place(),
        say=lambda sentence: None,
        show=lambda name, pieces: done.append("shown"),
        journal=SimpleNamespace(write=lambda step, kind, values: None),
        summaries=SimpleNamespace(configuration=lambda config, text: None),
    )
    loop.begin(course, watch, [])
    assert done == expected


def test_the_settings_are_there_as_text_and_as_a_row_of_the_table(written):
    board = read(written, "train")
    assert {"configuration/text_summary", "run/text_summary"} <= set(board.Tags()["tensors"])
    text = board.Tensors("configuration/text_summary")[0].tensor_proto.string_val[0].decode()
    assert '"batch": 4' in text
    assert any("hparams" in path.name for path in (written / "tensorboard" / "train").iterdir())


def test_a_piece_that_cannot_be_heard_is_seen_all_the_same_and_that_is_told(tmp_path, monkeypatch):
    from schemas.errors import MachineError
    from trainer import summaries as module

    def fail(*_, **__):
        raise MachineError("no SoundFont")

    monkeypatch.setattr(module, "render", fail)
    piece = Events(window=64).decode([{"tokens": np.zeros(0, np.uint16), "start_token": 0, "piece_tokens": 0}])
    with Summaries(str(tmp_path), 0) as summaries:
        failed = summaries.pieces(3, "sample", [piece], str(tmp_path / "samples"))
    assert failed == ["sample 0 is not heard: no SoundFont"]
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["step-3-0.png"]
    tags = read(tmp_path, "train").Tags()
    assert tags["images"] == ["sample/0/roll"] and tags["audio"] == []


def test_pieces_are_kept_in_a_folder_as_they_are_shown(tmp_path):
    piece = one_note(60)
    with Summaries(str(tmp_path), 0) as summaries:
        assert summaries.pieces(3, "sample", [piece], str(tmp_path / "samples")) == []
    picture = Image.open(tmp_path / "samples" / "step-3-0.png")
    assert (np.asarray(picture) == roll(piece)).all()
    with wave.open(str(tmp_path / "samples" / "step-3-0.wav")) as sound:
        assert sound.getframerate() == RATE
        assert np.abs(np.frombuffer(sound.readframes(RATE), "<i2")).max() > 300


def test_no_name_serves_two_kinds_or_the_data_server_of_tensorboard_would_show_one_only(written):
    tags = read(written, "train").Tags()
    names = [name for kind in ("scalars", "images", "audio", "tensors") for name in tags[kind]]
    assert len(names) == len(set(names)) > 4
