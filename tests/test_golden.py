"""What the formats look like does not change unless somebody means it."""

import pytest

from tests.golden.regenerate import FOLDER, SETTINGS, golden_files


@pytest.mark.parametrize("name", golden_files())
def test_a_golden_file_is_what_the_code_makes_today(name: str) -> None:
    assert (FOLDER / name).read_text() == golden_files()[name], (
        "if this is meant: make golden, and a line in CHANGELOG.md"
    )


def test_every_golden_file_still_has_code_behind_it() -> None:
    assert {path.name for path in FOLDER.glob("*.json")} == set(golden_files())
    assert SETTINGS.keys() == {name.removesuffix(".json") for name in golden_files()} - {"formats"}
