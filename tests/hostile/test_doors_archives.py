"""Archives that would escape, swell or lie are refused whole or lose the member; nothing is ever unpacked to disk."""

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_pipelines.corpora.midi import MidiFolder
from beam_pipelines.corpora.music21_chorales import Music21Chorales
from schemas.errors import InputError, Unreadable
from tests.hostile import attacks

REFUSED_WHOLE = {
    attacks.zip_slip: r"songs\.zip: the member '\.\./\.\./evil\.mid' leads out",
    attacks.zip_slip_of_windows: r"songs\.zip: the member .*evil\.mid' leads out",
    attacks.zip_bomb_of_many: r"songs\.zip: .* bytes that unpack to .* zip bomb",
    attacks.zip_bomb_of_overlaps: r"songs\.zip: two members begin at the same byte",
    attacks.zip_of_very_many: r"songs\.zip: holds more than 200,000 members",
}
QUARANTINED = {
    attacks.zip_with_link: {"link.mid": "archive-link"},
    attacks.zip_bomb: {"bomb.mid": "archive-ratio"},
    attacks.zip_with_false_size: {"liar.mid": "damaged-archive"},
    attacks.zip_with_false_stored_size: {"hole.mid": "damaged-archive"},
    attacks.zip_encrypted: {"sound.mid": "archive-encrypted"},
    attacks.zip_with_two_of_a_name: {"same.mid": "archive-duplicate"},
    attacks.zip_damaged: {"sound.mid": "damaged-archive"},
}


def reasons(archive: Path) -> dict[str, str]:
    """Why members are not read; what is read is the sound piece."""
    found = {}
    for item in MidiFolder().items(str(archive)):
        try:
            assert MidiFolder().read(item, str(archive)) == attacks.SOUND
        except Unreadable as error:
            found[item.path] = error.reason
    return found


@pytest.mark.parametrize(("attack", "message"), REFUSED_WHOLE.items())
def test_an_archive_that_tries_something_is_refused_whole(
    attack: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        list(MidiFolder().items(str(attack(tmp_path))))


@pytest.mark.parametrize(("attack", "expected"), QUARANTINED.items())
def test_an_odd_member_is_quarantined_with_its_reason_and_costs_no_memory(
    attack: Callable[[Path], Path], expected: dict[str, str], tmp_path: Path
) -> None:
    archive = attack(tmp_path)
    tracemalloc.start()
    try:
        assert reasons(archive) == expected
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_zip_in_a_zip_is_counted_and_not_opened(tmp_path: Path) -> None:
    archive = attacks.zip_bomb_in_a_zip(tmp_path)
    assert reasons(archive) == {}
    assert MidiFolder().ignored(str(archive)) == {".zip": 1}


def test_nothing_of_an_archive_is_ever_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives = [attack(tmp_path / str(number)) for number, attack in enumerate(QUARANTINED) if not
                (tmp_path / str(number)).mkdir()]  # fmt: skip
    really = os.open

    def only_reading(path: object, flags: int, *more: object, **options: object) -> int:
        assert not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT), f"{path} was opened for writing"
        return really(path, flags, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("os.open", only_reading)
    before = sorted(tmp_path.rglob("*"))
    for archive in archives:
        reasons(archive)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("attack", "expected"),
    [(attacks.score_with_entities, "bad-musicxml"), (attacks.score_that_is_a_bomb, "archive-ratio")],
)
def test_a_score_that_swells_is_quarantined_before_it_is_parsed(
    attack: Callable[[Path], Path], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("music21")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    corpus, root = Music21Chorales(), str(attack(tmp_path))
    [item] = corpus.items(root)
    with pytest.raises(Unreadable) as error:
        corpus.parse(item, root)
    assert error.value.reason == expected
