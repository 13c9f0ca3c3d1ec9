"""The generated pages are what the code says now, and say nothing that the code does not do."""

import re
from pathlib import Path

import pytest

from docs import generate
from ottla.controller import TOPIC_CONFIGS
from ottla.node.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
READERS_OF_SETTINGS = (ROOT / "broker", ROOT / "ottla" / "node")
READERS_OF_TOPIC_CONFIGS = (ROOT / "broker", ROOT / "controller", ROOT / "ottla" / "node")
# Where they are defined and checked, which is no use of them.
TABLES = {"settings.py", "topic_config.py", "broker_config.py", "configs.py"}


@pytest.mark.parametrize("name", sorted(generate.pages()))
def test_page_is_up_to_date(name: str) -> None:
    committed = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert committed == generate.pages()[name], "run `make docs` and commit what it writes"


def _sources(packages: tuple[Path, ...]) -> str:
    files = (path for package in packages for path in package.rglob("*.py") if path.name not in TABLES)
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def test_every_setting_has_a_reader() -> None:
    sources = _sources(READERS_OF_SETTINGS)
    unread = {
        str(field.alias) for name, field in Settings.model_fields.items() if not re.search(rf"\.{name}\b", sources)
    }
    unread -= {"ottla.cluster.secret.file"}  # read by its dotted name, before the settings are made
    assert not unread


def test_every_topic_config_has_a_reader() -> None:
    sources = _sources(READERS_OF_TOPIC_CONFIGS)
    assert not {name for name in TOPIC_CONFIGS if f'"{name}"' not in sources}
