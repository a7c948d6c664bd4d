"""Formatting directories, and reading whose they are."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

import broadsheet_broker.storage_tool
from broadsheet_broker.__main__ import main
from broadsheet_broker.seams import Environment
from broadsheet_broker.storage_tool import StorageError, format_directories, load_identity
from broadsheet_broker.wire.primitives import uuid_text
from tests.support.controllers import CLUSTER_ID, broker_config, environment

DYNAMIC = {"controller_quorum_voters": "", "controller_quorum_bootstrap_servers": "localhost:9093"}
DIRECTORY = UUID("01234567-89ab-cdef-0123-456789abcdef")


def test_directories_of_others_are_refused(tmp_path: Path) -> None:
    async def run() -> None:
        env = environment()
        format_directories(env, broker_config(tmp_path), CLUSTER_ID)
        load_identity(env, broker_config(tmp_path))
        with pytest.raises(StorageError, match=f"belongs to cluster {CLUSTER_ID}, and this node is configured for"):
            load_identity(env, broker_config(tmp_path, broadsheet_cluster_id="another-cluster"))
        with pytest.raises(StorageError, match="belongs to node 1, and this node is node 2"):
            load_identity(env, broker_config(tmp_path, node_id="2", controller_quorum_voters="2@localhost:9093"))
        with pytest.raises(StorageError, match="already formatted for cluster"):
            format_directories(env, broker_config(tmp_path), CLUSTER_ID)

    asyncio.run(run())


def test_an_unformatted_directory_is_refused_unless_a_cluster_id_is_configured(tmp_path: Path) -> None:
    async def run() -> None:
        env = environment()
        with pytest.raises(StorageError, match=r"is not formatted\. Format it with"):
            load_identity(env, broker_config(tmp_path / "a", broadsheet_cluster_id=""))
        identity = load_identity(env, broker_config(tmp_path / "b"))
        assert identity.cluster_id == CLUSTER_ID
        text = (tmp_path / "b" / "meta.properties").read_text()
        assert "version=1\n" in text and "node.id=1\n" in text and f"cluster.id={CLUSTER_ID}\n" in text
        (tmp_path / "c").mkdir()
        (tmp_path / "c" / "orders-0").mkdir()
        with pytest.raises(StorageError, match=r"has no meta\.properties, yet it is not empty \(orders-0\)"):
            load_identity(env, broker_config(tmp_path / "c"))

    asyncio.run(run())


def test_a_damaged_meta_properties_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        env = environment()
        (tmp_path / "meta.properties").write_text("version=1\nnode.id=1\n")
        with pytest.raises(StorageError, match=r"is damaged: cluster\.id is missing"):
            load_identity(env, broker_config(tmp_path))

    asyncio.run(run())


def with_environment(test: Callable[[Environment], None]) -> None:
    async def run() -> None:
        test(environment())

    asyncio.run(run())


def test_an_added_directory_is_formatted_and_the_others_stay_as_they_are(tmp_path: Path) -> None:
    def test(env: Environment) -> None:
        format_directories(env, broker_config(tmp_path / "a"), CLUSTER_ID)
        before = (tmp_path / "a" / "meta.properties").read_text()
        both = broker_config(tmp_path, log_dirs=f"{tmp_path}/a,{tmp_path}/b")
        lines = format_directories(env, both, CLUSTER_ID, ignore_formatted=True)
        assert lines[0] == f"Directory {tmp_path}/a is already formatted."
        assert lines[1].startswith(f"Formatting {tmp_path}/b with metadata.version ")
        assert (tmp_path / "a" / "meta.properties").read_text() == before
        assert len(set(load_identity(env, both).directories.values())) == 2

    with_environment(test)


def test_the_metadata_directory_of_a_first_voter_has_the_id_that_the_others_were_given(tmp_path: Path) -> None:
    def test(env: Environment) -> None:
        config = broker_config(tmp_path, **DYNAMIC)
        voters = f"1@localhost:9093:{uuid_text(DIRECTORY)},2@localhost:9094:{uuid_text(UUID(int=7 << 64))}"
        format_directories(env, config, CLUSTER_ID, initial_controllers=voters)
        assert load_identity(env, config).metadata_directory_id == DIRECTORY

    with_environment(test)


def test_a_copy_of_a_directory_is_refused(tmp_path: Path) -> None:
    def test(env: Environment) -> None:
        format_directories(env, broker_config(tmp_path / "a"), CLUSTER_ID)
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "meta.properties").write_text((tmp_path / "a" / "meta.properties").read_text())
        with pytest.raises(StorageError, match="one is a copy of the other"):
            load_identity(env, broker_config(tmp_path, log_dirs=f"{tmp_path}/a,{tmp_path}/b"))

    with_environment(test)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cluster_id": "a b"}, "Invalid cluster id 'a b'"),
        ({"standalone": True}, "--standalone makes a dynamic quorum: leave out controller.quorum.voters"),
        ({"initial_controllers": "x"}, "--initial-controllers makes a dynamic quorum: leave out controller"),
        ({"release": "2.8"}, "Unknown release version 2.8: allowed is 3.3, 3.4"),
        ({"release": "3.9", "features": {"eligible.leader.replicas.version": 1}}, "Choose a release from 4.0 on"),
    ],
)
def test_nothing_is_written_when_the_order_is_wrong(tmp_path: Path, arguments: dict, message: str) -> None:  # type: ignore[type-arg]
    def test(env: Environment) -> None:
        with pytest.raises(StorageError, match=re.escape(message)):
            format_directories(env, broker_config(tmp_path / "a"), **{"cluster_id": CLUSTER_ID} | arguments)
        assert not (tmp_path / "a").exists()

    with_environment(test)


def test_a_first_voter_without_its_directory_is_refused(tmp_path: Path) -> None:
    def test(env: Environment) -> None:
        with pytest.raises(StorageError, match=r"Invalid initial controller '1@localhost': allowed is id@host"):
            format_directories(env, broker_config(tmp_path, **DYNAMIC), CLUSTER_ID, initial_controllers="1@localhost")

    with_environment(test)


def test_options_that_say_different_things_of_the_quorum_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["format", "--standalone", "--no-initial-controllers"])
    assert "not allowed with argument --standalone" in capsys.readouterr().err


def test_errors_name_only_options_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """An error once named `--random-id`, which `format` never had."""
    with pytest.raises(SystemExit):
        main(["format", "--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    source = Path(broadsheet_broker.storage_tool.__file__).read_text()
    assert set(re.findall(r"--[a-z][a-z-]+", source)) <= options
