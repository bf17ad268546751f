"""A run whose checkpoints were damaged is neither called finished nor begun anew over what is left of it."""

import json
from types import SimpleNamespace

import pytest

from schemas.errors import InputError
from trainer.checkpoint import Checkpoints
from trainer.course import restore
from trainer.devices import Processes
from trainer.run_folder import finished


@pytest.fixture
def done(tmp_path):
    """The folder of a run that has made twelve steps."""
    (tmp_path / "COMPLETED").write_text(json.dumps({"step": 12, "validation": {}}))
    return tmp_path


@pytest.mark.parametrize(("newest", "is_finished"), [(12, True), (8, False), (None, False)])
def test_a_run_is_finished_where_its_last_checkpoint_is_whole(done, monkeypatch, capsys, newest, is_finished):
    monkeypatch.setattr(Checkpoints, "newest", lambda self, limit=None: (newest, ["skipped checkpoint 12: damaged"]))
    assert finished(str(done), 12) is is_finished
    assert (done / "COMPLETED").exists() is is_finished
    assert ("not whole any more" in capsys.readouterr().err) is not is_finished


def test_where_every_checkpoint_is_damaged_nothing_is_begun_over_them(tmp_path, monkeypatch):
    checkpoints = Checkpoints(str(tmp_path))
    monkeypatch.setattr(checkpoints, "newest", lambda limit=None: (None, ["skipped checkpoint 4: damaged"]))
    with pytest.raises(InputError, match=r"no checkpoint is whole \(skipped checkpoint 4: damaged\)"):
        restore(SimpleNamespace(processes=Processes()), checkpoints)
