"""Files: read within limits, written whole or not at all, listed in order, never outside the folder that was named."""

import os
import stat

import pytest

from media.storage import links_left_out, list_files, modified, read_below, read_bytes, size_of, write_atomic
from schemas.errors import InputError, MachineError, Unreadable


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "corpus"
    for name in ("b.mid", "a/z.mid", "a/b.mid", "a.mid", "deep/er/c.mid"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "new" / "folders" / "file"
    write_atomic(path, b"\x00music\xff")
    assert read_bytes(path) == b"\x00music\xff"


def test_writing_leaves_nothing_but_the_file(tmp_path):
    for data in (b"first", b"second"):
        write_atomic(tmp_path / "file", data)
    assert os.listdir(tmp_path) == ["file"]
    assert read_bytes(tmp_path / "file") == b"second"


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path):
    write_atomic(tmp_path / "ours", b"")
    (tmp_path / "plain").write_bytes(b"")
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "plain")}
    assert modes["ours"] == modes["plain"]


def test_a_write_that_fails_keeps_the_old_file_and_leaves_no_scratch(tmp_path, monkeypatch):
    write_atomic(tmp_path / "file", b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match=r"file: cannot be written: No space left on device. Free some space"):
        write_atomic(tmp_path / "file", b"new")
    assert os.listdir(tmp_path) == ["file"]
    assert read_bytes(tmp_path / "file") == b"old"


def test_a_folder_in_the_way_of_a_file_is_named(tmp_path):
    (tmp_path / "name").mkdir()
    with pytest.raises(MachineError, match="name: cannot be written: Is a directory"):
        write_atomic(tmp_path / "name", b"data")
    assert os.listdir(tmp_path) == ["name"]


def test_a_file_up_to_the_limit_is_read_and_one_byte_more_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert read_bytes(tmp_path / "file", limit_bytes=5) == b"12345"
    with pytest.raises(InputError, match=r"file: has 5 bytes, more than the limit of 4"):
        read_bytes(tmp_path / "file", limit_bytes=4)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="gone.mid: cannot be read: No such file or directory"):
        read_bytes(tmp_path / "gone.mid")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(InputError, match="is not a regular file|Is a directory"):
        read_bytes(tmp_path)


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mid")
    with pytest.raises(InputError, match="is not a regular file"):
        read_bytes(tmp_path / "pipe.mid")


@pytest.mark.parametrize("action", [read_bytes, list_files, lambda path: write_atomic(path, b"")])
def test_a_bucket_is_announced_for_a_later_version(action):
    with pytest.raises(MachineError, match=r"gs://music/a: buckets come with the \[gcp\] extra"):
        action("gs://music/a")


def test_files_are_listed_relative_and_sorted_whatever_the_folder_order(tree):
    assert list_files(tree) == ["a.mid", "a/b.mid", "a/z.mid", "b.mid", "deep/er/c.mid"]


def test_a_link_to_a_file_inside_counts_and_one_to_the_outside_does_not(tree, tmp_path):
    (tmp_path / "secret").write_bytes(b"")
    (tree / "copy.mid").symlink_to(tree / "b.mid")
    (tree / "leak.mid").symlink_to(tmp_path / "secret")
    (tree / "broken.mid").symlink_to(tmp_path / "nowhere")
    assert [name for name in list_files(tree) if name not in ("a.mid", "a/b.mid", "a/z.mid", "deep/er/c.mid")] == [
        "b.mid",
        "copy.mid",
    ]
    assert links_left_out(tree) == ["broken.mid", "leak.mid"]


def test_a_link_to_a_folder_is_not_entered_not_even_round_in_a_circle(tree, tmp_path):
    (tree / "a" / "circle").symlink_to(tree)
    (tree / "outside").symlink_to(tmp_path)
    assert list_files(tree) == ["a.mid", "a/b.mid", "a/z.mid", "b.mid", "deep/er/c.mid"]
    assert links_left_out(tree) == ["outside"]


def test_a_root_that_is_itself_a_link_is_listed(tree, tmp_path):
    (tmp_path / "link").symlink_to(tree)
    assert list_files(tmp_path / "link") == list_files(tree)


def test_names_that_are_not_utf_8_are_listed(tree):
    with open(os.path.join(os.fsencode(tree), b"caf\xe9.mid"), "wb") as file:
        file.write(b"")
    assert "caf\udce9.mid" in list_files(tree)


def test_a_root_that_is_no_folder_is_refused(tree):
    with pytest.raises(InputError, match="b.mid: is not a folder"):
        list_files(tree / "b.mid")


def test_a_file_below_is_read_by_its_path(tree):
    (tree / "a" / "b.mid").write_bytes(b"below")
    (tree / "link.mid").symlink_to("a/b.mid")
    (tree / "folder").symlink_to(tree / "a")
    for path in ("a/b.mid", "./a//b.mid", "deep/../a/b.mid", "link.mid", "folder/b.mid"):
        assert read_below(tree, path, 5) == b"below"


@pytest.mark.parametrize(
    "hostile", ["../secret", "a/../../secret", "/etc/passwd", "", "a\0b", "out/secret", "leak.mid"]
)
def test_a_path_that_leads_out_is_refused(tree, tmp_path, hostile):
    (tmp_path / "secret").write_bytes(b"")
    (tree / "out").symlink_to(tmp_path)
    (tree / "leak.mid").symlink_to("../secret")
    (tree / "circle").symlink_to("circle")
    assert reason(tree, hostile) == "path-escapes-root"


def test_a_folder_with_a_longer_name_is_not_below(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root-other").mkdir()
    (tmp_path / "root-other" / "file").write_bytes(b"")
    (tmp_path / "root" / "link").symlink_to("../root-other")
    assert reason(tmp_path / "root", "../root-other/file") == "path-escapes-root"
    assert reason(tmp_path / "root", "link/file") == "path-escapes-root"


def test_what_is_no_file_to_read_has_its_reason(tree):
    os.mkfifo(tree / "pipe.mid")
    reasons = {"a": "not-a-file", "pipe.mid": "not-a-file", "no.mid": "missing-file", "a.mid/x": "missing-file"}
    assert {path: reason(tree, path) for path in reasons} == reasons


def test_a_refusal_names_the_path_below_the_folder_and_not_the_folder(tree):
    os.mkfifo(tree / "pipe.mid")
    for path, limit in (("a", 9), ("pipe.mid", 9), ("no.mid", 9), ("a.mid/x", 9), ("../x", 9), ("a.mid", 0)):
        with pytest.raises(Unreadable) as error:
            read_below(tree, path, limit)
        assert path in str(error.value) and str(tree) not in str(error.value)


def test_a_file_below_up_to_the_limit_is_read(tree):
    (tree / "a.mid").write_bytes(b"12345")
    assert read_below(tree, "a.mid", 5) == b"12345"
    assert reason(tree, "a.mid", 4) == "too-large"


def test_reading_leaves_no_file_open(tree):
    (tree / "out").symlink_to("/etc")
    before = len(os.listdir("/proc/self/fd"))
    for path in ("a/b.mid", "a", "no", "a/no", "no/no", "out/passwd", "a.mid/x"):
        try:
            read_below(tree, path, 10)
        except Unreadable:
            pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_size_and_time_of_a_file_are_told_and_0_where_they_are_not_known(tree):
    os.utime(tree / "a.mid", ns=(1, 123_456_789))
    assert (modified(tree, "a.mid"), size_of(tree, "a.mid")) == (123_456_789, 1)
    for path in ("no.mid", "../corpus/a.mid", "a\0b", "", "/etc/passwd"):
        assert (modified(tree, path), size_of(tree, path)) == (0, 0)


def reason(root, path, limit=100):
    with pytest.raises(Unreadable) as error:
        read_below(root, path, limit)
    return error.value.reason
