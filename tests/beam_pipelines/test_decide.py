"""Decisions over all reports: splits, duplicates, shards, and the order in which workers get them."""

from dataclasses import replace

from beam_pipelines.clean import Refusal
from beam_pipelines.config import Build
from beam_pipelines.corpora.corpus import Item
from beam_pipelines.corpora.jsb import Jsb
from beam_pipelines.corpora.maestro import Maestro
from beam_pipelines.corpora.midi import MidiFolder
from beam_pipelines.decide import decide, order_for_workers, shard_count
from beam_pipelines.limits import Measures
from beam_pipelines.survey import Report
from schemas.representations.events import Events

MAESTRO = Build(Maestro(), Events(), output="out")
FOLDER = Build(MidiFolder(), Events(), output="out")


def report(name, split="", group="", exact="", music="", refusal=None, notes=100):
    item = Item(name, group or name, split, name)
    if refusal:
        return Report(item, refusal)
    return Report(item, None, "ab", 10, Measures(1.0, notes), exact or name, music or name)


def test_official_splits_are_kept():
    plan = decide(MAESTRO, [report("a", "test"), report("b", "train"), report("c", "validation")])
    assert [decision.split for decision in plan.decisions] == ["test", "train", "validation"]


def test_composition_splits_ignore_official_ones_and_keep_groups_together():
    reports = [report(f"{n:02d}", ("train", "test")[n % 2], group=f"g{n // 2}") for n in range(40)]
    plan = decide(replace(MAESTRO, splits="composition"), reports)
    splits = [decision.split for decision in plan.decisions]
    assert splits[0::2] == splits[1::2]
    assert len(set(splits)) > 1
    assert plan.crossing_groups == ()


def test_groups_that_the_corpus_lets_cross_are_known():
    plan = decide(MAESTRO, [report("a", "train", group="waltz"), report("b", "test", group="waltz")])
    assert plan.crossing_groups == ("waltz",)
    assert all(decision.status == "written" for decision in plan.decisions)


def test_duplicates_and_leaks_are_skipped_with_the_name_of_what_is_kept():
    reports = [report("a", "train", exact="x"), report("b", "test", exact="x"), report("c", "train", music="b")]
    reports[1] = replace(reports[1], music="b")
    first, second, third = decide(MAESTRO, reports).decisions
    assert (first.status, first.reason, second.status, third.reason) == ("skipped", "duplicate", "written", "leak")
    assert "b, which is written" in first.message
    assert (first.of, second.of, third.of) == ("b", "", "b")


def test_the_same_music_in_two_files_falls_into_one_split_where_we_split():
    reports = [report(f"{n:02d}", music=f"m{n // 2}") for n in range(40)]
    splits = [decision.split for decision in decide(FOLDER, reports).decisions]
    assert splits[0::2] == splits[1::2]


def test_a_published_benchmark_keeps_all_music_that_it_puts_into_two_splits():
    twins = [
        report("a", "train", group="g", music="m", exact="x"),
        report("b", "test", group="g", music="m", exact="x"),
    ]
    strangers = [report("c", "train", music="n"), report("d", "test", music="n")]
    plan = decide(Build(Jsb(), Events(), output="out"), [*twins, *strangers])
    assert [decision.reason for decision in plan.decisions] == ["", "", "", ""]
    assert plan.crossing_groups == ("g",)
    assert [decision.reason for decision in decide(MAESTRO, twins).decisions] == ["duplicate", ""]
    anew = decide(Build(Jsb(), Events(), output="out", splits="composition"), strangers)
    assert len({decision.split for decision in anew.decisions}) == 1


def test_a_refused_input_stays_refused():
    plan = decide(FOLDER, [report("a", refusal=Refusal("quarantined", "not-midi", "a: no")), report("b")])
    assert plan.decisions[0].reason == "not-midi" and plan.decisions[0].shard == ""


def test_every_written_input_lies_in_one_shard_of_its_split():
    plan = decide(replace(FOLDER, shards=3), [report(f"{n:02d}") for n in range(30)])
    places = sorted(place for shard in plan.shards.values() for place in shard)
    assert places == list(range(30))
    assert all(f"-{plan.decisions[p].split}." in shard for shard, places in plan.shards.items() for p in places)


def test_shards_are_lowered_to_the_number_of_inputs():
    assert shard_count(replace(FOLDER, shards=32), "train", [100] * 5) == 5


def test_without_a_number_shards_follow_from_the_notes_alone():
    assert shard_count(FOLDER, "train", [100] * 100) == 16
    assert shard_count(replace(FOLDER, workers=9), "train", [1_000_000] * 100) == 16
    assert shard_count(FOLDER, "train", [100_000_000] * 100) == 100
    assert shard_count(FOLDER, "test", []) == 0


def test_shards_go_to_workers_so_that_they_have_equal_work():
    weights = {f"s{n}": float(n) for n in range(1, 9)}
    order = order_for_workers(weights, 2)
    assert sorted(order) == sorted(weights)
    assert sum(weights[name] for name in order[0::2]) == sum(weights[name] for name in order[1::2])
