"""The audit `privacy`: what attacks find out about who was in the training data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, field_validator

from assay.audit.base import Audit, keep
from assay.claims import Capabilities, Claim, PlanContext, Read
from assay.claims.claim import Status
from assay.errors import UsageError
from assay.registry import register

if TYPE_CHECKING:
    from assay.audit.measures.privacy import Attacked, Claimed
    from assay.models.model import Model
    from assay.privacy.attacks.canaries import OneRun

_KINDS = ("privacy.membership_", "privacy.tpr_at_low_fpr", "privacy.epsilon_lower_bound")
#: fewer canaries than this show little; the claim says so
_ENOUGH = 1000
#: an epsilon is bounded at this delta where no claim names one
_DELTA = 1e-5


@register("audit", "privacy")
class PrivacyAudit(Audit):
    """Attacks on the model: whether it tells who was in its training data.

    `threshold` calls members what the model fits best (Yeom et al. 2018, arXiv 1709.01604). `lira`
    compares each unit's fit with that under shadow models, which the stages before this one make of
    random halves of the training rows and the attacked split (Carlini et al. 2022, arXiv
    2112.03570). Both claim `privacy.membership_auc`, `privacy.membership_advantage` (the greatest
    true-positive rate less the false-positive rate) and `privacy.tpr_at_low_fpr`, of privacy units.
    `canaries` trains once on data in which some training units have wrong labels, each of them left
    out by a fair coin, and guesses the coins (Steinke et al. 2023, arXiv 2305.08846). It claims
    `privacy.epsilon_lower_bound`: what epsilon at `delta` is at least, whatever was accounted.
    Where the passport claims a `privacy.epsilon`, that number is in the details, too, beside
    what the accountant says of the training with canaries.

    Attributes:
        attacks: which.
        split: rows that the model was not trained on; as many of them as there are training rows.
        shadows: shadow models, an even number; with fewer than 64 one variance serves all units.
        online: whether `lira` uses shadow models that had the unit, too.
        canaries: units with wrong labels; at most half of the training units.
        fpr: false-positive rates at which the true-positive rate is claimed.
        delta: at which epsilon is bounded; by default that of the claimed epsilon, else 1e-5.
        rows: at most so many members and so many others are attacked; None for all.
        level: confidence level.
    """

    attacks: tuple[Literal["threshold", "lira", "canaries"], ...] = Field(
        default=("threshold", "lira", "canaries"), min_length=1
    )
    split: str = "test"
    shadows: int = Field(default=8, ge=2, le=1024, multiple_of=2)
    online: bool = True
    canaries: int = Field(default=1000, ge=2, le=1_000_000)
    fpr: tuple[float, ...] = Field(default=(0.01, 0.001), min_length=1)
    delta: float | None = Field(default=None, ge=0, lt=1)
    rows: int | None = Field(default=10_000, ge=2)
    level: float = Field(default=0.95, gt=0.5, lt=1)

    @classmethod
    def examples(cls) -> list[Self]:
        """See `Audit.examples`."""
        return [cls(attacks=("threshold",)), cls(shadows=2, canaries=8, rows=40)]

    @field_validator("attacks", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("fpr")
    @classmethod
    def _rates(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < rate < 1 for rate in value):
            raise ValueError("false-positive rates are between 0 and 1, such as 0.01")
        return value

    def adds(self, context: PlanContext) -> tuple[str, ...]:
        """What the attacks claim."""
        adds: tuple[str, ...] = ()
        if {"threshold", "lira"} & set(self.attacks):
            names = ("membership_auc", "membership_advantage", "tpr_at_low_fpr")
            adds += tuple(f"privacy.{name}" for name in names)
        if "canaries" in self.attacks:
            adds += ("privacy.epsilon_lower_bound",)
        return adds

    def reads(self, context: PlanContext) -> tuple[Read, ...]:
        """Training rows, the attacked split, and validation rows where they steer a training."""
        influences: Any = ("claims", "report")
        reads = [Read(split="train", influences=influences, why="attacked as members")]
        steered = [
            read
            for stage in _trainings(context)
            for read in stage.effects(context).reads
            if read.split == "valid" and not read.disclosure
        ]
        if self.retrains() and steered:
            why = "they steer models trained anew"
            reads.append(Read(split="valid", influences=influences, why=why))
        if {"threshold", "lira"} & set(self.attacks):
            why = "attacked as non-members"
            reads.append(Read(split=self.split, influences=influences, why=why))
        return tuple(reads)

    def capabilities(self, context: PlanContext) -> Capabilities:
        """Labels, and for shadow models and canaries a stage that can be run anew."""
        needs = {"labels"}
        if self.retrains() and context.stages and not _trainings(context):
            needs.add("trained_before")
        return Capabilities(
            needs=frozenset(needs),
            why={"trained_before": "a stage before it trains the model"},
            mend={"trained_before": "put the audit after a training stage, or only the threshold"},
        )

    def estimate_seconds(self, context: PlanContext) -> float:
        """Of what the stages before estimate, for half of the rows and for all of them."""
        total = 0.0
        rows = context.data.rows or 1000
        sizes = [rows] * ("canaries" in self.attacks)
        sizes += [-(-rows // 2)] * (self.shadows if "lira" in self.attacks else 0)
        for size in sizes:
            data = context.data.model_copy(update={"rows": size})
            here = context.model_copy(update={"data": data})
            total += sum(s.estimate(here).seconds for s in _trainings(context))
        each = {"text": 0.02, "image": 4e-3}.get(context.model.modality, 1e-4)
        return total + each * (len(sizes) + 1) * min(rows, 2 * (self.rows or rows))

    def retrains(self) -> bool:
        """With shadow models or canaries."""
        return bool({"lira", "canaries"} & set(self.attacks))

    def measure(self, model: Model, context: Any) -> None:
        """See the class.

        Raises:
            UsageError: nothing can be trained anew here.
            LoadError: there are too few rows or units.
        """
        from assay.audit.measures import privacy

        if self.retrains() and context.retrain is None:
            raise UsageError(
                "shadow models and canaries need stages before this one that can be run anew",
                where="audit.privacy.attacks",
                mend="run the audit in a recipe, or only the threshold attack",
            )
        attack = privacy.Attack(model, context, self.split, self.rows, context.derive("privacy"))
        found = []
        if "threshold" in self.attacks:
            found.append(attack.threshold())
        if "lira" in self.attacks:
            found.append(attack.lira(self.shadows, self.online))
        for attacked in found:
            self._claim_membership(attacked, context)
        kept: dict[str, Any] = {
            "split": self.split,
            "curves": [self._curve(attacked) for attacked in found],
            "canaries": None,
        }
        if "canaries" in self.attacks:
            kept["canaries"] = self._bound(attack, model, context)
        keep(context, self.part_name, kept)

    def _claim_membership(self, attacked: Attacked, context: Any) -> None:
        """Area, advantage and rates of one attack."""
        from assay.privacy.attacks import membership as by

        members, others = attacked.members, attacked.others
        found: list[tuple[str, by.Rate, dict[str, float], str]] = [
            ("membership_auc", by.auc(members, others, self.level), {}, "DeLong"),
            (
                "membership_advantage",
                by.advantage(members, others, self.level),
                {},
                "Dvoretzky-Kiefer-Wolfowitz bands; chance alone makes it positive",
            ),
        ]
        found += [
            (
                "tpr_at_low_fpr",
                by.tpr_at(members, others, rate, self.level),
                {"fpr": rate},
                "Clopper-Pearson at the threshold that the non-members set",
            )
            for rate in self.fpr
        ]
        for name, rate, conditions, how in found:
            context.claim(
                Claim(
                    kind=f"privacy.{name}",
                    value=rate.value,
                    unit="fraction",
                    dataset=context.dataset.card.name,
                    split=self.split,
                    conditions={**attacked.conditions, **conditions},
                    method=f"{attacked.method}; {how}",
                    interval=rate.interval,
                    level=self.level,
                    n=len(members) + len(others),
                    details={
                        "members": len(members),
                        "others": len(others),
                        **attacked.details,
                    },
                )
            )

    def _curve(self, attacked: Attacked) -> dict[str, Any]:
        """What the report draws: the ROC curve, thinned."""
        from assay.audit.measures.privacy import thinned
        from assay.privacy.attacks import membership as by

        alarms, hits = by.roc(attacked.members, attacked.others)
        chosen = thinned(alarms)
        area = by.auc(attacked.members, attacked.others, self.level)
        return {
            "attack": attacked.conditions["attack"],
            "fpr": alarms[chosen].tolist(),
            "tpr": hits[chosen].tolist(),
            "auc": area.value,
            "low": area.interval[0],
            "high": area.interval[1],
            "members": len(attacked.members),
            "others": len(attacked.others),
        }

    def _bound(self, attack: Any, model: Model, context: Any) -> dict[str, Any]:
        """Claim the lower bound on epsilon, beside the epsilon that the passport claims."""
        from assay.audit.measures.privacy import claimed_epsilon

        claimed = claimed_epsilon(model, context)
        delta = self.delta
        if delta is None:
            delta = claimed.delta if claimed is not None else _DELTA
        found, details = attack.canaries(self.canaries, delta, self.level)
        if found.canaries < _ENOUGH:
            context.progress.say(
                f"  {found.canaries:,} canaries, as many as the data allow here: fewer than "
                f"{_ENOUGH:,} show only a great epsilon"
                if found.canaries < self.canaries
                else f"  {found.canaries:,} canaries are few: they show only a great epsilon"
            )
        details |= {"guesses": found.guesses, "right": found.right, "few": found.canaries < _ENOUGH}
        details |= _contradiction(found.epsilon, delta, claimed, details["accounted_epsilon"])
        if details["contradicts"]:
            who, much = ("passport claims", claimed.epsilon) if claimed else ("accountant says", 0)
            context.progress.say(
                f"  the attack shows epsilon of at least {found.epsilon:.2f}, and the {who} "
                f"{much or details['accounted_epsilon']:.2f}: that is not true"
            )
        context.claim(self._bound_claim(found, delta, details, context))
        return {
            "epsilon": found.epsilon,
            "delta": delta,
            "level": self.level,
            "canaries": found.canaries,
            "guesses": found.guesses,
            "right": found.right,
            "claimed": None if claimed is None else claimed.epsilon,
            "accounted": details["accounted_epsilon"],
            "contradicts": details["contradicts"],
        }

    def _bound_claim(
        self, found: OneRun, delta: float, details: dict[str, Any], context: Any
    ) -> Claim:
        tried = ", ".join(f"{count:,}" for count in found.tried)
        return Claim(
            kind="privacy.epsilon_lower_bound",
            value=found.epsilon,
            unit="epsilon",
            dataset=context.dataset.card.name,
            split="train",
            conditions={
                "attack": "canaries",
                "method": "one run",
                "canaries": found.canaries,
                "delta": delta,
            },
            method=(
                "trained anew with mislabelled canaries, each in by a fair coin; best of "
                f"{tried} guesses, Bonferroni; a lower bound, so without an interval"
            ),
            level=self.level,
            n=found.canaries,
            details=details,
        )

    def agrees(self, claim: Claim, again: Claim) -> Status | None:
        """To 1e-4 where training is repeatable; else what chance allows.

        On another machine training ends elsewhere, and private training draws its noise anew: then
        the claim must lie within the new measurement's interval, and a lower bound's right guesses
        must be as many as those of the new canaries, up to chance (Fisher's test at 1e-4).
        """
        if not claim.kind.startswith(_KINDS):
            return None
        if not isinstance(claim.value, (int, float)) or not isinstance(again.value, (int, float)):
            return "fails"
        if abs(claim.value - again.value) <= 1e-4:
            return "holds"
        elsewhere = claim.details.get("machine") != again.details.get("machine")
        if not elsewhere and not again.details.get("random"):
            return "fails"
        if again.interval is not None:
            low, high = again.interval
            return "holds" if low <= claim.value <= high else "fails"
        return "holds" if _alike(claim, again) else "fails"


def _contradiction(
    shown: float, delta: float, claimed: Claimed | None, accounted: float | None
) -> dict[str, Any]:
    """The epsilon that is claimed, and whether a lower bound on it at `delta` is above it.

    Units that were left out make the others likelier to be taken: the training with canaries may
    cost more than the claimed one. What the accountant says of it is no contradiction.
    """
    known = [] if accounted is None else [accounted]
    if claimed is None:
        return {"contradicts": bool(known) and shown > max(known)}
    known += [claimed.epsilon] if delta >= claimed.delta else []
    return {
        "claimed_epsilon": claimed.epsilon,
        "claimed_delta": claimed.delta,
        "contradicts": bool(known) and shown > max(known),
    }


def _alike(claim: Claim, again: Claim) -> bool:
    """Whether the claim is the bound that its guesses show, and two audits guess as well, up to
    chance.
    """
    from scipy.stats import fisher_exact

    from assay.privacy.attacks.canaries import lower_bound

    said, now = claim.details, again.details
    right, of = (
        [int(details["right_of_all"]) for details in (said, now)],
        [int(one.conditions["canaries"] or 0) for one in (claim, again)],
    )
    counts = int(said["guesses"]), int(said["right"])
    if not (0 <= right[0] <= of[0] and 0 <= counts[1] <= counts[0] <= of[0]):
        return False
    level = 1 - (1 - claim.level) / len(now["tried"])
    shown = lower_bound(of[0], *counts, float(again.conditions["delta"] or 0), level)
    if abs(shown - float(claim.value or 0)) > 1e-4:
        return False
    missed = [total - hits for total, hits in zip(of, right, strict=True)]
    return float(fisher_exact([right, missed]).pvalue) > 1e-4


def _trainings(context: PlanContext) -> list[Any]:
    """The stages before this one that change the network: they are what is run anew."""
    before = [s for s in context.stages[: context.stage] if hasattr(s, "effects")]
    return [s for s in before if s.effects(context).changes_network]
