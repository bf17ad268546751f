"""Zip archives: what is sound is read as its unpacked folder would be, what is odd costs a member or the archive."""

import io
import os
import stat
import struct
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from media import archive
from media.archive import archive_at, archive_of
from media.storage import links_left_out, list_files, modified, read_below, size_of
from schemas.errors import InputError, Unreadable
from tests.hostile.attacks import packed

LIMIT = 1 << 20


def reason(data: bytes, name: str, limit: int = LIMIT) -> str:
    with pytest.raises(Unreadable) as error:
        archive_of(data, "x.zip").read(name, limit)
    assert name in str(error.value) and "x.zip" in str(error.value)
    return error.value.reason


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_is_read_as_it_was_packed(method: int) -> None:
    members = {"b.mid": b"", "a/c.mid": os.urandom(5000), "é/音.mid": b"x" * 5000, "back\\slash.mid": b"y"}
    whole = archive_of(packed(members, method), "x.zip")
    assert {name: whole.read(name, LIMIT) for name in whole.members} == members


def test_an_archive_is_listed_like_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "Songs.ZIP"
    path.write_bytes(packed({"z.mid": b"1", "a/b.mid": b"22", "a/": b"", "a.mid": b"", "./c//d.mid": b"3"}))
    os.utime(path, ns=(5, 7))
    assert list_files(path) == ["a.mid", "a/b.mid", "c/d.mid", "z.mid"]
    assert links_left_out(path) == []
    assert (read_below(path, "a/b.mid", 2), size_of(path, "a/b.mid"), modified(path, "a/b.mid")) == (b"22", 2, 7)
    assert (size_of(path, "no"), modified(path, "no")) == (0, 7)
    for hostile in ("../z.mid", "/z.mid", "a/../../z.mid", ""):
        with pytest.raises(Unreadable) as error:
            read_below(path, hostile, LIMIT)
        assert error.value.reason == "path-escapes-root"


@pytest.mark.parametrize(
    ("names", "listed"),
    [
        (["top/a.mid", "top/b/c.mid"], ["a.mid", "b/c.mid"]),
        (["top/a.mid", "other/c.mid"], ["other/c.mid", "top/a.mid"]),
        (["top/a.mid", "c.mid"], ["c.mid", "top/a.mid"]),
        (["a.mid"], ["a.mid"]),
        (["one/two/a.mid"], ["two/a.mid"]),
        (["top/a.mid", "__MACOSX/top/._a.mid"], ["__MACOSX/top/._a.mid", "a.mid"]),
    ],
)
def test_one_top_folder_that_holds_everything_is_entered(tmp_path: Path, names: list[str], listed: list[str]) -> None:
    (tmp_path / "x.zip").write_bytes(packed(dict.fromkeys(names, b"x")))
    assert list_files(tmp_path / "x.zip") == listed


def test_a_refusal_names_no_folder_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.zip").write_bytes(packed({"a.mid": b"x" * 100}))
    whole = archive_at(str(tmp_path / "x.zip"))

    def message(name: str, limit: int) -> str:
        with pytest.raises(Unreadable) as error:
            whole.read(name, limit)
        return str(error.value)

    messages = [message("gone.mid", LIMIT), message("a.mid", 10)]
    (tmp_path / "x.zip").unlink()
    messages.append(message("a.mid", LIMIT))
    assert not [text for text in messages if str(tmp_path) in text or ".mid" not in text]


def test_what_cannot_be_packed_is_read_and_what_takes_more_room_than_that_is_not() -> None:
    noise = os.urandom(1 << 20)
    assert archive_of(packed({"a.mid": noise, "b.mid": b"x"}), "x.zip").read("a.mid", LIMIT) == noise
    stored = packed({"a.mid": b"x" * 2000}, zipfile.ZIP_STORED)
    assert reason(patched(stored, **size_stated(1000)), "a.mid") == "damaged-archive"


def test_a_folder_whose_name_ends_in_zip_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.zip").mkdir()
    (tmp_path / "x.zip" / "a.mid").write_bytes(b"x")
    assert list_files(tmp_path / "x.zip") == ["a.mid"]


def test_a_missing_archive_and_what_is_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.zip: cannot be read: .*No such file"):
        list_files(tmp_path / "gone.zip")
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(InputError, match="not a regular file"):
        list_files(tmp_path / "pipe.zip")


@pytest.mark.parametrize("name", ["../a.mid", "a/../../b.mid", "/etc/x.mid", "\\\\host\\x.mid", "C:\\x.mid", "c:x.mid",
                                  "a\\..\\..\\x.mid", "a/..", "."])  # fmt: skip
def test_an_archive_with_a_member_that_leads_out_is_refused_whole(name: str) -> None:
    with pytest.raises(InputError, match=r"x\.zip: the member .* leads out") as error:
        archive_of(packed({"good.mid": b"x", name: b"x"}), "x.zip")
    assert repr(name) in str(error.value)


def test_a_name_cut_by_a_nul_is_refused_whole() -> None:
    data = packed({"good.mid": b"x", "bad.mid#.txt": b"x"}).replace(b"bad.mid#.txt", b"bad.mid\0.txt")
    with pytest.raises(InputError, match="leads out"):
        archive_of(data, "x.zip")


def test_a_member_named_twice_is_not_read_but_the_others_are() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as whole, pytest.warns(UserWarning, match="Duplicate"):
        for name in ("a.mid", "b.mid", "a.mid"):
            whole.writestr(name, name)
    assert reason(file.getvalue(), "a.mid") == "archive-duplicate"
    assert archive_of(file.getvalue(), "x.zip").read("b.mid", 5) == b"b.mid"


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR])
def test_a_member_that_is_a_link_or_a_device_is_not_read(kind: int) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as whole:
        info = zipfile.ZipInfo("link.mid")
        info.external_attr = (kind | 0o777) << 16
        whole.writestr(info, "/etc/passwd")
    assert reason(file.getvalue(), "link.mid") == "archive-link"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unusual_compression_is_not_read(method: int) -> None:
    assert reason(packed({"a.mid": b"x"}, method), "a.mid") == "archive-compression"


def patched(data: bytes, local: dict[int, bytes] | None = None, central: dict[int, bytes] | None = None) -> bytes:
    """The archive of one member with bytes of its local header and of its entry in the directory replaced."""
    changed = bytearray(data)
    for signature, changes in ((b"PK\x03\x04", local or {}), (b"PK\x01\x02", central or {})):
        start = changed.index(signature)
        for offset, value in changes.items():
            changed[start + offset : start + offset + len(value)] = value
    return bytes(changed)


def size_stated(size: int) -> dict[str, dict[int, bytes]]:
    return {"local": {22: struct.pack("<I", size)}, "central": {24: struct.pack("<I", size)}}


@pytest.mark.parametrize("flag", [0x1, 0x20, 0x40, 0x2000])
def test_an_encrypted_member_is_not_read(flag: int) -> None:
    data = packed({"a.mid": b"x"})
    assert reason(patched(data, central={8: struct.pack("<H", flag)}), "a.mid") == "archive-encrypted"
    assert reason(patched(data, local={6: struct.pack("<H", flag)}), "a.mid") == "damaged-archive"


def test_what_does_not_fit_its_list_of_members_is_damaged() -> None:
    data = packed({"a.mid": b"x" * 1000})
    for changed in (
        patched(data, local={30: b"b.mid"}),
        patched(data, local={8: b"\0\0"}),
        patched(data, local={0: b"XX"}),
        patched(data, local={14: b"\xff"}, central={16: b"\xff"}),
        patched(data, local={28: b"\xff"}),
        patched(data, local={35: b"\xff\xff\xff"}),
        patched(data, **size_stated(999)),
        patched(data, **size_stated(1001)),
    ):
        assert reason(changed, "a.mid") == "damaged-archive"


def test_a_stream_without_its_end_is_damaged() -> None:
    data = packed({"a.mid": os.urandom(5000)})
    member = archive_of(data, "x.zip").members["a.mid"]
    assert reason(patched(data, central={20: struct.pack("<I", member.stored - 10)}), "a.mid") == "damaged-archive"


def test_no_more_comes_out_than_the_archive_states_and_the_limit_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = packed({"a.mid": b"\0" * (8 << 20)})
    assert reason(bomb, "a.mid", 16 << 20) == "archive-ratio"
    lying = patched(bomb, **size_stated(10_000))
    made: list[int] = []

    def watched(stored: bytes, size: int) -> bytes:
        made.append(len(inflated(stored, size)))
        return inflated(stored, size)

    inflated = archive._inflated
    monkeypatch.setattr(archive, "_inflated", watched)
    assert reason(lying, "a.mid") == "damaged-archive"
    assert made == [10_001]
    assert reason(packed({"a.mid": b"x" * 1001}), "a.mid", 1000) == "too-large"


def test_members_that_share_bytes_are_refused_whole() -> None:
    data = packed({"a.mid": b"\0" * 4000, "b.mid": b"\0" * 4000})
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    overlapping = data[: second + 42] + struct.pack("<I", 0) + data[second + 46 :]
    with pytest.raises(InputError, match=r"x\.zip: two members begin at the same byte"):
        archive_of(overlapping, "x.zip")


def test_a_member_longer_than_its_place_is_refused_whole() -> None:
    data = packed({"a.mid": os.urandom(40), "b.mid": os.urandom(40)}, zipfile.ZIP_STORED)
    with pytest.raises(InputError, match=r"x\.zip: 'a\.mid' overlaps"):
        archive_of(patched(data, central={20: struct.pack("<I", 100)}), "x.zip")


def test_too_many_members_are_refused_before_an_object_is_made_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    data = packed({f"{number}.mid": b"" for number in range(4)})
    monkeypatch.setattr(archive, "MOST_MEMBERS", 3)
    monkeypatch.setattr(zipfile, "ZipInfo", lambda *_: pytest.fail("an object was made"))
    with pytest.raises(InputError, match="more than 3 members"):
        archive_of(data, "x.zip")


def test_a_list_of_members_that_is_too_long_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = packed({f"{number}.mid": b"" for number in range(4)})
    monkeypatch.setattr(archive, "_LARGEST_DIRECTORY", 100)
    with pytest.raises(InputError, match="list of members has"):
        archive_of(data, "x.zip")


def test_too_much_in_all_is_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = packed({f"{number}.mid": b"\0" * (1 << 20) for number in range(65)})
    with pytest.raises(InputError, match="zip bomb"):
        archive_of(bomb, "x.zip")
    monkeypatch.setattr(archive, "LARGEST_TOTAL", 1000)
    with pytest.raises(InputError, match="1,001 bytes together"):
        archive_of(packed({"a.mid": b"x" * 1001}), "x.zip")


@pytest.mark.parametrize("data", [b"", b"MThd", b"PK\x05\x06", b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match=r"x\.zip: is no zip archive"):
        archive_of(data, "x.zip")


def test_an_empty_archive_holds_nothing() -> None:
    assert archive_of(packed({}), "x.zip").members == {}


def test_an_archive_cut_or_flipped_anywhere_is_refused_or_read_or_damaged() -> None:
    sound = packed({"a.mid": b"some text of music " * 20, "b/c.mid": os.urandom(50)})
    for place in range(len(sound)):
        for changed in (sound[:place], sound[:place] + bytes([sound[place] ^ 0xFF]) + sound[place + 1 :]):
            try:
                whole = archive_of(changed, "x.zip")
            except InputError:
                continue
            for name in whole.members:
                try:
                    assert len(whole.read(name, LIMIT)) <= 400
                except Unreadable as error:
                    assert error.reason.startswith("archive-") or error.reason in ("damaged-archive", "too-large")


def test_an_archive_that_is_replaced_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(packed({"a.mid": b"old"}))
    before = archive_at(str(path))
    assert before.read("a.mid", 3) == b"old"
    (tmp_path / "new").write_bytes(packed({"a.mid": b"newer"}))
    os.replace(tmp_path / "new", path)
    assert read_below(path, "a.mid", 5) == b"newer"
    with pytest.raises(Unreadable, match="was changed while it was read"):
        before.read("a.mid", 3)


def test_an_archive_is_indexed_once_and_read_by_many_threads(tmp_path: Path) -> None:
    members = {f"{number:03d}.mid": os.urandom(2000 + number) for number in range(200)}
    path = tmp_path / "x.zip"
    path.write_bytes(packed(members))
    assert archive_at(str(path)) is archive_at(str(path))
    found: list[bool] = []

    def read_all() -> None:
        found.append({name: read_below(path, name, LIMIT) for name in members} == members)

    threads = [threading.Thread(target=read_all) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    finally:
        sys.setswitchinterval(interval)
    assert found == [True] * 4
