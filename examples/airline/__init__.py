"""An airline's payments, and how they are tested under failover: see test_payments.py."""
