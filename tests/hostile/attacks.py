"""The attacks on the doors: each function makes a hostile file or folder, and says what it tries and what must happen.

A folder of a corpus that is attacked lies beside `outside/`, which holds what the attacker wants: `secret.midi`, a
sound piece. Whoever reads it has been led out.
"""

import io
import json
import os
import pickle
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

from media.midi import write_midi
from tests.beam_pipelines.tiny_dataset import made_piece

SECRET = write_midi(made_piece(1000))
SOUND = write_midi(made_piece(1))
COLUMNS = "canonical_composer,canonical_title,split,year,midi_filename,audio_filename,duration\n"


def place(base: Path) -> Path:
    """An empty folder for a corpus, beside a folder with the secret."""
    root = base / "root"
    (root / "2004").mkdir(parents=True)
    (root / "2004" / "sound.midi").write_bytes(SOUND)
    (base / "outside").mkdir()
    (base / "outside" / "secret.midi").write_bytes(SECRET)
    return root


def csv_naming(root: Path, path: str) -> Path:
    """Metadata whose only performance has this path."""
    (root / "maestro-v3.0.0.csv").write_text(f'{COLUMNS}A. Composer,A title,train,2004,"{path}",x.wav,1.0\n')
    return root


def json_naming(root: Path, path: str) -> Path:
    """The same as JSON, where a path may also hold a NUL."""
    values = ("A. Composer", "A title", "train", 2004, path, "x.wav", 1.0)
    columns = {name: {"0": value} for name, value in zip(COLUMNS.strip().split(","), values, strict=True)}
    (root / "maestro-v3.0.0.json").write_text(json.dumps(columns))
    return root


# === Paths ===


def csv_climbing_out(base: Path) -> Path:
    """`..` in a csv's path, to read a file beside the corpus. The item is quarantined, the file is not opened."""
    return csv_naming(place(base), "2004/../../outside/secret.midi")


def json_climbing_out(base: Path) -> Path:
    """`..` in a json's path. The item is quarantined, the file is not opened."""
    return json_naming(place(base), "../outside/secret.midi")


def absolute_path(base: Path) -> Path:
    """A path from the root of the file system. The item is quarantined, the file is not opened."""
    root = place(base)
    return csv_naming(root, str(base / "outside" / "secret.midi"))


def linked_file(base: Path) -> Path:
    """A harmless name that is a link to a file outside. The item is quarantined, the file is not opened."""
    root = place(base)
    (root / "2004" / "link.midi").symlink_to(base / "outside" / "secret.midi")
    return csv_naming(root, "2004/link.midi")


def linked_folder(base: Path) -> Path:
    """A folder of the path is a link to a folder outside. The item is quarantined, the file is not opened."""
    root = place(base)
    (root / "2005").symlink_to("../outside")
    return csv_naming(root, "2005/secret.midi")


def chained_links(base: Path) -> Path:
    """A link inside to a link inside to the outside. The item is quarantined, the file is not opened."""
    root = place(base)
    (root / "2004" / "hop").symlink_to(base / "outside")
    (root / "2004" / "link.midi").symlink_to("hop/secret.midi")
    return csv_naming(root, "2004/link.midi")


def link_to_be_swapped(base: Path) -> Path:
    """A link to a file inside, lawful when it is looked at. `swap_link` makes it lead out before it is opened."""
    root = place(base)
    (root / "2004" / "link.midi").symlink_to("sound.midi")
    return csv_naming(root, "2004/link.midi")


def swap_link(root: Path) -> None:
    """What the attacker does between the look and the opening. The file outside must not be read."""
    (root / "2004" / "sound.midi").unlink()
    (root / "2004" / "sound.midi").symlink_to("../../outside/secret.midi")


def pipe_named_like_music(base: Path) -> Path:
    """A named pipe that nobody writes to, to hang the reader. It is quarantined as no file, without waiting."""
    root = place(base)
    os.mkfifo(root / "2004" / "pipe.midi")
    return csv_naming(root, "2004/pipe.midi")


def endless_device(base: Path) -> Path:
    """A link to /dev/zero, to fill the memory. It leads out of the corpus and is not opened."""
    root = place(base)
    (root / "2004" / "zero.midi").symlink_to("/dev/zero")
    return csv_naming(root, "2004/zero.midi")


# === Archives ===


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive of these members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as whole:
        for name, data in members.items():
            whole.writestr(name, data)
    return file.getvalue()


def archive(base: Path, data: bytes) -> Path:
    """The bytes as a file that `--input` takes."""
    path = base / "songs.zip"
    path.write_bytes(data)
    return path


def zip_slip(base: Path) -> Path:
    """A member `../../evil.mid`, to be unpacked outside. The archive is refused whole, the member named."""
    return archive(base, packed({"sound.mid": SOUND, "../../evil.mid": SECRET}))


def zip_slip_of_windows(base: Path) -> Path:
    r"""The same with `..\..\evil.mid`, which Windows takes for a path. The archive is refused whole."""
    return archive(base, packed({"sound.mid": SOUND, "..\\..\\evil.mid": SECRET}))


def zip_with_link(base: Path) -> Path:
    """A member that is a symbolic link to a file outside. That member is quarantined, the link is not followed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as whole:
        whole.writestr("sound.mid", SOUND)
        link = zipfile.ZipInfo("link.mid")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        whole.writestr(link, str(base / "outside" / "secret.midi"))
    return archive(base, file.getvalue())


def zip_bomb(base: Path) -> Path:
    """A member of 48 MB of zeros in 47 kB. That member is quarantined without being unpacked."""
    return archive(base, packed({"sound.mid": SOUND, "bomb.mid": bytes(48 << 20)}))


def zip_bomb_of_many(base: Path) -> Path:
    """Many members that are just small enough each. The archive is refused whole."""
    return archive(base, packed({f"{number:03d}.mid": bytes(1 << 20) for number in range(100)}))


def zip_bomb_of_overlaps(base: Path) -> Path:
    """Many names for one packed file, so that a small archive holds petabytes. The archive is refused whole."""
    data = packed({"a.mid": b"x" * 900, "b.mid": b"x" * 900})
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    return archive(base, data[: second + 42] + struct.pack("<I", 0) + data[second + 46 :])


def zip_bomb_in_a_zip(base: Path) -> Path:
    """Zips in a zip in a zip, to be opened one after the other. They are no music: counted, not opened."""
    inner = packed({"bomb.mid": bytes(1 << 20)})
    for _ in range(3):
        inner = packed({f"{number}.zip": inner for number in range(3)}, zipfile.ZIP_STORED)
    return archive(base, packed({"sound.mid": SOUND, "inner.zip": inner}))


def zip_with_false_size(base: Path) -> Path:
    """A member that states 10,000 bytes and unpacks to 8 MB. It is damaged; 10,001 bytes are unpacked, not more."""
    data = bytearray(packed({"liar.mid": bytes(8 << 20)}))
    struct.pack_into("<I", data, 22, 10_000)
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 10_000)
    return archive(base, bytes(data))


def zip_with_false_stored_size(base: Path) -> Path:
    """A member of 100 bytes that states to take 80 MB in the archive, a hole in the file. Its bytes are not read."""
    name, stored, size, crc = b"hole.mid", 80 << 20, 100, zlib.crc32(bytes(100))
    local = struct.pack("<4s5HLLLHH", b"PK\x03\x04", 20, 0, 0, 0, 0, crc, stored, size, len(name), 0) + name
    facts = (20, 20, 0, 0, 0, 0, crc, stored, size, len(name), 0, 0, 0, 0, 0, 0)
    entry = struct.pack("<4s6HLLLHHHHHLL", b"PK\x01\x02", *facts) + name
    start = len(local) + stored
    path = archive(base, local)
    with path.open("r+b") as file:
        file.seek(start)
        file.write(entry + struct.pack("<4s4HLLH", b"PK\x05\x06", 0, 0, 1, 1, len(entry), start, 0))
    return path


def zip_of_very_many(base: Path) -> Path:
    """More members than any corpus has, to fill the memory with their names. The archive is refused whole."""
    local = struct.pack("<4s5HLLLHH", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 0, 0, 5, 0)
    count, entries, places = 200_001, [], []
    for number in range(count):
        name = b"%05x" % number
        places.append(local + name)
        at = number * len(places[0])
        entry = struct.pack("<4s6HLLLHHHHHLL", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, at)
        entries.append(entry + name)
    start, directory = len(places[0]) * count, b"".join(entries)
    end64 = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(directory), start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, start + len(directory), 1)
    end = struct.pack("<4s4HLLH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return archive(base, b"".join(places) + directory + end64 + locator + end)


def zip_encrypted(base: Path) -> Path:
    """A member marked as encrypted, to make a reader ask for a password. That member is quarantined."""
    data = bytearray(packed({"sound.mid": SOUND}))
    struct.pack_into("<H", data, data.index(b"PK\x01\x02") + 8, 1)
    return archive(base, bytes(data))


def zip_with_two_of_a_name(base: Path) -> Path:
    """Two members of one name: one reader sees the first, another the second. That name is quarantined."""
    data = packed({"same.mid": SOUND, "seme.mid": SECRET}).replace(b"seme.mid", b"same.mid")
    return archive(base, data)


def zip_damaged(base: Path) -> Path:
    """A member whose checksum is not that of its bytes. That member is quarantined."""
    data = bytearray(packed({"sound.mid": SOUND}, zipfile.ZIP_STORED))
    data[60] ^= 1
    return archive(base, bytes(data))


def score_with_entities(base: Path) -> Path:
    """A compressed score that defines entities in entities, to grow to gigabytes. It is quarantined, not parsed."""
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    text = f'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY e0 "lol">{entities}]><score-partwise>&e9;</score-partwise>'
    root = place(base)
    (root / "evil.mxl").write_bytes(packed({"evil.xml": text.encode()}))
    return root


def score_that_is_a_bomb(base: Path) -> Path:
    """A compressed score of 40 MB of spaces. It is quarantined without being unpacked."""
    root = place(base)
    (root / "evil.mxl").write_bytes(packed({"evil.xml": b" " * (40 << 20)}))
    return root


# === Documents ===


class _Touch:
    """Pickled, it runs a command when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def pickle_that_makes(folder: Path) -> bytes:
    """A pickle that makes this folder when it is loaded, to stand in the place of any file. Nothing loads it."""
    return pickle.dumps(_Touch(folder))


def huge_json(base: Path) -> Path:
    """Metadata of 17 MB. They are refused by their size, with the file's name."""
    root = place(base)
    (root / "maestro-v3.0.0.json").write_bytes(b"[" + b" " * (17 << 20) + b"]")
    return root


def deep_json(base: Path) -> Path:
    """500 lists in each other, deep enough for the recursion of whoever walks over them. They are refused."""
    root = place(base)
    (root / "maestro-v3.0.0.json").write_text("[" * 500 + "]" * 500)
    return root


def json_with_many_lists(base: Path) -> Path:
    """3 MB of `[],` that become 60 MB of lists, 20 times their size. They are refused."""
    root = place(base)
    (root / "maestro-v3.0.0.json").write_text("[" + "[]," * (1 << 20) + "[]]")
    return root


def json_with_a_key_twice(base: Path) -> Path:
    """A performance in train and, by the same key again, in test, where the last would win. The file is refused."""
    root = json_naming(place(base), "2004/sound.midi")
    path = root / "maestro-v3.0.0.json"
    path.write_text(path.read_text().replace('"split": {', '"split": {"0": "test", '))
    return root


def csv_with_a_huge_field(base: Path) -> Path:
    """A title of 10 MB in one endless line. The file is refused with the number of the line."""
    root = place(base)
    (root / "maestro-v3.0.0.csv").write_text(f"{COLUMNS}A,{'x' * (10 << 20)},train,2004,2004/sound.midi,x.wav,1\n")
    return root


def csv_with_a_column_twice(base: Path) -> Path:
    """The column `split` twice, where the last would win. The file is refused."""
    root = place(base)
    (root / "maestro-v3.0.0.csv").write_text(f"{COLUMNS.strip()},split\nA,B,train,2004,2004/sound.midi,x.wav,1,test\n")
    return root


def config(base: Path, text: str, name: str = "evil.toml") -> Path:
    """A file for `--config`."""
    path = base / name
    path.write_text(text)
    return path


def deep_toml(base: Path) -> Path:
    """40 lists in each other. The file is refused."""
    return config(base, "seed = " + "[" * 40 + "]" * 40)


def toml_of_many_dots(base: Path) -> Path:
    """A key of 100,000 parts, for which the parser needs minutes. The file is refused before it is parsed."""
    return config(base, "a" + ".a" * 100_000 + " = 1")


def huge_number(base: Path) -> Path:
    """An integer that no array holds. The file is refused with the key."""
    return config(base, "seed = 1" + "0" * 90)


def number_that_is_none(base: Path) -> Path:
    """NaN for a limit: every comparison with it is false, so that nothing would be limited. The file is refused."""
    return config(base, '{"max_seconds": NaN}', "evil.json")
