"""Settings dataclasses as flags and as keys of a configuration file; knows no command and imports nothing heavy.

argparse and not a library that reads dataclasses by itself: our fields carry their own parsers (`-3..3`), abbreviations
are refused, a misspelt flag is answered with the nearest one in our own words, and the error takes 0.1 s.
"""

import argparse
import dataclasses
import math
import re
import textwrap
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from schemas.errors import InputError, UsageError
from schemas.registry import check_name, nearest
from schemas.settings import parse_span, plain_type

ONLY_TYPED = frozenset({"overwrite", "retry-quarantined"})
"""Flags that replace what is there: a file that came from elsewhere must not ask for it."""
LARGEST_CONFIG = 1 << 20
"""Bytes of a configuration file; what is larger was not written by hand or by us."""
DEEPEST_CONFIG = 8
"""Tables inside tables of a configuration file."""

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_NOUNS: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
_METAVARS: dict[type, str] = {int: "N", float: "X", str: "TEXT"}


@dataclass(frozen=True)
class Group:
    """Settings under one heading of `--help`, and under one table of a configuration file.

    Attributes:
        key: the table's name in a configuration file.
        title: the heading in `--help`.
        kind: the settings dataclass.
        base: values that stand before file and flags are read (those of a named run); else the fields' defaults.
        hidden: fields that are no flags.
        about: what is said of a field here, {field: {"help": ..., "metavar": ...}}; else what the field says itself.
    """

    key: str
    title: str
    kind: type
    base: Mapping[str, Any] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    about: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def flags(self) -> list["Flag"]:
        """One flag for every field, in the order of the fields."""
        hints = typing.get_type_hints(self.kind)
        shown = (item for item in dataclasses.fields(self.kind) if item.init and item.name not in self.hidden)
        return [
            Flag(self.key, item, plain_type(hints[item.name]), self._default(item), self._told(item)) for item in shown
        ]

    def _told(self, item: dataclasses.Field[Any]) -> Mapping[str, Any]:
        return {**item.metadata, **self.about.get(item.name, {})}

    def _default(self, item: dataclasses.Field[Any]) -> Any:
        if item.name in self.base:
            return self.base[item.name]
        return item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default


@dataclass(frozen=True)
class Flag:
    """One field of a settings dataclass: `--its-name VALUE`."""

    group: str
    field: "dataclasses.Field[Any]"
    type: Any
    default: Any
    told: Mapping[str, Any]

    @property
    def name(self) -> str:
        """How it is typed, without the dashes in front."""
        return self.field.name.replace("_", "-")

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed texts, or nothing."""
        return tuple(self.told.get("choices") or ())

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is dataclasses.MISSING

    @property
    def metavar(self) -> str:
        """How `--help` shows the value."""
        span = "LOW..HIGH" if self.told.get("parse") is parse_span else ""
        named = self.told.get("metavar") or span or "|".join(filter(None, self.choices))
        return str(named or _METAVARS.get(self.type, "VALUE"))

    def help(self) -> str:
        """The field's own sentence with its default."""
        default = self.shown_default()
        return f"{self.told.get('help', '')}" + (f" (default: {default})" if default else "")

    def shown_default(self) -> str:
        """The default as it would be typed; nothing where showing it would say nothing."""
        if self.required or self.default is None or self.default is False or self.default in ("", ()):
            return ""
        if isinstance(self.default, tuple):
            return (".." if self.told.get("parse") is parse_span else ",").join(map(_shown, self.default))
        return "on" if self.default is True else _shown(self.default)

    def read(self, text: str) -> Any:
        """The value that a text stands for. Raises ValueError with a sentence, UsageError for an unknown choice."""
        if self.choices and text not in self.choices:  # an empty one is not worth typing
            check_name(text, filter(None, self.choices), f"--{self.name}")
        parse = self.told.get("parse")
        return parse(text) if parse else _read_plain(self.type, text)

    def accept(self, value: Any) -> Any:
        """A value of a configuration file: a text is read as the flag's would be. Raises ValueError with a sentence."""
        if isinstance(value, str):
            return self.read(value)
        if isinstance(value, list) and typing.get_origin(self.type) is tuple:
            return tuple(_element(typing.get_args(self.type)[0], item) for item in value)
        if value is None and self.default is None:
            return None
        if self.told.get("parse") and type(value) in (int, float):
            return self.read(f"{value}")
        return _element(self.type, value)


@dataclass(frozen=True)
class Given:
    """What was typed: the named arguments, {group: {field: value}}, and what stood behind `--`."""

    names: dict[str, str]
    settings: dict[str, dict[str, Any]]
    rest: list[str]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. See: {self.prog} --help")


def parse(
    prog: str,
    words: Sequence[str],
    groups: Sequence[Group],
    *,
    summary: str,
    names: Mapping[str, str] | None = None,
    epilog: str = "",
) -> Given:
    """What the words of one command say. `--help` prints and raises SystemExit(0).

    Args:
        prog: the command as typed so far, for `--help`.
        words: what follows it.
        groups: the settings it takes; a name may stand in one of them only.
        summary: one paragraph that opens `--help`.
        names: arguments without dashes, {"RUN": help}; all of them are required.
        epilog: examples, printed as they are.

    Raises:
        UsageError: an unknown flag (with the nearest one), a value that does not parse, a missing argument.
    """
    flags = flags_of(groups)
    before, rest = _split_rest(words)
    parser = _parser(prog, groups, summary, names or {}, epilog)
    found = vars(parser.parse_args(_spelled(before, flags, prog)))
    settings: dict[str, dict[str, Any]] = {group.key: {} for group in groups}
    for flag in flags.values():
        if flag.field.name in found:
            settings[flag.group][flag.field.name] = found[flag.field.name]
    return Given({name: found[name] for name in names or {}}, settings, rest)


def flags_of(groups: Iterable[Group]) -> dict[str, Flag]:
    """Every flag of some groups by its name, without dashes."""
    flags: dict[str, Flag] = {}
    for group in groups:
        for flag in group.flags():
            if flag.name in flags:
                raise TypeError(f"--{flag.name} is a setting of both {flags[flag.name].group} and {flag.group}")
            flags[flag.name] = flag
    return flags


def peek(words: Sequence[str], name: str, default: str) -> str:
    """The value of one flag before the others are known: which representation, which configuration file."""
    before, _ = _split_rest(words)
    value = default
    for word, following in zip(before, [*before, ""][1:], strict=True):
        if word == f"--{name}":
            value = following
        elif word.startswith(f"--{name}="):
            value = word.partition("=")[2]
    return value


def make(group: Group, given: Given, file: Mapping[str, Mapping[str, Any]], **fixed: Any) -> Any:
    """The settings of one group: its base, then the file, then what was typed, then what is fixed.

    Raises:
        UsageError: a setting without a default is missing, or the dataclass refuses its values.
    """
    values = {flag.field.name: flag.default for flag in group.flags()}
    values |= {**group.base, **file.get(group.key, {}), **given.settings.get(group.key, {}), **fixed}
    for flag in group.flags():
        if values[flag.field.name] is dataclasses.MISSING:
            raise UsageError(f"--{flag.name} {flag.metavar} is missing: {flag.told.get('help', '')}")
    try:
        return group.kind(**values)
    except ValueError as error:
        raise UsageError(f"{error}") from error


def read_config(path: str) -> dict[str, Any]:
    """A configuration file: TOML, or JSON where the name ends in .json. Raises UsageError with the file's name."""
    # Only here, because most commands read no file and answer in 0.1 s.
    from schemas.documents import parse_json, parse_toml, read_document

    try:
        data = read_document(path, LARGEST_CONFIG)
        if path.endswith(".json"):
            values = parse_json(data, path, LARGEST_CONFIG, DEEPEST_CONFIG, unique_keys=True)
        else:
            values = parse_toml(data, path, LARGEST_CONFIG, DEEPEST_CONFIG)
    except InputError as error:
        raise UsageError(f"--config {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"--config {path}: holds a {type(values).__name__}; expected keys with values")
    return values


def config_settings(path: str, groups: Sequence[Group], facts: Mapping[str, str | None]) -> dict[str, dict[str, Any]]:
    """{group: {field: value}} of a configuration file, whose keys stand at the top or in a table named like the group.

    Args:
        path: the file; an empty text stands for none.
        groups: the settings it may hold.
        facts: keys that a stored config.json holds beside settings, with the value each must have; None stands for any.

    Raises:
        UsageError: a key that is no setting (with the nearest one), a value that does not fit, a fact that differs.
    """
    flags = flags_of(groups)
    found: dict[str, dict[str, Any]] = {group.key: {} for group in groups}
    for key, value in _settings_in(read_config(path) if path else {}, set(found)):
        if key.replace("_", "-") in ONLY_TYPED:
            if value and not path.endswith(".json"):  # a stored config.json says only what was typed once
                raise UsageError(f"--config {path}: {key} is taken from the command line only")
            continue
        if key in facts:
            if facts[key] is not None and value != facts[key]:
                raise UsageError(f"--config {path}: {key} is {value!r}, but the command says {facts[key]!r}")
            continue
        flag = flags.get(key.replace("_", "-"))
        if flag is None:
            raise UsageError(f"--config {path}: unknown key {key!r}.{_hint(key, flags, '')}")
        try:
            found[flag.group][flag.field.name] = flag.accept(value)
        except (ValueError, UsageError) as error:
            raise UsageError(f"--config {path}: {key}: {error}") from error
    return found


def _settings_in(values: Mapping[str, Any], tables: set[str]) -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in values.items():
        if key not in tables or not isinstance(value, dict):
            flat.append((key, value))
        elif value.keys() == {"name", "settings"} and isinstance(value["settings"], dict):
            # How a stored config.json says which corpus it is about.
            flat += [(key, value["name"]), *value["settings"].items()]
        else:
            flat.extend(value.items())
    return flat


def _split_rest(words: Sequence[str]) -> tuple[list[str], list[str]]:
    cut = list(words).index("--") if "--" in words else len(words)
    return list(words[:cut]), list(words[cut + 1 :])


def _spelled(words: Sequence[str], flags: Mapping[str, Flag], prog: str) -> list[str]:
    """The words with every value behind a `=`, because argparse takes `--transpose -3..3` for two flags."""
    known = {**flags, "help": None, **{f"no-{name}": None for name, flag in flags.items() if flag.type is bool}}
    spelled: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word[2:].partition("=")
        if not word.startswith("--"):
            spelled.append(word)
            continue
        if name not in known:
            raise UsageError(f"unknown flag --{name}.{_hint(name, known, '--')} See: {prog} --help")
        flag = known[name]
        if flag is None or flag.type is bool:
            spelled.append(_boolean(name, equals, value))
        else:
            spelled.append(word if equals else f"{word}={_following(word, flag, rest)}")
    return spelled


def _following(word: str, flag: Flag, rest: Iterable[str]) -> str:
    value = next(iter(rest), None)
    if value is None or re.match(r"-[^\d.]", value):
        raise UsageError(f"{word} needs a value: {word} {flag.metavar}")
    return value


def _boolean(name: str, equals: str, value: str) -> str:
    if not equals:
        return f"--{name}"
    if name == "help" or value.lower() not in _BOOLEANS:
        raise UsageError(f"--{name}={value}: write --{name}, or --{name}=false")
    plain = name.removeprefix("no-")
    return f"--{plain}" if _BOOLEANS[value.lower()] == (plain == name) else f"--no-{plain}"


def _hint(name: str, known: Iterable[str], dashes: str) -> str:
    guess = nearest(name.replace("_", "-").lower(), known)
    return f" Did you mean {dashes}{guess}?" if guess else ""


def _parser(prog: str, groups: Sequence[Group], summary: str, names: Mapping[str, str], epilog: str) -> _Parser:
    parser = _Parser(
        prog=prog,
        usage=" ".join([prog, *names, "[settings]" if groups else ""]).rstrip(),
        description="\n\n".join(textwrap.fill(paragraph, 96) for paragraph in summary.split("\n\n")),
        epilog=epilog,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=100),
    )
    for name, text in names.items():
        parser.add_argument(name, help=text)
    for group in groups:
        section = parser.add_argument_group(group.title)
        for flag in group.flags():
            _add(section, flag)
    return parser


def _add(section: argparse._ArgumentGroup, flag: Flag) -> None:
    text = flag.help().replace("%", "%%")
    short = ["-v"] if flag.name == "verbose" else []
    if flag.type is bool:
        section.add_argument(*short, f"--{flag.name}", dest=flag.field.name, action="store_true", help=text)
        section.add_argument(f"--no-{flag.name}", dest=flag.field.name, action="store_false", help=argparse.SUPPRESS)
    else:
        reader = _reader(flag)
        section.add_argument(f"--{flag.name}", dest=flag.field.name, metavar=flag.metavar, type=reader, help=text)


def _reader(flag: Flag) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return flag.read(text)
        except ValueError as error:
            raise UsageError(f"--{flag.name} {text}: {error}") from error

    return read


def _read_plain(kind: Any, text: str) -> Any:
    if kind is bool:
        if text.lower() not in _BOOLEANS:
            raise ValueError(f"{text!r} is not true or false")
        return _BOOLEANS[text.lower()]
    try:
        return _bounded(kind(text))
    except ValueError:
        raise ValueError(f"{text!r} is not {_NOUNS[kind]}") from None


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def _element(kind: Any, value: Any) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{value!r} is not {_NOUNS.get(kind, 'of the right kind')}")
    return _bounded(value)


def _bounded(value: Any) -> Any:
    # Arrays hold 64 bits; and no limit holds against nan, which is neither more nor less than anything.
    if type(value) is int and not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"{value} does not fit into 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no number to compute with")
    return value
