"""Progress: counted from files, shown with the time that is left."""

import sys

from beam_pipelines.folder import Folder, write_value
from beam_pipelines.progress import DECIDE, SURVEY, WRITE, Display, Ticks, forget_ticks, ticks


def tick(folder, stage, times):
    marks = Ticks(folder, stage)
    for _ in range(times):
        marks.done()
    marks.close()


def test_ticks_of_all_workers_are_summed_and_can_be_forgotten(tmp_path):
    folder = Folder(str(tmp_path))
    tick(folder, SURVEY, 3)
    tick(folder, SURVEY, 2)
    tick(folder, WRITE, 1)
    (tmp_path / "progress" / "survey-999999").write_bytes(b"....")
    assert ticks(folder) == {SURVEY: 9, DECIDE: 0, WRITE: 1}
    forget_ticks(folder)
    assert ticks(folder) == {SURVEY: 0, DECIDE: 0, WRITE: 0}


def test_the_line_names_the_stage_and_the_time_left(tmp_path, monkeypatch):
    folder = Folder(str(tmp_path))
    display = Display(folder, to_survey=10)
    now = display.last_change
    tick(folder, SURVEY, 1)
    assert display._line(ticks(folder), now) == "survey: 1 of 10 inputs"
    tick(folder, SURVEY, 3)
    assert display._line(ticks(folder), now + 60) == "survey: 4 of 10 inputs, 1 min 30 s left"
    tick(folder, SURVEY, 6)
    assert display._line(ticks(folder), now + 90) == ""
    write_value(folder.plan, {"to_write": 8})
    tick(folder, WRITE, 2)
    assert display._line(ticks(folder), now + 100) == "write: 2 of 8 inputs"


def test_a_terminal_has_one_living_line(tmp_path, monkeypatch, capsys):
    folder = Folder(str(tmp_path))
    tick(folder, SURVEY, 1)
    display = Display(folder, to_survey=2)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    display.update()
    display.close()
    shown = capsys.readouterr().err
    assert "\rsurvey: 1 of 2 inputs" in shown and "\n" not in shown
