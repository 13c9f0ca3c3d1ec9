"""Synthetic accounts of transactions: one for each anomaly, and what is none."""

from ottla.simulation.transactions import Copy, Stable, Told, check_transactions

IN, OUT = ("orders", 0), ("copies", 1)


def found(told, patience=10.0):
    return [(finding.kind, finding.key) for finding in check_transactions(told, patience=patience)]


def copy(to, of, source=IN):
    return Copy((OUT, to), (source, of))


def test_every_input_once():
    assert found(Told(inputs={(IN, 0), (IN, 2)}, copies=[copy(5, 0), copy(9, 2)])) == []


def test_a_copy_that_was_read_twice_is_one():
    assert found(Told(inputs={(IN, 0)}, copies=[copy(5, 0), copy(5, 0)])) == []


def test_copied_twice():
    told = Told(inputs={(IN, 0)}, copies=[copy(5, 0), copy(6, 0)])
    (finding,) = check_transactions(told, patience=10)
    assert (finding.kind, finding.key) == ("copied-twice", "orders-0")
    assert "offset 0 was copied 2 times: copies-1@5, copies-1@6" in str(finding)


def test_equal_offsets_of_two_partitions_are_two_inputs():
    other = ("orders", 1)
    assert found(Told(inputs={(IN, 0), (other, 0)}, copies=[copy(5, 0), copy(6, 0, other)])) == []


def test_not_copied():
    told = Told(inputs={(IN, 0), (IN, 1), (IN, 2)}, copies=[copy(5, 1)])
    (finding,) = check_transactions(told, patience=10)
    assert (finding.kind, finding.key) == ("not-copied", "orders-0") and "2 inputs: [0, 2]" in str(finding)


def test_copied_from_nothing():
    """An input that was aborted, or taken back."""
    assert found(Told(inputs={(IN, 0)}, copies=[copy(5, 0), copy(6, 1)])) == [("copied-from-nothing", "orders-0")]


def stable(moment, stable, end, at=IN):
    return Stable(moment, at, stable, end)


def test_hanging_transaction():
    rows = [stable(101.0, 3, 9), stable(105.0, 3, 9), stable(111.0, 3, 9)]
    told = Told(stable=rows, healed=100.0)
    (finding,) = check_transactions(told, patience=10)
    assert (finding.kind, finding.key) == ("hanging-transaction", "orders-0")
    assert "stable up to 3 of 9, 11.0 s after" in str(finding)


def test_a_transaction_may_be_open_until_its_timeout():
    assert found(Told(stable=[stable(101.0, 3, 9), stable(109.0, 3, 9)], healed=100.0)) == []


def test_a_partition_that_was_stable_to_its_end_is_well():
    """What is written after that belongs to others."""
    assert found(Told(stable=[stable(104.0, 9, 9), stable(111.0, 9, 12)], healed=100.0)) == []


def test_each_partition_stands_for_itself():
    rows = [stable(111.0, 9, 9), stable(111.0, 3, 9, OUT)]
    assert found(Told(stable=rows, healed=100.0)) == [("hanging-transaction", "copies-1")]
