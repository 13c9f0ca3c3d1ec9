"""Synthetic histories of groups: one for each anomaly, and what is none."""

from ottla.simulation.groups import Assigned, Commit, Fetched, Held, Told, check_groups

P, Q = ("orders", 0), ("orders", 1)


def kinds(told, ends=None):
    return [finding.kind for finding in check_groups(told, ends or {})]


def assigned(member, generation, *partitions, group="g", at=0.0):
    return Assigned(at - 0.1, at, group, member, generation, frozenset(partitions))


def commit(began, ended, offset, outcome="ok", *, group="g", generation=1, at=P):
    return Commit(began, ended, group, "a", generation, {at: offset}, outcome)


def fetched(began, ended, offset, *, group="g", at=P):
    return Fetched(began, ended, group, {at: offset})


def test_two_owners():
    rows = [assigned("a", 1, P), assigned("b", 1, Q), assigned("b", 2, P), assigned("b", 2, P)]
    assert kinds(Told(frozenset({"g"}), assigned=rows)) == []
    rows.append(assigned("a", 2, P, Q, at=9.0))
    (finding,) = check_groups(Told(frozenset({"g"}), assigned=rows), {})
    assert (finding.kind, finding.key) == ("two-owners", "orders-0")
    assert "b and a in generation 2" in str(finding)
    assert kinds(Told(frozenset(), assigned=rows)) == [], "its generations may be counted anew"
    other = [assigned("a", 1, P), assigned("b", 1, P, group="h")]
    assert kinds(Told(frozenset({"g", "h"}), assigned=other)) == []


def test_two_owners_at_a_moment():
    rows = [assigned("a", 1, P, Q, at=1.0), assigned("b", 2, P, at=5.0)]
    still = Held(6.0, "g", "a", {P: 1.0, Q: 1.0})
    (finding,) = check_groups(Told(assigned=rows, held=[still]), {})
    assert (finding.kind, finding.key) == ("two-owners", "orders-0") and "a and b of g at 6.000" in str(finding)
    assert kinds(Told(assigned=rows, held=[still._replace(began=4.95)])) == [], "it may have been asked before"
    assert kinds(Told(assigned=rows, held=[still._replace(since={Q: 1.0})])) == [], "it has given it up"
    assert kinds(Told(assigned=rows, held=[still._replace(since={P: 5.5})])) == [], "it has it again"
    assert kinds(Told(assigned=rows, held=[still._replace(group="h")])) == []
    assert kinds(Told(assigned=rows, held=[still._replace(member="b")])) == []
    assert kinds(Told(assigned=rows, held=[still._replace(replaced=True)])) == [], "nobody told the one who said so"


def test_lost_commit():
    commits = [commit(0, 1, 5), commit(2, 3, 7, "info"), commit(4, 5, 9, "fail")]
    assert kinds(Told(commits=commits, fetched=[fetched(6, 7, 5)])) == []
    assert kinds(Told(commits=commits, fetched=[fetched(6, 7, 4)])) == ["lost-commit"]
    assert kinds(Told(commits=commits, fetched=[fetched(6, 7, -1)])) == ["lost-commit"]
    assert kinds(Told(commits=commits, fetched=[fetched(0.5, 7, -1)])) == [], "it was asked before that was answered"
    assert kinds(Told(commits=commits, fetched=[fetched(6, 7, -1, at=Q)])) == []
    assert kinds(Told(commits=commits, fetched=[fetched(6, 7, -1, group="h")])) == []


def test_commits_that_overtake_each_other_need_not_grow():
    """The answer that came last is not the greatest offset; the greatest one counts."""
    commits = [commit(0, 1, 9), commit(0, 2, 5)]
    assert kinds(Told(commits=commits, fetched=[fetched(3, 4, 9)])) == []
    assert kinds(Told(commits=commits, fetched=[fetched(3, 4, 5)])) == ["lost-commit"]


def test_regressed_commit():
    assert kinds(Told(fetched=[fetched(0, 1, 5), fetched(2, 3, 5), fetched(4, 5, 8)])) == []
    assert kinds(Told(fetched=[fetched(0, 3, 5), fetched(1, 2, 4)])) == [], "at the same time"
    assert kinds(Told(fetched=[fetched(2, 3, 4), fetched(0, 1, 5)])) == ["regressed-commit"]
    assert kinds(Told(fetched=[fetched(0, 1, 5), fetched(1, 2, -1)])) == [], "in one moment, either may be first"


def test_unprocessed():
    told = Told()
    told.processed["g", P].update({0, 1, 3})
    assert kinds(told, {"g": {P: 2}}) == []
    (finding,) = check_groups(told, {"g": {P: 5}})
    assert finding.kind == "unprocessed" and "2 records of 5 by g: [2, 4]" in str(finding)
    assert kinds(told, {"h": {P: 1}}) == ["unprocessed"]
    assert kinds(told) == [], "it did not have the time"


def test_what_a_member_sent_and_never_heard_of_may_come_late():
    commits = [commit(0, 1, 5, "info"), commit(2, 3, 9)]
    assert kinds(Told(commits=commits, fetched=[fetched(4, 5, 9), fetched(6, 7, 5)])) == []
    assert kinds(Told(commits=commits, fetched=[fetched(6, 7, 4)])) == ["lost-commit"]
    failed = [commit(0, 1, 5, "fail"), commit(2, 3, 9)]
    assert kinds(Told(commits=failed, fetched=[fetched(6, 7, 5)])) == ["lost-commit"]
    later = [commit(2, 3, 9), commit(8, 9, 5, "info")]
    assert kinds(Told(commits=later, fetched=[fetched(6, 7, 5)])) == ["lost-commit"], "nobody had sent it"
