"""Paths that a corpus names never lead out of it: nothing outside is opened, whatever the links and the moment."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_pipelines.corpora.maestro import Maestro
from beam_pipelines.corpora.midi import MidiFolder
from media import storage
from schemas.errors import Unreadable
from tests.hostile import attacks

LED_OUT = [
    attacks.csv_climbing_out,
    attacks.json_climbing_out,
    attacks.absolute_path,
    attacks.linked_file,
    attacks.linked_folder,
    attacks.chained_links,
    attacks.endless_device,
]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where everything that is opened really lies."""
    paths: list[str] = []
    really = os.open

    def watched(*arguments: object, **more: object) -> int:
        handle = really(*arguments, **more)  # type: ignore[arg-type]
        paths.append(os.readlink(f"/proc/self/fd/{handle}"))
        return handle

    monkeypatch.setattr("os.open", watched)
    return paths


def refusal(root: Path) -> str:
    """Why the only performance that the metadata name is not read."""
    [item] = Maestro().items(str(root))
    with pytest.raises(Unreadable) as error:
        Maestro().read(item, str(root))
    return error.value.reason


@pytest.mark.parametrize("attack", LED_OUT)
def test_a_path_that_leads_out_is_quarantined_and_nothing_outside_is_opened(
    attack: Callable[[Path], Path], tmp_path: Path, opened: list[str]
) -> None:
    root = attack(tmp_path)
    assert refusal(root) == "path-escapes-root"
    assert all(path == str(root) or path.startswith(f"{root}/") for path in opened)


def test_a_link_that_is_swapped_between_the_look_and_the_opening_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    root = attacks.link_to_be_swapped(tmp_path)
    [item] = Maestro().items(str(root))
    assert Maestro().read(item, str(root)) == attacks.SOUND
    look = storage._is_below

    def look_and_swap(real_root: str, real_path: str) -> bool:
        found = look(real_root, real_path)
        attacks.swap_link(root)
        return found

    monkeypatch.setattr(storage, "_is_below", look_and_swap)
    opened.clear()
    assert refusal(root) == "path-escapes-root"
    assert not [path for path in opened if "outside" in path]


def test_a_folder_that_is_swapped_for_a_link_after_the_listing_is_not_entered(
    tmp_path: Path, opened: list[str]
) -> None:
    root = attacks.place(tmp_path)
    (root / "2004" / "secret.midi").write_bytes(attacks.SOUND)
    items = list(MidiFolder().items(str(root)))
    (root / "2004").rename(root / "moved")
    (root / "2004").symlink_to(tmp_path / "outside")
    for item in items:
        with pytest.raises(Unreadable) as error:
            MidiFolder().read(item, str(root))
        assert error.value.reason == "path-escapes-root"
    assert not [path for path in opened if "outside" in path]


def test_a_pipe_is_quarantined_without_waiting_for_somebody_to_write(tmp_path: Path) -> None:
    assert refusal(attacks.pipe_named_like_music(tmp_path)) == "not-a-file"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_a_device_is_quarantined_without_being_read(tmp_path: Path) -> None:
    root = attacks.csv_naming(attacks.place(tmp_path), "2004/zero.midi")
    try:
        os.mknod(root / "2004" / "zero.midi", 0o20666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("devices cannot be made here")
    assert refusal(root) in ("not-a-file", "no-access")


def test_a_folder_of_music_lists_no_link_that_leads_out_and_says_so(tmp_path: Path) -> None:
    root = attacks.linked_file(tmp_path)
    (root / "2005").symlink_to("../outside")
    corpus = MidiFolder()
    assert [item.path for item in corpus.items(str(root))] == ["2004/sound.midi"]
    assert corpus.ignored(str(root))["(link)"] == 2
    assert "2 links" in corpus.reports(str(root))[0]
