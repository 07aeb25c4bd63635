"""One epsilon over everything a model has read: its own stages, those of the models it descends
from, and those of the models it learnt from.

Everything is taken from what passports recorded as used; nothing from what was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from assay.claims.claim import Claim
from assay.claims.effects import DISCLOSURES
from assay.claims.passport import Passport
from assay.privacy import accountant
from assay.privacy.events import Event, read_events

#: the kind of claim
EPSILON = "privacy.epsilon"
#: what no epsilon of ours speaks of
NOT_COVERED = (
    "what the base model was pretrained on",
    "rows held out for validation and test, whose use is listed as disclosures",
    "the number of privacy units, which counts as public",
)


@dataclass
class Account:
    """What one data set has been charged with.

    Attributes:
        data: its name in claims.
        parts: (who, event) in order.
        deltas: delta of each private stage.
        leaks: uncharged readings that reached the model or a choice, in words.
        insecure: some randomness can be guessed.
        units: number of privacy units, where it is known.
        private: some run declared the data private.
    """

    data: str
    parts: list[tuple[str, Event]] = field(default_factory=list)
    deltas: list[float] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    insecure: bool = False
    units: int | None = None
    private: bool = False

    @property
    def events(self) -> list[Event]:
        """All events."""
        return [event for _, event in self.parts]

    @property
    def units_named(self) -> tuple[str, ...]:
        """The privacy units that events speak of."""
        return tuple(sorted({event.unit for event in self.events}))

    @property
    def unclaimed(self) -> str:
        """Why no epsilon can be claimed, in words; empty where one can."""
        if self.leaks:
            return f"{self.leaks[0]} was not charged"
        if not self.events:
            return "nothing private was read"
        if len(self.units_named) > 1:
            # what hides a row hides no patient, and the other way round one row is not one patient
            return f"what was charged by {' and by '.join(self.units_named)} does not add up"
        return ""

    @property
    def delta(self) -> float:
        """The delta that is claimed: the least that a stage was given."""
        return min(self.deltas, default=1e-5)

    def epsilon(self) -> float:
        """Of all events together at `delta`."""
        return accountant.epsilon(self.events, self.delta)

    def by_part(self) -> list[dict[str, Any]]:
        """Each event with what it costs alone."""
        return [
            {"by": who, "epsilon": finite(accountant.epsilon([e], self.delta)), **_told(e)}
            for who, e in self.parts
        ]


def finite(value: float) -> float | None:
    """None for infinity, which JSON cannot say."""
    return value if math.isfinite(value) else None


def _told(event: Event) -> dict[str, Any]:
    return event.model_dump(exclude_none=True)


def accounts(
    passport: Passport,
    *,
    stage: str = "",
    used: Mapping[str, Any] | None = None,
    reads: Iterable[Any] = (),
) -> dict[str, Account]:
    """Data set -> its account.

    Args:
        passport: of the model.
        stage: name of a stage under way, whose record is not there yet.
        used: what it used.
        reads: its readings.
    """
    found: dict[str, Account] = {}
    name = ""
    for record in passport.records:
        if record.origin is not None:
            origin = record.origin
            name = origin.data.name
            account = found.setdefault(name, Account(name))
            account.private |= origin.data.private
            _read(account, origin.reads, "preprocessing")
            _charge(account, f"{origin.recipe}: preprocessing", origin.charged)
        elif record.stage is not None:
            said = record.stage
            _stage(found, name, said.name, said.used, said.effects.reads)
    if used is not None:
        _stage(found, name, stage, used, reads)
    return _together(found)


def _together(found: dict[str, Account]) -> dict[str, Account]:
    """What was read of the same data under several names counts under each of them."""
    told = {name: {e.data for e in account.events} - {""} for name, account in found.items()}
    whole = {}
    for name, account in found.items():
        others = [found[n] for n in found if n != name and told[n] & told[name]]
        whole[name] = replace(
            account,
            parts=account.parts + [part for other in others for part in other.parts],
            deltas=account.deltas + [delta for other in others for delta in other.deltas],
            leaks=account.leaks + [leak for other in others for leak in other.leaks],
            insecure=account.insecure or any(other.insecure for other in others),
        )
    return whole


def _stage(
    found: dict[str, Account],
    name: str,
    stage: str,
    used: Mapping[str, Any],
    reads: Iterable[Any],
) -> None:
    account = found.setdefault(name, Account(name))
    _read(account, reads, stage)
    private = used.get("private")
    if isinstance(private, Mapping):
        _charge(account, stage, private.get("events", ()))
        account.deltas.append(float(private.get("delta", 1e-5)))
        account.insecure |= bool(private.get("insecure"))
        account.units = int(private["units"]) if "units" in private else account.units
    _charge(account, stage, used.get("charged", ()))
    for teacher, lineage in dict(used.get("inherits", {})).items():
        _inherit(found, f"{stage} from {teacher}", lineage)


def _inherit(found: dict[str, Account], who: str, lineage: Mapping[str, Any]) -> None:
    """What a teacher had read counts for its pupil."""
    for item in lineage.get("reads", ()):
        account = found.setdefault(item["data"], Account(item["data"]))
        account.private |= bool(item.get("data_private"))
        if not item.get("private") and not set(item["influences"]) <= DISCLOSURES:
            account.leaks.append(f"{who}: {item.get('why') or item['split']}")
    for charge in lineage.get("charges", ()):
        account = found.setdefault(charge["data"], Account(charge["data"]))
        _charge(account, who, charge["events"])
        account.deltas += [float(charge["delta"])] if "delta" in charge else []
        account.insecure |= bool(charge.get("insecure"))
    for name, deeper in dict(lineage.get("teachers", {})).items():
        _inherit(found, f"{who}, from {name}", deeper)


def _read(account: Account, reads: Iterable[Any], who: str) -> None:
    for read in reads:
        if not read.private and not read.disclosure:
            account.leaks.append(f"{who}: {read.why or read.split}")


def _charge(account: Account, who: str, events: Iterable[Mapping[str, Any]]) -> None:
    account.parts += [(who, event) for event in read_events(events, f"events of {who}")]


def claim_of(account: Account) -> Claim | None:
    """The claim that an account supports; None where there is none (`Account.unclaimed`).

    Its value is None where there is no finite epsilon: a mechanism without noise, or randomness
    that can be guessed.
    """
    if account.unclaimed:
        return None
    epsilon = account.epsilon()
    (unit,) = account.units_named
    method = "privacy loss distributions; Gaussian noise, Poisson sampling; add or remove a unit"
    if account.insecure:
        method = "no privacy: sampling and noise came from a seed that can be guessed"
    elif not math.isfinite(epsilon):
        method = "no privacy: there was no noise"
    return Claim(
        kind=EPSILON,
        value=None if account.insecure else finite(epsilon),
        unit="epsilon",
        nature="historical",
        dataset=account.data,
        split="train",
        conditions={"delta": account.delta, "unit": unit},
        method=method,
        n=account.units,
        details={"parts": account.by_part(), "not_covered": list(NOT_COVERED)},
    )
