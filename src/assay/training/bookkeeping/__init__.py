"""Clipped gradients of privacy units in one backward pass (Bu et al. 2023, arXiv 2210.00038)."""
