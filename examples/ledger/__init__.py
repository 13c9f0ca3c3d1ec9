"""A ledger that books every transfer exactly once, and how it is tested under failover: see test_ledger.py."""
