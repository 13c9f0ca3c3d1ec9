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
    assert kinds(Told(assigned=rows, held=[still._replace(uninformed=True)])) == [], "nobody told the one who said so"


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


def test_it_undoes_only_what_the_same_member_has_committed_in_the_same_generation():
    sent, asked = commit(0, 1, 5, "info"), [fetched(6, 7, 5)]
    for committed, why in (
        (commit(2, 3, 9)._replace(member="b"), "of another member"),
        (commit(2, 3, 9, generation=2), "of a later generation, of which the coordinator knew"),
        (commit(2, 3, 9)._replace(member_id="a-2"), "of the same static member, which came back with another id"),
        (commit(2, 3, 9, generation=3)._replace(last=4), "sent in later generations only"),
    ):
        assert kinds(Told(commits=[sent, committed], fetched=asked)) == ["lost-commit"], why
    again = [sent._replace(last=3), commit(2, 3, 9, generation=3)]
    assert kinds(Told(commits=again, fetched=asked)) == [], "it was sent once more, in the generation of the other"
    both = [sent, commit(2, 3, 9), commit(4, 5, 7)._replace(member="b")]
    assert kinds(Told(commits=both, fetched=asked)) == ["lost-commit"], "it cannot have come after what b committed"


def test_it_undoes_no_answer_that_was_asked_for_after_its_generation():
    sent = [commit(0, 1, 5, "info"), commit(2, 3, 9)]
    asked = [fetched(5, 6, 9), fetched(8, 9, 5)]

    def findings(*rows, alike=frozenset({"g"}), fetched=asked):
        return kinds(Told(alike, assigned=[assigned("a", 1, P, at=-1.0), *rows], commits=sent, fetched=fetched))

    assert findings() == []
    for row, why in (
        (assigned("a", 2, P, at=4.5), "it knew of its own next generation"),
        (assigned("b", 2, P, at=4.5), "the partition was given to another"),
        (assigned("b", 1, P, Q, at=4.5), "who asked for it after the commit was sent, whatever generations count"),
    ):
        assert findings(row, alike=frozenset()) == ["lost-commit", "regressed-commit"], why
    for row, why in (
        (assigned("b", 2, P, at=7.5), "it may have come before that"),
        (assigned("b", 2, Q, at=4.5), "the other has another partition"),
        (assigned("b", 2, P, at=4.5, group="h"), "another group"),
        (assigned("b", 0, P, at=4.5)._replace(began=-5.0), "told late of an earlier generation"),
        (assigned("a", 1, P, Q, at=4.5), "it has more in the same generation"),
    ):
        assert findings(row) == [], why
    unasked = assigned("b", 2, P, at=4.5)._replace(began=-5.0)
    assert findings(unasked) == ["lost-commit", "regressed-commit"], "a later generation, by one count"
    assert findings(unasked, alike=frozenset()) == [], "its generations may be counted anew"
    assert findings(assigned("b", 2, P, at=4.5), fetched=asked[1:]) == [], "it may have come before b was told"


def test_after_what_came_late_the_group_goes_on_from_there():
    commits = [commit(0, 1, 5, "info"), commit(2, 3, 9), commit(8, 9, 6, generation=2)._replace(member="b")]
    begins = fetched(6, 7, 5)
    assert kinds(Told(commits=commits, fetched=[begins, fetched(10, 11, 6)])) == []
    assert kinds(Told(commits=commits, fetched=[begins, fetched(10, 11, 5)])) == ["lost-commit"]
    assert kinds(Told(commits=commits, fetched=[begins, fetched(6.5, 11, 6)])) == ["lost-commit"], "asked before that"
    assert kinds(Told(commits=commits, fetched=[fetched(10, 11, 6)])) == ["lost-commit"], "nobody saw it"
