"""Accounting, randomness, the ledger, and attacks that check them."""
