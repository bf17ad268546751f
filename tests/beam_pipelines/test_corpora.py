"""What holds for every corpus: licence, citation, sorted unique items, a piece or a reason, splits without leaks."""

import dataclasses
import os
import pickle
import shutil
import subprocess
import sys

import pytest

from beam_pipelines.corpora import CORPORA
from beam_pipelines.corpora.corpus import Item, Skip, item_from_line, item_line, read_file, read_item
from beam_pipelines.split import merged_groups, own_split
from schemas.errors import Unreadable
from schemas.music import Piece, validate
from schemas.naming import SPLITS, copy_key, parse_key, window_key
from schemas.registry import resolve

NAMES = sorted(CORPORA)
ROOTS = {"jsb": "jsb", "maestro": "maestro/maestro-v3.0.0", "midi": "multitrack", "music21-chorales": ""}


def corpus_of(name):
    return resolve(CORPORA, name, "corpus")()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture
def root(request, sample_data, tmp_path, cache):
    """Real files of a corpus: the sample, or a few chorales of the installed music21."""
    name = request.getfixturevalue("name")
    if ROOTS[name]:
        return str(sample_data(ROOTS[name]))
    pytest.importorskip("music21")
    return few_chorales(tmp_path)


def few_chorales(folder):
    from beam_pipelines.corpora.music21_chorales import _folder

    for number in range(253, 265):
        shutil.copy(os.path.join(_folder(""), f"bwv{number}.mxl"), folder)
    return str(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_corpus_says_what_it_is_and_whose(name):
    corpus = corpus_of(name)
    assert corpus.name == name
    assert all(isinstance(text, str) and text.strip() for text in (corpus.version, corpus.licence, corpus.where))
    assert corpus.citation.startswith("@") or name == "midi"
    assert all(len(line) < 120 and line.count(" = {") <= 1 for line in corpus.citation.splitlines())
    low, high = corpus.pitch_range
    assert 0 <= low < high <= 127
    assert isinstance(corpus.official_splits, bool) and isinstance(corpus.needs_input, bool)
    assert set(getattr(corpus, "takes", {})) <= {"metavar", "help"}


@pytest.mark.parametrize("name", NAMES)
def test_a_corpus_is_its_own_frozen_picklable_configuration(name):
    corpus = corpus_of(name)
    assert dataclasses.is_dataclass(corpus) and type(corpus).__dataclass_params__.frozen
    assert pickle.loads(pickle.dumps(corpus)) == corpus
    assert all(field.metadata["help"] for field in dataclasses.fields(corpus))


@pytest.mark.parametrize("name", NAMES)
def test_items_are_sorted_unique_and_listed_the_same_twice(name, root):
    corpus = corpus_of(name)
    items = list(corpus.items(root))
    names = [item.name for item in items]
    assert items and names == sorted(set(names))
    assert list(corpus.items(root)) == items
    assert all(item.name.startswith(f"{name}/") and item.group and item.split in ("", *SPLITS) for item in items)
    assert any(item.split for item in items) == corpus.official_splits
    assert [item_from_line(item_line(item)) for item in items] == items


@pytest.mark.parametrize("name", NAMES)
def test_names_can_become_keys_and_be_read_back(name, root):
    for item in corpus_of(name).items(root):
        key = parse_key(window_key(copy_key(item.name, -3, 1.025), 12))
        assert (key.item, key.semitones, key.stretch, key.window) == (item.name, -3, 1.025, 12)


@pytest.mark.parametrize("name", NAMES)
def test_every_item_gives_a_valid_piece_or_a_reason(name, root):
    corpus = corpus_of(name)
    parsed = 0
    for item in list(corpus.items(root))[::7]:
        data = corpus.read(item, root)
        try:
            piece = corpus.parse(item, root, data)
        except (Unreadable, Skip) as refusal:
            assert refusal.reason
            continue
        validate(piece)
        assert isinstance(piece, Piece) and piece.name == item.name
        again = corpus.parse(item, root)
        assert (again.notes.start == piece.notes.start).all() and (again.notes.pitch == piece.notes.pitch).all()
        parsed += 1
    assert parsed


@pytest.mark.parametrize("name", NAMES)
def test_ignored_files_and_reports_are_plain_values(name, root):
    corpus = corpus_of(name)
    assert all(
        isinstance(key, str) and isinstance(count, int) and count > 0 for key, count in corpus.ignored(root).items()
    )
    assert all(isinstance(line, str) and line for line in corpus.reports(root))
    assert corpus.version_at(root)


@pytest.mark.parametrize("name", NAMES)
def test_splits_that_we_make_never_tear_a_group_apart(name, root):
    items = list(corpus_of(name).items(root))
    groups = {item.group for item in items}
    merged = merged_groups((group, f"music {number % 5}") for number, group in enumerate(sorted(groups)))
    for seed in range(3):
        splits = {}
        for item in items:
            splits.setdefault(merged[item.group], set()).add(own_split(seed, merged[item.group], (0.8, 0.1, 0.1)))
        assert all(len(found) == 1 for found in splits.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_forged_path_is_refused_and_not_opened(name, root, monkeypatch):
    corpus = corpus_of(name)
    monkeypatch.setattr("os.open", lambda *arguments, **more: pytest.fail(f"opened {arguments}"))
    for path in ("../../etc/passwd", "/etc/passwd", "", "a\0b", "x/../../y"):
        with pytest.raises(Unreadable) as error:
            corpus.parse(Item(f"{name}/x", "g", path=path), root)
        assert error.value.reason == "path-escapes-root"


def test_a_folder_and_a_missing_file_have_reasons(tmp_path):
    (tmp_path / "folder").mkdir()
    for path, reason in (("folder", "not-a-file"), ("missing", "missing-file"), ("missing/x", "missing-file")):
        with pytest.raises(Unreadable) as error:
            read_file(str(tmp_path), path)
        assert error.value.reason == reason
        assert path in str(error.value)


def test_what_the_listing_refused_is_never_read(tmp_path):
    item = Item("x/y", "g", path="y", refused="two-splits: a sentence: with colons")
    with pytest.raises(Unreadable, match="a sentence: with colons") as error:
        read_item(item, str(tmp_path))
    assert error.value.reason == "two-splits"


def test_listing_and_parsing_import_no_engine_and_no_learning_framework():
    program = (
        "import sys; from beam_pipelines.corpora import CORPORA; from schemas.registry import resolve\n"
        "assert not any(name.startswith('beam_pipelines.corpora.') for name in sys.modules)\n"
        "[resolve(CORPORA, name, 'corpus')() for name in CORPORA]\n"
        "import beam_pipelines.verify, beam_pipelines.describe\n"
        "print(sorted({'apache_beam', 'tensorflow', 'keras', 'jax', 'torch', 'music21'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
