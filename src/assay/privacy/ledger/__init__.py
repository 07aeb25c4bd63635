"""The ledger of a data owner: what was spent of its people's privacy, and what may still be."""

from __future__ import annotations

from assay.privacy.ledger.grants import Grant
from assay.privacy.ledger.ledger import Balance, Charge, Ledger, Receipt
from assay.privacy.ledger.policy import Budget, Policy, Request

__all__ = ["Balance", "Budget", "Charge", "Grant", "Ledger", "Policy", "Receipt", "Request"]
