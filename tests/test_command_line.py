"""Settings dataclasses as flags and as keys of a configuration file."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from command_line import LARGEST_CONFIG, Given, Group, config_settings, flags_of, make, parse, peek
from schemas.errors import UsageError
from schemas.settings import from_json, parse_integers, parse_numbers, parse_span, setting


@dataclass(frozen=True)
class Music:
    transpose: tuple[int, ...] = setting((0,), help="semitones", parse=parse_integers)
    stretch: tuple[float, ...] = setting((1.0,), help="factors", parse=parse_numbers)
    pitch_range: tuple[int, int] = setting((0, 127), help="pitches", parse=parse_span)
    max_bad: str = setting("5%", help="how many may be bad: N or N%", parse=str)
    shards: int | None = setting(None, help="shards")


@dataclass(frozen=True)
class Steps:
    steps: int = setting(10, help="updates")
    rate: float = setting(0.5, help="learning rate")
    backend: str = setting("auto", help="which one", choices=("auto", "tensorflow", "jax"))
    remat: bool = setting(False, help="recompute")
    ema: bool = setting(True, help="average")

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps {self.steps} must be 1 or more")


@dataclass(frozen=True)
class Needed:
    output: str = setting(help="folder to make", metavar="DIR")


GROUPS = (Group("music", "music", Music), Group("train", "training", Steps))


def given(*words: str, groups: tuple[Group, ...] = GROUPS) -> Given:
    return parse("stretto try", words, groups, summary="Tries.")


def music(*words: str, file: dict[str, dict[str, object]] | None = None) -> Music:
    made = make(GROUPS[0], given(*words), file or {})
    assert isinstance(made, Music)
    return made


def steps(*words: str, file: dict[str, dict[str, object]] | None = None) -> Steps:
    made = make(GROUPS[1], given(*words), file or {})
    assert isinstance(made, Steps)
    return made


@dataclass(frozen=True)
class Scoring:
    order: str = setting("", help="order of the cells", choices=("", "random", "chronological"))


SCORING = Group("scoring", "scoring", Scoring)


def test_an_empty_choice_may_be_given_and_is_not_listed_among_the_known() -> None:
    assert make(SCORING, given("--order=", groups=(SCORING,)), {}) == Scoring("")
    assert make(SCORING, given("--order", "random", groups=(SCORING,)), {}) == Scoring("random")
    for word in ("chronologcal", "''", "x"):
        with pytest.raises(UsageError, match="Known: chronological, random") as caught:
            given(f"--order={word}", groups=(SCORING,))
        assert "Known: ," not in str(caught.value)
    assert flags_of((SCORING,))["order"].metavar == "random|chronological"


def test_stored_settings_with_an_unknown_choice_are_told_the_empty_one_as_it_is_typed() -> None:
    with pytest.raises(UsageError, match="cannot be 'x': expected '' or random or chronological"):
        from_json(Scoring, {"order": "x"})


def test_a_group_may_say_of_a_field_what_it_is_in_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    told = Group("needed", "where", Needed, about={"output": {"metavar": "FILE", "help": "file to make"}})
    with pytest.raises(SystemExit):
        given("--help", groups=(told,))
    shown = capsys.readouterr().out
    assert "--output FILE" in shown and "file to make" in shown and "folder to make" not in shown
    with pytest.raises(UsageError, match="--output FILE is missing: file to make"):
        make(told, given(groups=(told,)), {})
    assert "folder to make" in flags_of((Group("needed", "where", Needed),))["output"].help()


def config(folder: Path, text: str, name: str = "settings.toml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_a_value_follows_its_flag_with_a_space_or_with_an_equals_sign() -> None:
    assert steps("--steps", "3").steps == steps("--steps=3").steps == 3


@pytest.mark.parametrize("words", [("--transpose=-3..3",), ("--transpose", "-3..3")])
def test_a_value_may_begin_with_a_minus(words: tuple[str, ...]) -> None:
    assert music(*words).transpose == (-3, -2, -1, 0, 1, 2, 3)


def test_a_field_with_its_own_parser_is_read_by_it() -> None:
    made = music("--stretch", "0.95,1,1.05", "--pitch-range=21..108", "--shards", "4")
    assert (made.stretch, made.pitch_range, made.shards) == ((0.95, 1.0, 1.05), (21, 108), 4)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), False),
        (("--remat",), True),
        (("--remat=true",), True),
        (("--remat=false",), False),
        (("--remat", "--no-remat"), False),
    ],
)
def test_a_switch_is_turned_on_by_its_name_and_off_by_no_or_false(words: tuple[str, ...], expected: bool) -> None:
    assert steps(*words).remat is expected


def test_a_switch_that_is_on_by_default_can_be_turned_off() -> None:
    assert steps().ema and not steps("--no-ema").ema and not steps("--ema=false").ema and steps("--no-ema=false").ema


@pytest.mark.parametrize("words", [("--trnspose", "3"), ("--trnspose=3",), ("--trnspose",)])
def test_a_misspelt_flag_is_answered_with_the_nearest_one(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"unknown flag --trnspose\. Did you mean --transpose\?"):
        given(*words)


def test_an_underscore_for_a_dash_is_answered_with_the_dash() -> None:
    with pytest.raises(UsageError, match=r"Did you mean --max-bad\?"):
        given("--max_bad", "3")


def test_a_flag_cannot_be_abbreviated() -> None:
    with pytest.raises(UsageError, match=r"unknown flag --transp\."):
        given("--transp", "3")


@pytest.mark.parametrize("words", [("--steps",), ("--steps", "--rate", "1")])
def test_a_flag_without_its_value_is_named(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="--steps needs a value: --steps N"):
        given(*words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--steps", "many"), "--steps many: 'many' is not a whole number"),
        (("--rate", "fast"), "--rate fast: 'fast' is not a number"),
        (("--pitch-range", "108..21"), "is empty"),
        (("--remat=perhaps",), "write --remat, or --remat=false"),
        (("--backend", "tensorflwo"), "unknown --backend 'tensorflwo'. Did you mean 'tensorflow'?"),
        (("stray",), "unrecognized arguments: stray"),
    ],
)
def test_a_value_that_does_not_parse_is_named_with_its_flag(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError) as error:
        given(*words)
    assert message in str(error.value)


def test_a_value_that_the_settings_refuse_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="steps 0 must be 1 or more"):
        steps("--steps", "0")


def test_a_setting_without_a_default_must_be_given() -> None:
    group = Group("own", "own", Needed)
    with pytest.raises(UsageError, match="--output DIR is missing: folder to make"):
        make(group, given(groups=(group,)), {})
    assert make(group, given("--output", "here", groups=(group,)), {}).output == "here"


def test_what_stands_behind_two_dashes_is_left_alone() -> None:
    found = given("--steps", "2", "--", "--runner=X", "--steps", "9")
    assert found.rest == ["--runner=X", "--steps", "9"]
    assert found.settings["train"] == {"steps": 2}


def test_one_flag_can_be_looked_at_before_the_others_are_known() -> None:
    words = ["--unknown", "--config", "a.toml", "--representation=events", "--", "--config", "b.toml"]
    assert peek(words, "config", "") == "a.toml"
    assert peek(words, "representation", "") == "events"
    assert peek(words, "missing", "none") == peek([], "missing", "none") == "none"


def test_flags_win_over_the_file_the_file_over_the_run_and_the_run_over_defaults(tmp_path: Path) -> None:
    group = Group("train", "training", Steps, base={"steps": 20, "rate": 0.1, "remat": True})
    file = config_settings(config(tmp_path, "steps = 30\nrate = 0.2"), (group,), {})
    made = make(group, given("--steps", "40", groups=(group,)), file)
    assert made == Steps(steps=40, rate=0.2, backend="auto", remat=True, ema=True)


def test_a_file_may_write_values_as_the_flags_do_or_as_lists(tmp_path: Path) -> None:
    text = 'transpose = "-1..1"\nstretch = [1, 1.05]\n"pitch-range" = [21, 108]\nmax_bad = 3\nrate = 1\nremat = true'
    file = config_settings(config(tmp_path, text), GROUPS, {})
    assert music(file=file) == Music((-1, 0, 1), (1.0, 1.05), (21, 108), "3")
    assert isinstance(music(file=file).stretch[0], float)
    assert steps(file=file) == Steps(rate=1.0, remat=True)


def test_a_stored_configuration_has_tables_and_facts(tmp_path: Path) -> None:
    stored = {
        "name": "tiny",
        "music": {"name": "events", "settings": {"transpose": [-1, 1], "shards": None}},
        "train": {"steps": 7},
    }
    path = config(tmp_path, json.dumps(stored), "config.json")
    file = config_settings(path, GROUPS, {"name": "tiny", "music": "events"})
    assert music(file=file).transpose == (-1, 1) and steps(file=file).steps == 7
    with pytest.raises(UsageError, match="music is 'events', but the command says 'notes'"):
        config_settings(path, GROUPS, {"name": "tiny", "music": "notes"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepps = 3", "unknown key 'stepps'. Did you mean steps?"),
        ("[train]\nstepps = 3", "unknown key 'stepps'. Did you mean steps?"),
        ("steps = 2.5", "steps: 2.5 is not a whole number"),
        ("steps = true", "steps: True is not a whole number"),
        ("remat = 1", "remat: 1 is not true or false"),
        ("backend = 'jaxx'", "Did you mean 'jax'?"),
        ("transpose = [1, 'x']", "transpose: 'x' is not a whole number"),
        ("steps = ", "is no TOML"),
        ("a" + ".a" * 20 + " = 1", "a key of more than 8 parts"),
        ("a = " + "[" * 8 + "]" * 8, "nested more than 8 deep"),
        ("steps = 1" + "0" * 90, "does not fit into 64 bits"),
        ("steps = 1" + "0" * 200, "an integer of more than 100 digits"),
        ("steps = 1" + "0" * 9000, "'steps' is an integer of 9001 digits; at most 100 are read"),
        ("rate = nan", "no number to compute with"),
        ("a = " + "[" * 5000 + "]" * 5000, "nested more than 8 deep"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = config(tmp_path, text)
    with pytest.raises(UsageError) as error:
        config_settings(path, GROUPS, {})
    assert message in str(error.value) and path in str(error.value)


def test_a_file_too_large_missing_or_no_table_is_refused(tmp_path: Path) -> None:
    for path, message in (
        (config(tmp_path, "#" * (LARGEST_CONFIG + 1)), "more than 1,048,576 bytes"),
        (str(tmp_path / "nowhere.toml"), "cannot be read: No such file"),
        (str(tmp_path), "cannot be read"),
        (config(tmp_path, "[1]", "list.json"), "expected keys with values"),
        (config(tmp_path, "[" * 100_000, "deep.json"), "deep"),
        (config(tmp_path, "{", "broken.json"), "is no JSON"),
        (config(tmp_path, '{"steps": 1, "steps": 2}', "twice.json"), "'steps' stands twice"),
    ):
        with pytest.raises(UsageError, match=message):
            config_settings(path, GROUPS, {})


def test_help_shows_every_flag_with_its_sentence_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        given("--help")
    assert end.value.code == 0
    shown = capsys.readouterr().out
    for flag in flags_of(GROUPS):
        assert f"--{flag} " in shown
    for piece in (
        "LOW..HIGH",
        "(default: 0..127)",
        "(default: 5%)",
        "auto|tensorflow|jax",
        "(default: 0.5)",
        "(default: on)",
    ):
        assert piece in shown


def test_two_groups_cannot_share_a_flag() -> None:
    with pytest.raises(TypeError, match="--steps is a setting of both train and again"):
        flags_of((GROUPS[1], Group("again", "again", Steps)))


@pytest.mark.parametrize("key", ["overwrite", "retry_quarantined"])
def test_a_configuration_file_cannot_ask_for_what_is_there_to_be_replaced(tmp_path: Path, key: str) -> None:
    (tmp_path / "strange.toml").write_text(f"{key} = true\n")
    with pytest.raises(UsageError, match="taken from the command line only"):
        config_settings(str(tmp_path / "strange.toml"), GROUPS, {})
    (tmp_path / "config.json").write_text(f'{{"{key}": true}}')
    assert not any(config_settings(str(tmp_path / "config.json"), GROUPS, {}).values())
