"""Attacks: what an adversary finds out of models and batches, as numbers with intervals."""
