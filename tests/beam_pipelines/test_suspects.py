"""Inputs that were being written when a process died are known to the next one."""

from beam_pipelines.folder import Folder
from beam_pipelines.suspects import Writing, gather_suspects, read_suspects


def test_what_a_dead_process_was_writing_is_remembered(tmp_path):
    (tmp_path / "progress").mkdir()
    folder = Folder(str(tmp_path))
    Writing(folder).begin("midi/a\udcff.mid")
    assert gather_suspects(folder) == {"midi/a\udcff.mid"}
    assert gather_suspects(folder) == read_suspects(folder) == {"midi/a\udcff.mid"}


def test_what_was_written_to_its_end_is_no_suspect(tmp_path):
    (tmp_path / "progress").mkdir()
    folder = Folder(str(tmp_path))
    writing = Writing(folder)
    writing.begin("a")
    writing.end()
    assert gather_suspects(folder) == frozenset()
