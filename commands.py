"""The subcommands: each turns its words into settings and calls the one function that does the work."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from command_line import Group, config_settings, flags_of, make, parse, peek, read_config
from schemas.errors import UsageError
from schemas.registry import check_name, resolve
from schemas.settings import setting, to_json

PREPARE = """\
A corpus becomes shards, an index, a ledger, statistics, a card and a report. Killed and typed again, it continues."""
PREPARE_EXAMPLES = """\
examples:
  stretto prepare music21-chorales --output chorales
  stretto prepare maestro --input maestro-v3.0.0 --output piano --pitch-range 21..108 --transpose=-3..3
  stretto prepare midi --input my-files --output mine --splits train=0.9,validation=0.1 --max-bad 10%
options of Beam itself stand behind --; the runner does not: --runner FlinkRunner -- --parallelism=4"""
INSPECT = "What is in a dataset: pieces, notes, seconds, tokens, what was dropped and why."
VERIFY = """\
Proves from the shards, not from the ledger, that a dataset is whole: checksums, order, what its manifest says,
no piece in two splits. Exit code 5 where something is wrong."""
VERIFY_EXAMPLES = """\
examples:
  stretto verify piano
  stretto verify piano --against piano-last-month --strict"""
TRAIN = (
    "Trains a named run on a dataset. Typed again it continues where it stopped; a finished run ends at once with 0."
)
TRAIN_EXAMPLES = """\
examples:
  stretto train tiny-chorales --data chorales --output run
  stretto train music-transformer-rotary --size small --data piano --output big --backend jax --steps 20000
  stretto train transformer --data piano --output again --config big/config.json --dry-run"""
EVALUATE = "Scores a run: nats per token and per note, bits per second of music, beside a bigram counted on train."
EVALUATE_EXAMPLES = """\
examples:
  stretto evaluate run
  stretto evaluate run --split test --checkpoint last --protocol sliding"""
SAMPLE = "Lets a run make music: a MIDI file, a WAV and a piano-roll picture for each sample."
SAMPLE_EXAMPLES = """\
examples:
  stretto sample run --count 8 --output music
  stretto sample run --output music --given opening.mid --length 60s --sampler nucleus --top-p 0.9"""
EXPORT = "A run's weights as one safetensors file, for other programs."
EXPORT_EXAMPLES = """\
example:
  stretto export run model.safetensors --checkpoint best"""
MONITOR = "Opens TensorBoard on a run: curves, piano rolls, sound, settings. Ctrl-C ends it."
A_RUN = {"RUN": "folder of a run (--output of stretto train)"}


@dataclass(frozen=True)
class Common:
    """What every command takes, as far as it makes sense there."""

    config: str = setting("", help="TOML file or stored config.json with settings; flags win over it", metavar="FILE")
    dry_run: bool = setting(False, help="check everything, print the resolved settings, do nothing")
    json: bool = setting(False, help="print one JSON object to standard output instead of words")
    verbose: bool = setting(False, help="show the traceback of an error")


@dataclass(frozen=True)
class Choice:
    """What decides which settings there are."""

    representation: str = setting("events", help="how music is written", metavar="NAME")


@dataclass(frozen=True)
class Inspect:
    """What `inspect` shows."""

    html: str = setting("", help="also write a page with pictures to this file", metavar="FILE")


@dataclass(frozen=True)
class Verify:
    """What `verify` demands."""

    against: str = setting("", help="another dataset: say where the two differ in records and features", metavar="OLD")
    strict: bool = setting(False, help="groups and copies that the corpus itself lets cross its splits are wrong, too")


@dataclass(frozen=True)
class Training:
    """What `train` reads and writes."""

    data: str = setting(help="a dataset that stretto prepare made", metavar="DIR")
    output: str = setting(help="folder of the run; made where it is missing", metavar="RUN")
    size: str = setting("", help="one of the run's sizes, where it has several", metavar="tiny|small|base|large")


def doctor_command(words: Sequence[str]) -> int:
    """`stretto doctor`: is this machine able?"""
    import doctor

    groups = [Group("doctor", "what is looked at", doctor.Doctor), common("json", "verbose")]
    _, (settings, shared) = understood(
        "stretto doctor", words, groups, "Is this machine able? Exit code 4 where it is not."
    )
    checks = doctor.examine(settings)
    if shared.json:
        print_json({"able": doctor.able(checks), "checks": [to_json(check) for check in checks]})
    else:
        print(doctor.as_text(checks))
    return doctor.code_of(checks)


def corpora(words: Sequence[str]) -> int:
    """`stretto corpora`: every corpus with licence, where to get it, and citation."""
    from beam_pipelines.corpora import CORPORA

    groups = [common("json", "verbose")]
    _, (shared,) = understood("stretto corpora", words, groups, "What can be prepared, under which licence.")
    kinds = {name: resolve(CORPORA, name, "corpus") for name in CORPORA}
    keys = ("version", "licence", "where", "citation")
    found = [{"name": name, **{key: getattr(kind, key) for key in keys}} for name, kind in kinds.items()]
    if shared.json:
        print_json(found)
    else:
        print("\n\n".join(paragraph(entry) for entry in found))
    return 0


def paragraph(entry: Mapping[str, str]) -> str:
    """One corpus in words: its name, then a line for each thing that is known of it."""
    lines = [f"  {key:<9} {value}".rstrip() for key, value in entry.items() if key != "name" and value]
    return "\n".join([entry["name"], *(line.replace("\n", "\n" + " " * 12) for line in lines)])


def prepare(words: Sequence[str]) -> int:
    """`stretto prepare CORPUS`: a corpus becomes shards."""
    from beam_pipelines.corpora import CORPORA

    name, rest = first_name("stretto prepare", words, "corpus", CORPORA)
    if name is None:
        return help_first("stretto prepare CORPUS", PREPARE, CORPORA, PREPARE_EXAMPLES)
    from beam_pipelines.config import Build
    from schemas.representations import REPRESENTATIONS

    form = peek(rest, "representation", "") or stored_name(peek(rest, "config", ""), "representation") or "events"
    kind = resolve(CORPORA, name, "corpus")
    about, hidden = {"input": getattr(kind, "takes", {})}, frozenset({"corpus", "representation"})
    groups = [
        Group("build", "what is made, and how", Build, hidden=hidden, about=about),
        Group("choice", "how music is written", Choice, base={"representation": form}),
        Group("representation", f"settings of {form}", resolve(REPRESENTATIONS, form, "representation")),
        Group("corpus", f"settings of {name}", kind),
        common("config", "json", "verbose"),
    ]
    prog = f"stretto prepare {name}"
    given = parse(prog, rest, groups, summary=PREPARE, epilog=PREPARE_EXAMPLES)
    refuse_runner(given.rest, prog)
    file = config_settings(given.settings["common"].get("config", ""), groups, {"corpus": name, "representation": form})
    corpus, representation = (make(group, given, file) for group in (groups[3], groups[2]))
    build = make(groups[0], given, file, corpus=corpus, representation=representation)
    if corpus.needs_input and not build.input:
        raise UsageError(f"--input {flags_of(groups)['input'].metavar} is missing. {corpus.where}")
    if not build.output:
        raise UsageError("--output DIR is missing")
    from beam_pipelines import build as pipeline

    return pipeline.prepare(build, given.rest, make(groups[-1], given, file).json)


def refuse_runner(options: Sequence[str], prog: str) -> None:
    """Raises UsageError for a runner among the options meant for Beam: Stretto must know it too."""
    for place, option in enumerate(options):
        if option.partition("=")[0] == "--runner":
            value = option.partition("=")[2] or "".join(options[place + 1 : place + 2])
            raise UsageError(
                f"--runner stands behind --, where only Beam would see it. Write: {prog} --runner {value} ..."
            )


def inspect(words: Sequence[str]) -> int:
    """`stretto inspect DIR`: what is in a dataset."""
    from beam_pipelines import describe

    groups = [Group("inspect", "what is shown", Inspect), common("json", "verbose")]
    names, (settings, shared) = understood("stretto inspect", words, groups, INSPECT, {"DIR": "a dataset"})
    found = describe.inspect(names["DIR"])
    if settings.html:
        describe.write_report(names["DIR"], settings.html)
    if shared.json:
        print_json(found)
    else:
        print(describe.as_text(found))
    return 0


def verify(words: Sequence[str]) -> int:
    """`stretto verify DIR`: whether a dataset is whole and does not leak."""
    from beam_pipelines import verify as checks
    from schemas.naming import readable

    groups = [Group("verify", "what is demanded", Verify), common("json", "verbose")]
    names, (settings, shared) = understood(
        "stretto verify", words, groups, VERIFY, {"DIR": "a dataset"}, VERIFY_EXAMPLES
    )
    report = checks.verify(names["DIR"], against=settings.against or None, strict=settings.strict)
    if shared.json:
        print_json(report.to_json())
    else:
        print("\n".join(map(readable, report.lines())))
    return report.exit_code


def train(words: Sequence[str]) -> int:
    """`stretto train RUN`: trains a named run; typed again, it continues."""
    from trainer.config import TrainSettings
    from trainer.devices import Launch
    from trainer.runs import RUNS

    name, rest = first_name("stretto train", words, "run", RUNS)
    if name is None:
        return help_first("stretto train RUN", TRAIN, RUNS, TRAIN_EXAMPLES)
    run, path = RUNS[name], peek(rest, "config", "")
    size = peek(rest, "size", "") or stored_name(path, "size")
    sized = run.sized(size) if size else run
    groups = [
        Group("place", "where", Training),
        Group("model", f"settings of {sized.family}", type(sized.task), base=vars(sized.task)),
        Group("train", "how it is trained", TrainSettings, base=vars(sized.settings)),
        Group("launch", "this process", Launch),
        common("config", "dry_run", "json", "verbose"),
    ]
    # A stored config.json says under "data" what the run was trained on; the dataset itself is named by --data.
    facts = {"name": None, "family": run.family} | ({"data": None} if stored_table(path, "data") else {})
    about = f"{TRAIN}\n\n{name}: {run.expected}"
    _, made = understood(f"stretto train {name}", rest, groups, about, epilog=run.command, facts=facts)
    place, task, settings, launch, shared = made
    from trainer import train as training

    chosen = replace(sized, task=task, settings=settings)
    return training.train(chosen, place.data, place.output, launch, dry_run=shared.dry_run, as_json=shared.json)


def evaluate(words: Sequence[str]) -> int:
    """`stretto evaluate RUN`: scores a run on a split."""
    from trainer import evaluate as scoring

    groups = [Group("evaluate", "what is scored, and how", scoring.Evaluation), common("config", "json", "verbose")]
    names, (settings, shared) = understood("stretto evaluate", words, groups, EVALUATE, A_RUN, EVALUATE_EXAMPLES)
    result = scoring.evaluate(names["RUN"], settings)
    if shared.json:
        print_json(result)
    else:
        print(scoring.table(result))
    return 0


def sample(words: Sequence[str]) -> int:
    """`stretto sample RUN`: lets a run make music."""
    from trainer import sample as making
    from trainer.layers.sampling import Sampler

    groups = [
        Group("sample", "what is made", making.Sampling),
        Group("sampler", "how it is drawn", Sampler),
        common("config", "json", "verbose"),
    ]
    names, (settings, sampler, shared) = understood("stretto sample", words, groups, SAMPLE, A_RUN, SAMPLE_EXAMPLES)
    made = making.sample(names["RUN"], settings, sampler)
    if shared.json:
        print_json(made)
    else:
        print(making.table(made))
    return 0


def export(words: Sequence[str]) -> int:
    """`stretto export RUN FILE`: a run's weights for others."""
    from trainer import export as weights

    groups = [Group("export", "which weights", weights.Export), common("json", "verbose")]
    where = {**A_RUN, "FILE": "the .safetensors file to write"}
    names, (settings, shared) = understood("stretto export", words, groups, EXPORT, where, EXPORT_EXAMPLES)
    made = weights.export(names["RUN"], names["FILE"], settings)
    if shared.json:
        print_json(made)
    else:
        print(f"wrote {made['weights']:,} weights of step {made['step']} to {made['file']}")
    return 0


def monitor(words: Sequence[str]) -> int:
    """`stretto monitor RUN`: opens TensorBoard on a run."""
    from trainer import monitor as board

    groups = [Group("monitor", "where it is served", board.Monitor), common("verbose")]
    names, (settings, _) = understood("stretto monitor", words, groups, MONITOR, A_RUN)
    return board.monitor(names["RUN"], settings)


def understood(
    prog: str,
    words: Sequence[str],
    groups: Sequence[Group],
    summary: str,
    names: Mapping[str, str] | None = None,
    epilog: str = "",
    facts: Mapping[str, str | None] | None = None,
) -> tuple[dict[str, str], list[Any]]:
    """The named arguments of a command and the settings of each of its groups, in their order."""
    given = parse(prog, words, groups, summary=summary, names=names, epilog=epilog)
    if given.rest:
        raise UsageError(f"{prog} takes nothing behind --: {' '.join(given.rest)}")
    file = config_settings(given.settings.get("common", {}).get("config", ""), groups, facts or {})
    return given.names, [make(group, given, file) for group in groups]


def common(*shown: str) -> Group:
    """Those of the common settings that a command takes."""
    hidden = frozenset(Common.__dataclass_fields__) - set(shown)
    return Group("common", "common", Common, hidden=hidden)


def first_name(prog: str, words: Sequence[str], kind: str, known: Iterable[str]) -> tuple[str | None, Sequence[str]]:
    """The name that must come first, and what follows it; None where help was asked for instead."""
    if words and words[0] in ("--help", "-h"):
        return None, words
    if not words or words[0].startswith("-"):
        raise UsageError(f"{prog} takes a {kind} first: {prog} NAME ... Known: {', '.join(known)}.")
    check_name(words[0], known, kind)
    return words[0], words[1:]


def help_first(usage: str, summary: str, known: Iterable[str], epilog: str) -> int:
    """Help of a command whose settings depend on the name that comes first."""
    noun = usage.split()[-1]
    names = [f"  {usage.replace(noun, name)} --help" for name in known]
    print(
        "\n".join([f"usage: {usage} [settings]", "", summary, "", f"the settings of each {noun}:", *names, "", epilog])
    )
    return 0


def stored_name(path: str, key: str) -> str:
    """What a configuration file chooses by name, or nothing."""
    value = read_config(path).get(key, "") if path else ""
    return str(value.get("name", "") if isinstance(value, dict) else value)


def stored_table(path: str, key: str) -> bool:
    """Whether a configuration file holds a table under a key."""
    return bool(path) and isinstance(read_config(path).get(key), dict)


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    print(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False))


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "doctor": doctor_command,
    "corpora": corpora,
    "prepare": prepare,
    "inspect": inspect,
    "verify": verify,
    "train": train,
    "evaluate": evaluate,
    "sample": sample,
    "export": export,
    "monitor": monitor,
}
