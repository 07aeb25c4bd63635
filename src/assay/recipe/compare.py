"""Two models on the same rows: paired differences with intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.config import build_part
from assay.errors import LoadError, UsageError
from assay.files import finite

if TYPE_CHECKING:
    from assay.audit.measures.intervals import Difference
    from assay.claims.passport import Passport
    from assay.claims.records import Origin


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        a: folder of the first model.
        b: folder of the second.
        dataset: name of the data.
        split: the rows compared on.
        rows: number of rows.
        units: number of privacy units.
        same: share of the rows on which both decide alike (None: a regression).
        differences: one a metric; `difference` is b - a.
    """

    a: str
    b: str
    dataset: str
    split: str
    rows: int
    units: int
    same: float | None
    differences: tuple[Difference, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        out = asdict(self)
        out["differences"] = [
            {
                **asdict(item),
                "a": finite(item.a),
                "b": finite(item.b),
                "difference": finite(item.difference),
                "differs": item.differs,
            }
            for item in self.differences
        ]
        return out

    def lines(self) -> list[str]:
        """The comparison for a person."""
        lines = [
            f"A  {self.a}",
            f"B  {self.b}",
            f"on {self.dataset}/{self.split}: {self.rows:,} rows, {self.units:,} units",
        ]
        if self.same is not None:
            lines.append(f"both decide alike on {self.same:.1%} of the rows")
        lines.append(f"{'metric':<20}{'A':>10}{'B':>10}{'B - A':>10}  interval")
        for item in self.differences:
            span = "not defined"
            if item.interval is not None:
                low, high = item.interval
                span = f"[{low:+.4f}, {high:+.4f}]" + (" differs" if item.differs else "")
            lines.append(
                f"{item.metric:<20}{item.a:>10.4f}{item.b:>10.4f}{item.difference:>+10.4f}  {span}"
            )
        if self.differences:
            level = self.differences[0].level
            lines.append(f"paired bootstrap over units, {level:.0%} intervals, each on its own")
        return lines


def compare(
    a: Path, b: Path, *, split: str | None = None, data: str | None = None, seed: int = 0
) -> Comparison:
    """Compare two models (folders of models or of runs) on the rows that both were audited on.

    Args:
        a: the first.
        b: the second.
        split: the rows; by default the split that the newest quality claims of both speak of.
        data: where the data are now, if they were moved.
        seed: of the bootstrap.

    Raises:
        UsageError: they were not made for one task, on one data set with the same division.
        LoadError: a model or the data cannot be loaded.
        ArtefactError: a model is damaged.
    """
    from assay.audit.measures import intervals, quality
    from assay.claims.passport import Passport
    from assay.models.load import load_model, model_folder
    from assay.verify.data import Absent, open_data

    folder_a, folder_b = model_folder(a), model_folder(b)
    passports = (Passport.read(folder_a)[0], Passport.read(folder_b)[0])
    origin = _origin(passports[0], a)
    _same_question(origin, _origin(passports[1], b), f"{a} and {b}")
    first, second = load_model(folder_a), load_model(folder_b)
    if first.classes != second.classes:
        raise UsageError(
            f"they know other classes: {first.classes} and {second.classes}",
            where=f"{a} and {b}",
            mend="compare models of the same classes",
        )
    task = build_part("task", origin.task, "task")
    dataset = open_data(origin, folder_a, data, task)
    if isinstance(dataset, Absent):
        raise LoadError(
            dataset.why, where=f"data {origin.data.name}", mend="name the data with --data"
        )
    chosen = split or _audited(passports, dataset.splits)
    of_a = quality.predict(first, dataset, chosen)
    of_b = quality.predict(second, dataset, chosen)
    units = dataset.units(chosen)
    found = intervals.compare(of_a, of_b, dataset.targets(chosen), units, seed=seed)
    same = None
    if first.classes is not None:
        same = float((of_a.predicted == of_b.predicted).mean())
    return Comparison(
        a=str(a),
        b=str(b),
        dataset=dataset.name,
        split=chosen,
        rows=len(units),
        units=int(units.max()) + 1,
        same=same,
        differences=tuple(found),
    )


def _origin(passport: Passport, path: Path) -> Origin:
    if passport.origin is None:
        raise LoadError(
            "its passport does not say what it was made from",
            where=str(path),
            mend="compare models that assay made",
        )
    return passport.origin


def _same_question(one: Origin, two: Origin, where: str) -> None:
    """Refuse models that no row can be put to alike."""
    tasks = [next(iter(origin.task)) for origin in (one, two)]
    if tasks[0] != tasks[1]:
        raise UsageError(
            f"one does {tasks[0]}, the other {tasks[1]}",
            where=where,
            mend="compare models of one task",
        )
    if one.data_digest != two.data_digest:
        if one.data.name == two.data.name:
            what = f"other rows, or another division, of {one.data.name}"
        else:
            what = f"different data: {one.data.name} and {two.data.name}"
        raise UsageError(
            f"they were made on {what}",
            where=where,
            mend="compare models of one data set and the same splits",
        )


def _audited(passports: tuple[Passport, ...], splits: Any) -> str:
    """The split that the newest quality claims of all speak of, else `test`."""
    audited = []
    for passport in passports:
        found = [
            claim.split
            for claim, _, carried in passport.current()
            if carried and claim.kind.startswith("quality.") and claim.split in splits
        ]
        audited.append(list(reversed(found)))
    for split in audited[0]:
        if all(split in others for others in audited):
            return str(split)
    return "test"
