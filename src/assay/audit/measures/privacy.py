"""Attacks run on a model: what is scored, which models are trained anew, what came of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.audit.measures.latency import fingerprint
from assay.audit.measures.said import said
from assay.files import derive_seed
from assay.privacy.attacks import canaries as bounds
from assay.privacy.attacks import membership as by
from assay.privacy.attacks.membership import Floats, Ints
from assay.privacy.attacks.planting import Planted, plant, scores, shadow_sets

if TYPE_CHECKING:
    from assay.data.dataset import Dataset
    from assay.models.model import Model

#: points of a curve that a report draws
_POINTS = 200


@dataclass(frozen=True)
class Attacked:
    """What a membership attack says of each unit.

    Attributes:
        members: `[m]` scores of units that the model was trained on.
        others: `[n]` scores of units that it was not trained on.
        conditions: of the claims.
        method: of the attack, in words.
        details: what `verify` needs.
    """

    members: Floats
    others: Floats
    conditions: Mapping[str, Any]
    method: str
    details: Mapping[str, Any]


@dataclass(frozen=True)
class Claimed:
    """The epsilon that a passport claims, and its delta."""

    epsilon: float
    delta: float


@dataclass
class Attack:
    """Attacks on one model, which share what they read.

    Attributes:
        model: the model that is attacked.
        context: an `assay.training.context.RunContext`.
        split: rows that the model was not trained on.
        rows: at most so many rows of each side are scored.
        seed: of all chance.
        used: what each stage of each training says it used.
    """

    model: Model
    context: Any
    split: str
    rows: int | None
    seed: int
    used: list[Mapping[str, Any]] = field(default_factory=list)

    def threshold(self) -> Attacked:
        """How well the model fits each unit, as it is (Yeom et al. 2018, arXiv 1709.01604)."""
        data: Dataset = self.context.dataset
        sides = []
        for split in ("train", self.split):
            part = data if self.rows is None else data.sample(split, self.rows, self.seed)
            told = said(self.model, part, split)
            found = scores(told, part.targets(split), spread(data))
            sides.append(by.per_unit(found, part.units(split)))
        return Attacked(
            sides[0],
            sides[1],
            {"attack": "threshold"},
            "loss threshold",
            {"machine": self._machine()},
        )

    def lira(self, count: int, online: bool) -> Attacked:
        """The likelihood ratio under shadow models (Carlini et al. 2022, arXiv 2112.03570)."""
        data: Dataset = self.context.dataset
        shadows = shadow_sets(data, self.split, count, derive_seed(self.seed, "shadows"))
        places = self._scored(shadows.rows, data.size("train"))
        rows = shadows.rows[places]
        pool = data.with_splits({"pool": rows})
        table, labels, units = pool.rows("pool"), pool.targets("pool"), pool.units("pool")
        observed = self._scores(self.model, table, labels)
        before, told = len(self.used), []
        for i, half in enumerate(shadows.sets):
            self.context.progress.update(i, count, "training shadow models")
            model = self._train(half, derive_seed(self.seed, "shadow", i))
            told.append(self._scores(model, table, labels))
        self.context.progress.update(count, count, "training shadow models")
        first = np.unique(units, return_index=True)[1]
        found = by.lira(
            by.per_unit(observed, units),
            by.per_unit(np.stack(told), units),
            shadows.inside[:, places][:, first],
            online=online,
        )
        member = np.isin(rows[first], data.positions("train"))
        way = "online" if online else "offline"
        return Attacked(
            found[member],
            found[~member],
            {"attack": "lira", "shadows": count, "variant": way},
            f"LiRA, {way}, {count} shadow models of random halves",
            {"machine": self._machine(), "random": self._random(before)},
        )

    def canaries(
        self, count: int, delta: float, level: float
    ) -> tuple[bounds.OneRun, dict[str, Any]]:
        """Train once with canaries and guess which were in (Steinke et al. 2023, arXiv 2305.08846).

        A canary's score is how well the new model fits its wrong label, less what can be told of
        that, linearly, from how well the attacked model does, which never saw that label: what is
        hard for both cancels out.

        Returns:
            The bound, and details for `verify`.
        """
        planted = plant(self.context.dataset, count, derive_seed(self.seed, "canaries"))
        self.context.progress.update(0, 1, "training with canaries")
        before = len(self.used)
        model = self._train(planted.dataset, derive_seed(self.seed, "with canaries"))
        self.context.progress.update(1, 1, "training with canaries")
        found = self._canary_scores(planted, model)
        result = bounds.one_run(found, planted.included, delta, level)
        said_of_all = bounds.guess(found, len(found) - len(found) // 2, len(found) // 2)
        right = int((said_of_all == np.where(planted.included, 1, -1)).sum())
        return result, {
            "included": int(planted.included.sum()),
            "right_of_all": right,
            "tried": list(result.tried),
            "machine": self._machine(),
            "random": self._random(before),
            "accounted_epsilon": accounted(self.used[before:], delta),
        }

    def _canary_scores(self, planted: Planted, model: Model) -> Floats:
        data: Dataset = self.context.dataset
        table = data.with_splits({"canaries": planted.rows}).rows("canaries")
        told = np.stack([self._scores(m, table, planted.labels) for m in (model, self.model)])
        new, old = by.per_unit(told, planted.unit)
        return by.residuals(new, old)

    def _train(self, data: Dataset, seed: int) -> Model:
        model: Model = self.context.retrain(data, seed, "pretrained", told=self.used.append)
        return model

    def _scores(self, model: Model, table: Any, labels: Any) -> Floats:
        return scores(model.predict(table), labels, spread(self.context.dataset))

    def _scored(self, rows: Ints, members: int) -> Ints:
        """Places in the pool that are scored: at most `self.rows` of each side."""
        if self.rows is None:
            return np.arange(len(rows))
        random = np.random.default_rng([self.seed, 2])
        sides = np.arange(members), np.arange(members, len(rows))
        return np.concatenate([np.sort(random.permutation(s)[: self.rows]) for s in sides])

    def _machine(self) -> dict[str, str | int]:
        return fingerprint("torch", self.context.threads)

    def _random(self, start: int) -> bool:
        """Whether a training since then drew from the operating system: each ends otherwise."""
        told = (_private(used) for used in self.used[start:])
        return any(facts and not facts.get("insecure") for facts in told)


def _private(used: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a private stage says it used; empty for others."""
    facts = used.get("private")
    return facts if isinstance(facts, Mapping) else {}


def accounted(used: Iterable[Mapping[str, Any]], delta: float) -> float | None:
    """Epsilon at `delta` of all private events that some stages used, by the accountant.

    Returns:
        None where there are no events, or nothing finite can be shown.
    """
    from assay.privacy.accountant import epsilon
    from assay.privacy.events import read_events

    told = [(*_private(one).get("events", ()), *one.get("charged", ())) for one in used]
    events = [event for items in told for event in read_events(items)]
    found = epsilon(events, delta) if events and delta > 0 else math.inf
    return found if math.isfinite(found) else None


def spread(data: Dataset) -> float:
    """Standard deviation of a regression's training targets; 1 for classes."""
    if data.classes is not None:
        return 1.0
    return float(np.std(data.targets("train"))) or 1.0


def thinned(alarms: Floats) -> Ints:
    """Points of a curve that are drawn, on a logarithmic axis: the first and last, at most 200."""
    if len(alarms) <= _POINTS:
        return np.arange(len(alarms))
    low = math.log(max(float(alarms[alarms > 0].min()), 1e-6))
    wanted = np.exp(np.linspace(low, 0.0, _POINTS - 2))
    places = np.searchsorted(alarms, wanted, side="right") - 1
    return np.unique(np.concatenate([[0, int((alarms == 0).sum()) - 1], places, [len(alarms) - 1]]))


def claimed_epsilon(model: Model, context: Any) -> Claimed | None:
    """The epsilon that the passport claims for the training data, of stages before this one.

    Where there are several (for other units of privacy), that for the data's own unit.
    """
    data: Dataset = context.dataset
    unit = data.card.unit or "row"
    found = [
        claim
        for claim, _, carried in model.passport.current()
        if claim.kind == "privacy.epsilon" and carried and claim.dataset in (None, data.card.name)
    ]
    found.sort(key=lambda claim: claim.conditions.get("unit") != unit)
    for claim in found:
        delta = claim.conditions.get("delta")
        if isinstance(claim.value, (int, float)) and isinstance(delta, (int, float)):
            return Claimed(float(claim.value), float(delta))
    return None
