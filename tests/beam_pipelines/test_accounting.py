"""The account: inputs = written + skipped + quarantined, in total and in every split, or there is no dataset."""

import pytest

from beam_pipelines.accounting import WrongAccount, account, check_account, table


def line(name, status="written", split="train", records=2):
    reason = "" if status == "written" else "because"
    return {"name": name, "status": status, "split": split, "reason": reason, "records": records}


LEDGER = [
    line("a"),
    line("b", split="test", records=3),
    line("c", "skipped", records=0),
    line("d", "quarantined", "", 0),
]
HELD = {"train": 2, "validation": 0, "test": 3}


def test_a_right_account_is_right_and_shows_as_a_table():
    check_account(LEDGER, 4, HELD, 1)
    lines = table(account(LEDGER)).splitlines()
    assert lines[-3].split() == ["total", "4", "2", "1", "1"]
    assert lines[-2:] == ["skipped: because 1", "quarantined: because 1"]


@pytest.mark.parametrize(
    ("ledger", "listed", "held", "bad", "told"),
    [
        (LEDGER[:-1], 4, HELD, 0, "4 inputs were listed, the ledger has 3 lines"),
        ([*LEDGER, LEDGER[-1]], 5, HELD, 2, "4 of them different"),
        (LEDGER[::-1], 4, HELD, 1, "4 inputs were listed"),
        (LEDGER, 4, {"train": 2, "test": 2}, 1, "split 'test': the ledger counts 3 records, its shards hold 2"),
        (LEDGER, 4, {"train": 3, "test": 2}, 1, "split 'test'"),
        (LEDGER, 4, {**HELD, "validation": 1}, 1, "split 'validation': the ledger counts 0"),
        (LEDGER, 4, HELD, 2, "2 in the quarantine"),
        ([*LEDGER[:-1], line("d", "lost", "", 0)], 4, HELD, 0, "d: status lost"),
        ([line("a", records=0)], 1, {}, 0, "a: status written, reason '', 0 records"),
        ([line("a", "skipped", records=1)], 1, {"train": 1}, 0, "a: status skipped"),
    ],
)
def test_any_sum_that_does_not_agree_stops_the_commit(ledger, listed, held, bad, told):
    with pytest.raises(WrongAccount, match=told):
        check_account(ledger, listed, held, bad)
