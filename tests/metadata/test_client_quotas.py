"""AlterClientQuotas (KIP-546)."""

from __future__ import annotations

import random

import pytest
from kio.schema.errors import ErrorCode

from ottla.controller import (
    AlterClientQuotas,
    ClientQuotaEntry,
    ClientQuotaOp,
    MetadataImage,
    Policy,
    client_quotas,
    decode_snapshot,
    encode_snapshot,
)
from ottla.controller.metadata import apply, decide

USER = (("user", "u"),)
BOTH = (("client-id", None), ("user", "u"))


def alter(image: MetadataImage, *entries: tuple[tuple[tuple[str, str | None], ...], dict[str, float | None]], **kwargs):
    request = AlterClientQuotas(
        entries=tuple(
            ClientQuotaEntry(
                entity=entity, ops=tuple(ClientQuotaOp(key=key, value=value) for key, value in values.items())
            )
            for entity, values in entries
        ),
        **kwargs,
    )
    decision = decide(image, Policy(), request, random.Random(1))
    after, _ = apply(image, decision.records, image.offset + 1)
    return after, [(entry.error, entry.message) for entry in decision.response.entries]


def test_quotas_are_set_changed_and_removed():
    image = MetadataImage("c")
    image, errors = alter(image, (USER, {"producer_byte_rate": 100.0}), (BOTH, {"request_percentage": 0.5}))
    assert errors == [(0, None)] * 2
    assert list(client_quotas(image)) == [
        ({"user": "u"}, {"producer_byte_rate": 100.0}),
        ({"client-id": None, "user": "u"}, {"request_percentage": 0.5}),
    ]
    assert decode_snapshot(encode_snapshot(image), "c") == image
    image, _ = alter(image, (tuple(reversed(BOTH)), {"request_percentage": 2.0, "consumer_byte_rate": 7.0}))
    image, errors = alter(image, (USER, {"producer_byte_rate": None, "consumer_byte_rate": None}))
    assert errors == [(0, None)]
    assert list(client_quotas(image)) == [
        ({"client-id": None, "user": "u"}, {"request_percentage": 2.0, "consumer_byte_rate": 7.0})
    ]


def test_validate_only_changes_nothing():
    image, errors = alter(MetadataImage("c"), (USER, {"producer_byte_rate": 1.0}), validate_only=True)
    assert errors == [(0, None)]
    assert not image.configs


@pytest.mark.parametrize(
    ("entity", "values", "message"),
    [
        ((), {"producer_byte_rate": 1.0}, "empty"),
        ((("ip", "1.2.3.4"),), {"connection_creation_rate": 1.0}, "not supported"),
        ((("group", "g"),), {"producer_byte_rate": 1.0}, "unknown"),
        ((("user", ""),), {"producer_byte_rate": 1.0}, "characters"),
        ((("user", "a"), ("user", "b")), {"producer_byte_rate": 1.0}, "more than once"),
        (USER, {"producer_byte_rate": 0.0}, "greater than 0"),
        (USER, {"producer_byte_rate": float("nan")}, "greater than 0"),
        (USER, {"producer_byte_rate": float("inf")}, "greater than 0"),
        (USER, {"consumer_byte_rate": 1.5}, "whole number"),
        (USER, {"controller_mutation_rate": 1.0}, "not enforced"),
        (USER, {"speed": 1.0}, "does not exist"),
    ],
)
def test_what_cannot_be_is_refused_and_the_rest_is_done(entity, values, message):
    image, errors = alter(MetadataImage("c"), (entity, values), ((("client-id", "x"),), {"producer_byte_rate": 5.0}))
    assert errors[0][0] == ErrorCode.invalid_request
    assert message in errors[0][1]
    assert errors[1] == (0, None)
    assert list(client_quotas(image)) == [({"client-id": "x"}, {"producer_byte_rate": 5.0})]


def test_an_entity_is_given_once():
    _, errors = alter(MetadataImage("c"), (BOTH, {}), (tuple(reversed(BOTH)), {"producer_byte_rate": 5.0}))
    assert [code for code, _ in errors] == [0, ErrorCode.invalid_request]
