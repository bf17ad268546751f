"""The stages of a build as Beam transforms: each groups small things and calls one function; no bulk is shuffled."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from beam_pipelines.beam_import import without_unneeded_packages
from beam_pipelines.commit import Ending, commit, write_quarantine
from beam_pipelines.config import Build
from beam_pipelines.decide import decide, order_for_workers, work_of, write_plan
from beam_pipelines.folder import Folder
from beam_pipelines.outcome import told
from beam_pipelines.progress import DECIDE, SURVEY, WRITE, Ticks
from beam_pipelines.reading_process import ReadingProcess
from beam_pipelines.survey import read_reports, survey_part
from beam_pipelines.write import write_shard

with without_unneeded_packages():
    import apache_beam as beam


class _Stage(beam.DoFn):  # type: ignore[misc]
    """What every stage has: the build, its folder, and the marks of a living worker."""

    stage = ""

    def __init__(self, build: Build) -> None:
        self.build = build
        self.folder = Folder(build.building)

    def setup(self) -> None:
        self._ticks = Ticks(self.folder, self.stage)

    def teardown(self) -> None:
        self._ticks.close()


class SurveyPart(_Stage):
    """Part of the listing -> (0, how many of its inputs were read now)."""

    stage = SURVEY

    def setup(self) -> None:
        super().setup()
        self._reading = ReadingProcess(self.build)

    def process(self, element: tuple[int, Iterable[None]]) -> Iterator[tuple[int, int]]:
        with told(self.folder):
            yield 0, survey_part(self.build, self.folder, element[0], self._reading, self._ticks.done)

    def teardown(self) -> None:
        self._reading.close()
        super().teardown()


class DecideAll(_Stage):
    """All parts are surveyed -> (shard, how many inputs it has), in an order that keeps all workers busy."""

    stage = DECIDE

    def __init__(self, build: Build, workers: int) -> None:
        super().__init__(build)
        self.workers = workers

    def process(self, element: tuple[int, Iterable[int]]) -> Iterator[tuple[str, int]]:
        with told(self.folder):
            reports = read_reports(self.folder)
            plan = decide(self.build, reports, self._ticks.done)
            write_plan(self.build, self.folder, reports, plan)
            endings = [Ending(report, decision) for report, decision in zip(reports, plan.decisions, strict=True)]
            write_quarantine(self.build, self.folder, endings)
            for shard in order_for_workers(work_of(self.build, reports, plan), self.workers):
                yield shard, len(plan.shards[shard])


class WriteShard(_Stage):
    """(shard, …) -> (0, whether it was there already)."""

    stage = WRITE

    def process(self, element: tuple[str, Iterable[int]]) -> Iterator[tuple[int, bool]]:
        with told(self.folder):
            yield 0, write_shard(self.build, self.folder, element[0], self._ticks.done)


class CommitAll(_Stage):
    """All shards are written -> the dataset is finished."""

    def __init__(self, build: Build, how: Mapping[str, Any]) -> None:
        super().__init__(build)
        self.how = dict(how)

    def process(self, element: tuple[int, Iterable[bool]]) -> None:
        with told(self.folder):
            commit(self.build, {**self.how, "kept_shards": sum(element[1])})


@dataclass
class SurveyItems(beam.PTransform):  # type: ignore[misc]
    """Numbers of listing parts -> (0, inputs read)."""

    build: Build

    def expand(self, pcoll: Any) -> Any:
        return (
            pcoll
            | "KeyByPart" >> beam.Map(lambda part: (part, None))
            | beam.GroupByKey()
            | beam.ParDo(SurveyPart(self.build))
        )


@dataclass
class Decide(beam.PTransform):  # type: ignore[misc]
    """(0, inputs read) -> (shard, inputs), when every part is surveyed."""

    build: Build
    workers: int

    def expand(self, pcoll: Any) -> Any:
        return pcoll | "AllParts" >> beam.GroupByKey() | beam.ParDo(DecideAll(self.build, self.workers))


@dataclass
class WriteShards(beam.PTransform):  # type: ignore[misc]
    """(shard, inputs) -> (0, kept): one task a shard. Its inputs are written down, only its name is shuffled."""

    build: Build

    def expand(self, pcoll: Any) -> Any:
        return pcoll | "OneTaskAShard" >> beam.GroupByKey() | beam.ParDo(WriteShard(self.build))


@dataclass
class Commit(beam.PTransform):  # type: ignore[misc]
    """(0, kept) -> nothing, when every shard is written."""

    build: Build
    how: Mapping[str, Any]

    def expand(self, pcoll: Any) -> Any:
        return pcoll | "AllShards" >> beam.GroupByKey() | beam.ParDo(CommitAll(self.build, self.how))
