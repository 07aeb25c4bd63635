"""Check a finished artefact: read its passport, replay it, and measure every claim again."""

from assay.verify.check import verify
from assay.verify.findings import Finding, Verification, recorded
from assay.verify.required import Required, judge

__all__ = ["Finding", "Required", "Verification", "judge", "recorded", "verify"]
