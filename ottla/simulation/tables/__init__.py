"""Compacted topics under faults: clients of one, and what all of them are to have in common at the end."""

from ottla.simulation.tables.check import table, tables_are_equal, tables_settled
from ottla.simulation.tables.workload import PARTITIONS, TableWorkload

__all__ = ["PARTITIONS", "TableWorkload", "table", "tables_are_equal", "tables_settled"]
