"""The syntax and the matching of RE2, against Python's engine where both know the same language."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.broker.re2 import BadPattern, Pattern, compiled


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("", [""], ["a"]),
        ("orders", ["orders"], ["order", "orders2", "xorders"]),
        ("orders.*", ["orders", "orders-eu"], ["order", "my-orders"]),
        (r"a\.b", ["a.b"], ["axb"]),
        ("a|b|", ["a", "b", ""], ["ab"]),
        ("(?:a|bc)+d", ["ad", "bcad"], ["d", "bd"]),
        ("a{2,3}", ["aa", "aaa"], ["a", "aaaa"]),
        ("a{2}", ["aa"], ["aaa"]),
        ("a{2,}", ["aa", "aaaaaa"], ["a"]),
        ("a{,2}", ["a{,2}"], ["", "aa"]),
        ("a{x", ["a{x"], ["a"]),
        ("a{0}b", ["b"], ["ab"]),
        ("a*?b+?c??", ["b", "aabbc"], ["c"]),
        ("[a-c_-]x", ["bx", "_x", "-x"], ["dx"]),
        ("[]a]", ["]", "a"], ["b"]),
        ("[^]a]", ["b", "\n"], ["]", "a"]),
        (r"[\d\-x]+", ["1-x"], ["a"]),
        (r"[[:alpha:][:^ascii:]]", ["a", "é"], ["1"]),
        ("[[:x]", ["[", ":", "x"], ["y"]),
        (r"\d\D\w\W\s\S", ["1a_ \tx"], ["aa__\t\t"]),
        (r"\x41\x{42}\103\07", ["ABC\x07"], ["abc"]),
        (r"\a\f\t\n\r\v", ["\a\f\t\n\r\v"], [""]),
        (r"\Qa.*\E+", ["a.*", "a.***"], ["aaa"]),
        (r"\Q[(", ["[("], [""]),
        (r"\pL\PL\p{Lu}\p{^Lu}\P{^Nd}", ["é1ÉÉ".replace("ÉÉ", "Éé") + "7"], ["111"]),
        ("(?i)straße|k", ["STRAßE", "K"], ["strase"]),
        ("(?i:a)b", ["Ab", "ab"], ["aB"]),
        ("a(?i)b|c", ["aB", "C"], ["Ab"]),
        ("(?i)[a-f]+[^x]", ["AbCy"], ["abX"]),
        ("(?i-i)a", ["a"], ["A"]),
        (".", ["a"], ["\n"]),
        ("(?s).", ["\n"], [""]),
        ("(?U)a+", ["aa"], [""]),
        ("^a$", ["a"], ["a\n"]),
        ("(?m)^a$\n^b", ["a\nb"], ["ab"]),
        (r"\Aa\z", ["a"], ["aa"]),
        (r"a\b-\Bb?", ["a-"], ["a-b"]),
        (r".*\bx\b.*", ["a-x-b", "x"], ["axb", "_x"]),
        ("(?P<one>a)(?<two>b)", ["ab"], ["a"]),
        ("(a*)*", ["", "aaa"], ["b"]),
        ("(a|b)*abb", ["abb", "babaabb"], ["ab"]),
        (".{3}🙂", ["äöü🙂"], ["äö🙂"]),
    ],
)
def test_what_matches(pattern: str, yes: list[str], no: list[str]) -> None:
    made = Pattern(pattern)
    assert [text for text in yes if not made.fullmatch(text)] == []
    assert [text for text in no if made.fullmatch(text)] == []


@pytest.mark.parametrize(
    "pattern",
    [
        *[
            "(",
            ")",
            "a)",
            "(a",
            "[a",
            "[",
            "[]",
            "[a-",
            "[z-a]",
            r"[a-\d]",
            "[[:nothing:]]",
            "*a",
            "+",
            "?",
            "a|*",
            "(*a)",
        ],
        *["a**", "a+*", "a??+", "a{2}{3}", "{2}", "a{1001}", "a{2,1}", "a{99999999999}", "(?i)*"],
        *[r"\1", r"(a)\1", r"\8", r"\y", r"\C", r"\Z", r"\G", "\\", r"\x", r"\x{110000}", r"\xg1", r"[\b]"],
        *["(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "(?>a)", "(?P=a)", "(?P<a>b)(?P<a>c)", "(?#c)", "(?)", "(?", "(?x)a"],
        *[r"\p{Greek}", r"\p{Xx}", r"\p", "(?<a-b>c)"],
        *["(" * 101 + ")" * 101, "a" * 513, "(a{1000}){1000}"],
    ],
)
def test_what_is_no_expression(pattern: str) -> None:
    with pytest.raises(BadPattern):
        Pattern(pattern)
    assert compiled(pattern) is None


LETTERS = st.sampled_from("abc1_-\n")


def repeated(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    signs = st.sampled_from(["*", "+", "?", "*?", "{2}", "{1,3}", "{2,}"])
    return st.one_of(
        st.builds("(?:{}){}".format, parts, signs),
        st.builds("(?:{}|{})".format, parts, parts),
        st.builds("({}{})".format, parts, parts),
    )


ATOMS = st.sampled_from(
    ["a", "b", "-", ".", r"\d", r"\W", r"\s", "[ab]", "[^a1]", "[a-c-]", r"\b", r"\B", "^", r"(?:)", r"\.", "(?i:A)"]
)


@given(st.recursive(ATOMS, repeated, max_leaves=8), st.lists(st.text(LETTERS, max_size=7), max_size=6))
def test_where_both_engines_know_it_they_agree(pattern: str, texts: list[str]) -> None:
    ours, theirs = Pattern(pattern), re.compile(pattern, re.ASCII)
    assert [ours.fullmatch(text) for text in texts] == [theirs.fullmatch(text) is not None for text in texts]


@given(st.text("ab01.*+?|()[]{}^$\\-,:PQEdwxs<>i", max_size=12), st.text("ab01.", max_size=5))
def test_any_text_is_a_pattern_or_none(pattern: str, text: str) -> None:
    made = compiled(pattern)
    assert made is None or made.fullmatch(text) in (True, False)


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|aa)*b", "(.*)*(.*)*x", "(a{0,30}){0,30}b", "(?:a?){250}a{250}"])
def test_no_expression_takes_for_ever(pattern: str) -> None:
    made, began = Pattern(pattern), time.process_time()
    made.fullmatch("a" * 249)
    assert time.process_time() - began < 5
