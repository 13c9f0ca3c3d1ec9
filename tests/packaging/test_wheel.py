"""The wheel, and one made from the sdist, in an environment of its own: nothing of the checkout is in reach there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from confluent_kafka import Producer

from ottla.cluster import free_base_port

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 60


def run(*words: object, cwd: Path) -> str:
    """Standard output; fails with both outputs when the status is not 0."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KAFKA_"))}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=WITHIN_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(kind: str, source: Path, into: Path) -> Path:
    """The one file that hatchling makes."""
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", into, cwd=source)
    (made,) = into.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of an environment with the wheel, and with this one's dependencies but not its editable install."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=home)
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip())
    # A path that a .pth file names is searched, but the .pth files in it, the editable install's too, are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return home / "bin"


def test_the_sdist_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    again = build("wheel", tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path / "again")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        names = [name for name in one.namelist() if not name.endswith("RECORD")]
        assert set(one.namelist()) == set(other.namelist())
        assert not [name for name in names if one.read(name) != other.read(name)]


def test_every_module_is_in_the_wheel_once(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith("ottla/")]
    assert len(names) == len(set(names))
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in ("ottla", "ottla/broker", "ottla/controller", "ottla/client")
        for path in (ROOT / package).rglob("*.py")
    }
    assert wanted <= set(names)
    assert "ottla/py.typed" in names


def test_a_node_from_the_wheel_takes_a_record(installed: Path, tmp_path: Path) -> None:
    where = run(installed / "python", "-c", "import ottla.broker; print(ottla.broker.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    directory = tmp_path / "cluster"
    port = free_base_port(1)
    run(installed / "ottla", "up", "--nodes", 1, "--dir", directory, "--base-port", port, "--detach", cwd=tmp_path)
    try:
        bootstrap = json.loads((directory / "cluster.json").read_text(encoding="utf-8"))["bootstrap"]
        answers: list[tuple[object, int | None]] = []
        producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "delivery.timeout.ms": 30_000})
        producer.produce("t", b"hello", on_delivery=lambda error, message: answers.append((error, message.offset())))
        assert producer.flush(30) == 0
        assert answers == [(None, 0)]
        read = run(
            *(installed / "ottla", "consume", "t", "--bootstrap", bootstrap, "--from-beginning", "--num", 1),
            cwd=tmp_path,
        )
        assert "hello" in read
    finally:
        run(installed / "ottla", "down", "--dir", directory, cwd=tmp_path)


def test_the_simulation_needs_no_test_dependencies(installed: Path, tmp_path: Path) -> None:
    absent = ("pytest", "hypothesis", "aiokafka", "confluent_kafka", "kafka")
    hide = f"import sys; sys.modules.update(dict.fromkeys({absent}))"
    run(installed / "python", "-c", f"{hide}; import ottla.cli.simulate.runner, ottla.simulation.storm", cwd=tmp_path)
    told = run(installed / "ottla", "simulate", "--seeds", 2, "--minutes", 0.02, "--format", "json", cwd=tmp_path)
    assert json.loads(told)["runs"] == 2
    assert json.loads(told)["anomalies"] == 0
