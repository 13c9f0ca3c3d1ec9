"""The client is a library: what it logs is for whoever runs the program, not for the program's output."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from ottla.client.logs import get_logger


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    before, was_configured = structlog.get_config(), structlog.is_configured()
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
    if was_configured:
        structlog.configure(**before)


def test_without_structlog_it_is_for_logging(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    log = get_logger("ottla.client.somewhere")
    with caplog.at_level(logging.INFO, logger="ottla.client"):
        log.info("group_joined", members=3, group="g")
        log.debug("not_asked_for")
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("ottla.client.somewhere", "INFO")
    assert record.getMessage() == "group_joined group=g members=3"
    assert capsys.readouterr().out == ""


def test_by_default_warnings_are_told_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    log = get_logger("ottla.client.elsewhere")
    log.info("not_asked_for")
    log.warning("broker_lost", broker=1)
    assert [record.getMessage() for record in caplog.records] == ["broker_lost broker=1"]


def test_a_program_that_configures_structlog_later_gets_the_lines() -> None:
    log, seen = get_logger("ottla.client.somewhere"), []

    def keep(_logger: object, level: str, event: dict[str, object]) -> str:
        seen.append((level, event))
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    log.info("group_joined", members=3)
    assert seen == [("info", {"event": "group_joined", "members": 3})]
