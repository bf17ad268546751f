"""The outlook of `--retry-quarantined`: what it means for a finished dataset, told before an input is read."""

from dataclasses import asdict, dataclass
from typing import Any

from beam_pipelines.config import Build
from beam_pipelines.limits import MEASURED, over_limit
from beam_pipelines.survey import Report


@dataclass
class Outlook:
    """Counts over the inputs of a finished dataset, gathered input by input.

    Attributes:
        other_code: whether the code that reads has changed, so that everything is surveyed again.
        inputs: how many there are.
        again: how many are read again, because they were bad.
        let_in: how many were bad for a limit that now lets them in.
        left_out: how many are written there and exceed the limits given now.
        example: why the first of those is left out.
    """

    other_code: bool = False
    inputs: int = 0
    again: int = 0
    let_in: int = 0
    left_out: int = 0
    example: str = ""

    def add(self, build: Build, report: Report, line: dict[str, Any], again: bool) -> None:
        """Counts one input: its report, its line of the ledger, and whether it is read again."""
        refusal = over_limit(build, report.item.name, report.bytes, report.measures)
        self.inputs += 1
        self.again += again
        self.let_in += line["reason"] in MEASURED and refusal is None
        if line["status"] == "written" and refusal:
            self.left_out += 1
            self.example = self.example or refusal.message

    def to_json(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The counts in words; what loses pieces stands last."""
        lines = [
            f"read again because they were bad: {self.again} of {self.inputs} inputs; of the others bytes are compared"
        ]
        if self.other_code:
            lines = [f"read again because the code that reads has changed: all {self.inputs} inputs"]
        if self.let_in:
            lines.append(
                f"bad for a limit there, and within the limits given now: {self.let_in} of {self.inputs} inputs"
            )
        if self.left_out:
            lines.append(
                f"written there, and over the limits given now, so they will be left out: {self.left_out} of "
                f"{self.inputs} inputs (for example {self.example}). As in a full new build, others may change their "
                "split or shard"
            )
        return lines
