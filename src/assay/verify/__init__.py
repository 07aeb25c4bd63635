"""Check a finished artefact: read its passport, replay it, and measure every claim again."""

from __future__ import annotations

from assay.verify.check import verify
from assay.verify.findings import Finding, Verification
from assay.verify.required import Required, judge

__all__ = ["Finding", "Required", "Verification", "judge", "verify"]
