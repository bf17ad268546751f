"""START HERE: how a corpus becomes a dataset. `graph` is the pipeline on one screen; `prepare` runs it."""

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from beam_pipelines.accounting import account, table
from beam_pipelines.beam_import import without_unneeded_packages
from beam_pipelines.config import Build, differences
from beam_pipelines.ending import dry_run, say, say_outlook, say_start, tell_end
from beam_pipelines.finish import REPLACED, finish, is_dataset, is_pending, remove_replaced
from beam_pipelines.folder import WORKING, Folder, read_lines, read_value, remove_scratch, write_value
from beam_pipelines.launch import check_beam_options, check_runner, end_workers, engine, run, terminated
from beam_pipelines.listing import write_listing
from beam_pipelines.lock import locked, remove_dead_lock
from beam_pipelines.outcome import told
from beam_pipelines.progress import Display, forget_ticks
from beam_pipelines.retry import check_retry, foreseen, take_over
from beam_pipelines.seal import PENDING
from beam_pipelines.stages import Commit, Decide, SurveyItems, WriteShards
from beam_pipelines.survey import surveyed_items
from beam_pipelines.suspects import gather_suspects
from beam_pipelines.workload import sensible_workers
from schemas.errors import InputError, Interrupted, StrettoError, UsageError
from schemas.manifest import COMPLETED, MANIFEST, read_manifest
from schemas.redaction import redacted

with without_unneeded_packages():
    import apache_beam as beam


def graph(pipeline: Any, build: Build, parts: int, workers: int, how: Mapping[str, Any]) -> None:
    """The pipeline. What crosses from stage to stage is small: numbers of listing parts, names of shards."""
    (
        pipeline
        | "ListParts" >> beam.Create(range(parts), reshuffle=False)
        | "SurveyItems" >> SurveyItems(build)
        | "Decide" >> Decide(build, workers)
        | "WriteShards" >> WriteShards(build)
        | "Commit" >> Commit(build, how)
    )


def prepare(build: Build, beam_options: Sequence[str], as_json: bool) -> int:
    """Makes the dataset, or continues making it, and prints the account. Returns 0.

    Raises:
        UsageError: another dataset or another build is in the way, or an option does not exist.
        InputError: there is no input, too much of it is bad, or nothing could be written.
        MachineError: the folder is locked, or the disk is full.
        Interrupted: a worker was lost; the same command continues.
    """
    check_beam_options(beam_options)
    check_runner(build.runner)
    if (kept := _only_replaced_is_left(build)) is not None:
        tell_end(build, kept, as_json)
        return 0
    if build.overwrite and build.retry_quarantined:
        raise UsageError(
            "--overwrite makes a dataset anew, --retry-quarantined makes it again from what it has. Give one of both."
        )
    check_output(build)
    if build.corpus.needs_input and not build.input:
        raise UsageError(
            f"--input is missing: the corpus {build.corpus.name} is read from a folder. {build.corpus.where}"
        )
    if build.dry_run:
        return dry_run(build, as_json, foreseen(build) if _takes_over(build) else None)
    folder = Folder(build.building)
    with terminated(), locked(folder.root):
        # Looked at again under the lock: another launcher may have finished between the first look and the lock.
        check_output(build)
        check_half_built(build, folder)
        kept = _finish_pending(build, folder) if is_pending(folder.root) else _build(build, folder, beam_options)
    tell_end(build, kept, as_json)
    return 0


def _only_replaced_is_left(build: Build) -> int | None:
    """Removes the dataset that this build has replaced, where it was killed at that; returns how many shards there are.

    None where there is nothing to remove, or the dataset in its place is another build's.
    """
    if (
        not build.replaces
        or not os.path.exists(os.path.abspath(build.output) + REPLACED)
        or os.path.lexists(build.building)
    ):
        return None
    with locked(build.building):
        made_by = read_value(os.path.join(build.output, "provenance.json")) or {}
        if not is_dataset(build.output) or not remove_replaced(build.output):
            return None
    say("continuing: only the dataset that was replaced had to be removed")
    return len(read_manifest(build.output).shards) if made_by.get("build_fingerprint") == build.fingerprint else None


def _finish_pending(build: Build, folder: Folder) -> int:
    say("continuing: everything is written, only the last steps of the commit were left; nothing is surveyed again")
    kept = len(read_value(folder.path(MANIFEST))["shards"])
    finish(build.output, build.replaces)
    return kept


def _build(build: Build, folder: Folder, beam_options: Sequence[str]) -> int:
    """Runs the graph in a locked folder; returns how many shards were there already."""
    _start_afresh(folder)
    state = {"build_fingerprint": build.fingerprint, "choices": build.choices, "retry": _takes_over(build)}
    write_value(folder.state, state)
    try:
        with told(folder):
            listing = write_listing(build, folder)
            if _takes_over(build):
                say_outlook(take_over(build, folder, listing.parts))
    except (UsageError, InputError) as error:
        # A dataset that cannot be made again is made anew, by another command; and nothing keeps what nothing is in.
        if isinstance(error, UsageError) or not os.path.isdir(folder.path("survey")):
            _throw_away(folder)
        raise
    gather_suspects(folder)
    surveyed = surveyed_items(build, folder, listing.parts)
    where = engine(build, build.workers or sensible_workers(build, folder, listing), beam_options)
    say_start(build, folder, listing, surveyed, where)
    how = {"runner": build.runner, "workers": where.workers, "started": now(), "argv": redacted(sys.argv)}
    display = Display(folder, listing.items - surveyed)
    try:
        run(where, lambda pipeline: graph(pipeline, build, listing.parts, where.workers, how), display)
    except StrettoError as error:
        if isinstance(error, UsageError) and _takes_over(build) and not is_pending(folder.root):
            end_workers(folder)
            _throw_away(folder)  # an input has other bytes: this will never be finished
        if not isinstance(error, Interrupted) and os.path.exists(folder.decisions):
            print(table(account(read_lines(folder.decisions))), file=sys.stderr)
        if not isinstance(error, Interrupted) or not _is_made(build, how):
            raise
        # A worker was lost when everything was there already; only what it replaced may still be.
        remove_replaced(build.output)
    return int(read_value(os.path.join(build.output, "provenance.json"))["kept_shards"])


def _is_made(build: Build, how: Mapping[str, Any]) -> bool:
    made_by = read_value(os.path.join(build.output, "provenance.json")) or {}
    same = made_by.get("started") == how["started"] and made_by.get("build_fingerprint") == build.fingerprint
    return same and is_dataset(build.output) and not os.path.lexists(build.building)


def _takes_over(build: Build) -> bool:
    return build.retry_quarantined and is_dataset(build.output)


def check_output(build: Build) -> None:
    """Raises UsageError where the output cannot be made: something is there, and it may not be replaced."""
    if not build.output:
        raise UsageError("--output is missing: the folder to make.")
    if not os.path.lexists(build.output) or (os.path.isdir(build.output) and not os.listdir(build.output)):
        if build.retry_quarantined and not os.path.isdir(build.building):
            raise UsageError(f"{build.output}: nothing was quarantined there yet. Leave --retry-quarantined out.")
        return
    if not is_dataset(build.output):
        raise UsageError(f"{build.output}: something else is there, and it is not replaced. Choose another --output.")
    if not build.replaces:
        remove_dead_lock(build.building)
        raise UsageError(
            f"{build.output}: a dataset is there already. Choose another --output, or replace it with --overwrite."
        )
    if build.retry_quarantined and not is_pending(build.building):
        check_retry(build)


def _start_afresh(folder: Folder) -> None:
    """Removes what an earlier run said of its course and its end, and what it did not finish; what it made stays."""
    forget_ticks(folder)
    remove_scratch(folder)
    shutil.rmtree(folder.path("progress", "scratch"), ignore_errors=True)
    for path in (folder.outcome, folder.plan, folder.decisions):
        if os.path.exists(path):
            os.unlink(path)


def check_half_built(build: Build, folder: Folder) -> None:
    """Raises UsageError where the half-built dataset is another's, which only `--overwrite` or a retry throws away."""
    state = read_value(folder.state) or read_value(folder.path("provenance.json"))
    strange = [name for name in os.listdir(folder.root) if name not in WORKING]
    if state is None and strange:
        raise UsageError(
            f"{folder.root}: holds {strange[0]!r}, which is of no build. Remove it or choose another --output."
        )
    if state is None or state["build_fingerprint"] == build.fingerprint:
        return
    # Half of a retry is soon made again; one that is whole but for its name is another matter.
    again = build.retry_quarantined and state.get("retry") and not is_pending(folder.root)
    if not build.overwrite and not again:
        raise UsageError(f"{folder.root}: a half-built dataset of another build is there {_ways_out(build, state)}")
    _throw_away(folder)


def _ways_out(build: Build, state: Mapping[str, Any]) -> str:
    """What differs between a half-built dataset and this build, and what can be done."""
    there = state.get("choices", {})
    changed = differences(there, build.choices) if there else []
    adding = "with --overwrite in place of --retry-quarantined" if build.retry_quarantined else "add --overwrite"
    others = f"Or choose another --output; or throw it away and begin anew: {adding}."
    if not changed:
        return (
            f"(its choices are the same, the code of this program has changed). Finish it with that version. {others}"
        )
    return (
        f"({'; '.join(changed)}). What has begun keeps its settings, limits too. Finish it with the settings of that "
        f"build; then --retry-quarantined can change limits. {others}"
    )


def _throw_away(folder: Folder) -> None:
    """Empties the folder, so that a kill leaves no half of it that could be taken for a whole, or for nobody's."""
    first, last = (PENDING, COMPLETED), ("provenance.json", "progress")
    rest = [name for name in os.listdir(folder.root) if name not in (*first, *last, "workers")]
    for path in map(folder.path, (*first, *rest, *last)):
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)


def now() -> str:
    """The time, for provenance.json."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
