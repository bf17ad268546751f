"""The decisions: what becomes of every input, in which split and shard, taken once over all reports of the survey."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from beam_pipelines.augment import variants_of
from beam_pipelines.clean import Refusal, Status
from beam_pipelines.config import Build
from beam_pipelines.corpus_copies import Pair, crossing_copies, keeps_all
from beam_pipelines.folder import Folder, read_lines, write_lines, write_value
from beam_pipelines.limits import over_limit
from beam_pipelines.split import crossing_groups, dealt, duplicates, leaks, merged_groups, near_leaks, own_split
from beam_pipelines.survey import CHANGED, Report, surveyed_piece
from beam_pipelines.write import is_finished
from schemas.music import Piece
from schemas.naming import SPLITS, shard_name

SHARD_BYTES = 128 << 20
FEWEST_SHARDS = 16
_BYTES_PER_NOTE = 10
"""About four events of two bytes a note, and framing. It only sets how many shards there are."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one input.

    Attributes:
        status: written, skipped or quarantined.
        reason: a short word, "" for written.
        message: a sentence, "" for written.
        offset: where in the file, where known.
        track: which track of the file, where known.
        split: its split, "" where an input that is not written has none.
        shard: the file it is written to, "" for none.
        of: the name of the input that it has its music in common with, for a duplicate and a leak; else "".
    """

    status: Status
    reason: str = ""
    message: str = ""
    offset: int | None = None
    track: int | None = None
    split: str = ""
    shard: str = ""
    of: str = ""


@dataclass(frozen=True)
class Twin(Refusal):
    """Why a piece is not written whose music another input has: that is named too."""

    of: str = ""


@dataclass(frozen=True)
class Plan:
    """Decisions in order of the reports, the inputs of every shard as places in it, groups and copies that cross."""

    decisions: list[Decision]
    shards: dict[str, list[int]]
    crossing_groups: tuple[str, ...]
    crossing_copies: tuple[Pair, ...] = ()


def decide(build: Build, reports: Sequence[Report], alive: Callable[[], None] = lambda: None) -> Plan:
    """The plan of a build. `alive` is called whenever a piece had to be read again."""
    splits = assigned_splits(build, reports)
    refusals = refused(build, reports, splits, alive)
    written = [place for place in range(len(reports)) if place not in refusals]
    shards = assigned_shards(build, reports, splits, written)
    shard_of = {place: shard for shard, places in shards.items() for place in places}
    decisions = [
        Decision("written", split=splits[place], shard=shard_of[place])
        if place in shard_of
        else Decision(**asdict(refusals[place]), split=splits[place])
        for place in range(len(reports))
    ]
    copies = crossing_copies(build, [(reports[place], splits[place]) for place in written], alive)
    return Plan(decisions, shards, _crossing(build, reports), copies)


def assigned_splits(build: Build, reports: Sequence[Report]) -> list[str]:
    """The split of every input: its official one, or its group's; "" where an official one is not known."""
    official = build.splits == "official" and build.corpus.official_splits
    fit = [report for report in reports if report.music and not judge(build, report)]
    merged = merged_groups((report.item.group, report.music, report.sketch) for report in fit)
    splits = []
    for report in reports:
        item = report.item
        if official and (item.split or not report.music):
            splits.append(item.split)
        else:
            splits.append(own_split(build.seed, merged.get(item.group, item.group), build.fractions))
    return splits


def refused(
    build: Build, reports: Sequence[Report], splits: Sequence[str], alive: Callable[[], None]
) -> dict[int, Refusal]:
    """Place -> why it is not written: what the survey found, then duplicates, then music of one split in another.

    Nothing but the first of a benchmark that is kept whole.
    """
    judged = {place: judge(build, report) for place, report in enumerate(reports)}
    refusals: dict[int, Refusal] = {place: refusal for place, refusal in judged.items() if refusal}
    if keeps_all(build):
        return refusals
    places = {report.item.name: place for place, report in enumerate(reports)}
    fit = [(reports[place], split) for place, split in enumerate(splits) if place not in refusals]
    twins = duplicates([(report.item.name, split, report.exact) for report, split in fit])
    for name, kept in twins.items():
        message = f"{name}: the same notes as {kept}, which is written"
        refusals[places[name]] = Twin("skipped", "duplicate", message, of=kept)
    rest = [pair for pair in fit if pair[0].item.name not in twins]
    refusals |= {places[name]: refusal for name, refusal in _leaking(build, rest, alive).items()}
    return refusals


def _leaking(build: Build, fit: Sequence[tuple[Report, str]], alive: Callable[[], None]) -> dict[str, Refusal]:
    """Name -> refusal of every piece whose music lies in a split that goes before its own."""
    found: dict[str, Refusal] = {}
    for name, kept in leaks([(report.item.name, split, report.music) for report, split in fit]).items():
        message = f"{name}: the same music as {kept}, which lies in another split"
        found[name] = Twin("skipped", "leak", message, of=kept)
    reports = {report.item.name: report for report, _ in fit if report.item.name not in found}
    rest = [(report.item.name, split, report.sketch) for report, split in fit if report.item.name in reports]

    def load(name: str) -> Piece | None:
        alive()
        piece = surveyed_piece(build, reports[name])
        if piece is None:
            found[name] = Refusal("quarantined", CHANGED, f"{name}: not what it was when it was surveyed")
        return piece

    for name, leak in near_leaks(rest, load, also_of_leaking=False):
        message = f"{name}: a copy of {leak.keeper} ({leak.copy}), which lies in another split"
        found[name] = Twin("skipped", "leak", message, of=leak.keeper)
    return found


def judge(build: Build, report: Report) -> Refusal | None:
    """Why one input is not written: it is bad, passes a limit, or is not wanted; None where it is fit."""
    if report.refusal and report.refusal.status == "quarantined":
        return report.refusal
    return over_limit(build, report.item.name, report.bytes, report.measures) or report.refusal


def _crossing(build: Build, reports: Sequence[Report]) -> tuple[str, ...]:
    if build.splits != "official":
        return ()
    return crossing_groups((report.item.group, report.item.split) for report in reports if report.item.split)


def assigned_shards(
    build: Build, reports: Sequence[Report], splits: Sequence[str], written: Sequence[int]
) -> dict[str, list[int]]:
    """Shard -> places of its inputs in the order they are dealt; train first, then validation, then test."""
    shards: dict[str, list[int]] = {}
    for split in SPLITS:
        places = {reports[place].item.name: place for place in written if splits[place] == split}
        total = shard_count(build, split, [reports[place].measures.notes for place in places.values()])
        for index in range(total):
            shards[shard_name(build.corpus.name, split, index, total)] = []
        for name, index in dealt(places, total).items():
            shards[shard_name(build.corpus.name, split, index, total)].append(places[name])
    return shards


def shard_count(build: Build, split: str, notes: Sequence[int]) -> int:
    """How many shards a split has, from what was asked or from the notes of its inputs; never from the workers."""
    if build.shards is not None:
        return min(build.shards, len(notes))
    size = sum(notes) * copies_of(build, split) * _BYTES_PER_NOTE
    return min(len(notes), max(FEWEST_SHARDS, -(-size // SHARD_BYTES)))


def copies_of(build: Build, split: str) -> int:
    """Copies of one piece of a split, before any is dropped."""
    return variants_of(split, build.transpose, build.stretch, build.corpus.pitch_range).count


def order_for_workers(weights: Mapping[str, float], workers: int) -> list[str]:
    """Shards in an order that gives workers dealt them in turn equal work: heaviest first, every second round reversed.

    The local engine deals out beforehand, so that an unlucky order would leave one worker waiting for the other.
    """
    heaviest = sorted(weights, key=lambda name: (-weights[name], name))
    rounds = [heaviest[start : start + workers] for start in range(0, len(heaviest), workers)]
    return [name for number, row in enumerate(rounds) for name in (row if number % 2 == 0 else _reversed(row, workers))]


def _reversed(row: Sequence[str], workers: int) -> list[str]:
    # A last row that is not full would move everyone's place if it were turned round.
    return list(reversed(row)) if len(row) == workers else list(row)


def work_of(build: Build, reports: Sequence[Report], plan: Plan) -> dict[str, float]:
    """Shard -> how much work it is, in notes encoded: every copy, and reading once."""
    return {
        shard: float(
            sum(reports[place].measures.notes * (2 + copies_of(build, plan.decisions[place].split)) for place in places)
        )
        for shard, places in plan.shards.items()
    }


def write_plan(build: Build, folder: Folder, reports: Sequence[Report], plan: Plan) -> None:
    """Decisions, and the inputs of every shard in a file of its own: only the shard's name has to cross the shuffle."""
    write_lines(folder.decisions, map(asdict, plan.decisions))
    for shard, places in plan.shards.items():
        write_lines(folder.references(shard), (_reference(reports[place]) for place in places))
    kept = [shard for shard in plan.shards if is_finished(build, folder, shard)]
    to_write = sum(len(places) for shard, places in plan.shards.items() if shard not in kept)
    crossing = {"crossing_groups": plan.crossing_groups, "crossing_copies": plan.crossing_copies}
    write_value(folder.plan, {"shards": sorted(plan.shards), "kept": kept, "to_write": to_write, **crossing})


def _reference(report: Report) -> dict[str, object]:
    return {"item": asdict(report.item), "sha256": report.sha256, "exact": report.exact}


def read_decisions(folder: Folder) -> Iterator[Decision]:
    """Every decision, in order of the listing."""
    return (Decision(**value) for value in read_lines(folder.decisions))
