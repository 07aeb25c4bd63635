"""Claims about a model: what is claimed, what stages do to claims, the passport of both."""

from __future__ import annotations

from assay.claims.capabilities import Capabilities, Refusal, conflicts
from assay.claims.claim import Bound, Claim, Requirement
from assay.claims.context import DataCard, ModelCard, PlanContext
from assay.claims.effects import Effects, Estimate, Read

__all__ = [
    "Bound",
    "Capabilities",
    "Claim",
    "DataCard",
    "Effects",
    "Estimate",
    "ModelCard",
    "PlanContext",
    "Read",
    "Refusal",
    "Requirement",
    "conflicts",
]
