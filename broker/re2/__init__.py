"""Regular expressions of clients in the syntax of RE2, as Kafka takes them, matched in linear time.

Python's own engine backtracks, so that a client could stop the broker with one; and its syntax is another one.
Differences from RE2: scripts (`\\p{Greek}`) are not known, and a program may have 2,000 steps at most.
"""

from ottla.broker.re2.pattern import Pattern, compiled
from ottla.broker.re2.syntax import BadPattern

__all__ = ["BadPattern", "Pattern", "compiled"]
