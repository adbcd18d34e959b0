"""The store: every finished evaluation once, one writer, older ones migrate, newer ones refuse."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

from sqlalchemy import inspect, select  # noqa: E402

from diffcore.errors import ConfigError, DataError, OutputError  # noqa: E402
from pipelines.store import tables  # noqa: E402
from pipelines.store.database import Database  # noqa: E402
from pipelines.store.records import (  # noqa: E402
    Candidate,
    Outcome,
    add_generation,
    add_outcomes,
    digest,
    find_campaign,
    known_outcomes,
    open_campaign,
    read_candidates,
)


def opened(database: Database, resume: bool = False, **changes: Any) -> int:
    settings = {"batch": 2, "evaluations": {"first": "i"}} | changes
    return open_campaign(database, "one", settings, 0, ({}, {"w": "1"}), resume).id


def count(path: Path, table: str) -> int:
    with sqlite3.connect(path) as connection:
        rows: int = connection.execute(f"select count(*) from {table}").fetchone()[0]
    connection.close()
    return rows


def test_what_is_written_twice_is_there_once(tmp_path: Path) -> None:
    outcome = Outcome("k", "c", "qed", 0.5, seconds=0.1)
    with Database(tmp_path / "s.sqlite", write=True) as database:
        campaign = opened(database)
        candidates = [Candidate("vector", "[1]", {"index": 3}), Candidate("vector", "[2]")]
        for _ in range(2):
            add_generation(database, campaign, 0, candidates, {"drawn": 2})
            add_outcomes(database, [outcome, Outcome("f", "c", "sa", None, "broke")])
        add_outcomes(database, [Outcome("k", "c", "qed", 0.9)])  # the first one stays
        assert read_candidates(database, campaign, 0) == candidates
        assert read_candidates(database, campaign, 0)[0].origin == {"index": 3}
        found = known_outcomes(database, ["k", "f", "unknown"])
        assert found["k"] == outcome and found["f"].reason == "broke" and len(found) == 2
    assert [count(tmp_path / "s.sqlite", t) for t in ("candidates", "evaluations", "failures")] == [
        2,
        1,
        1,
    ]


def test_a_transaction_is_whole_or_nothing(tmp_path: Path) -> None:
    with Database(tmp_path / "s.sqlite", write=True) as database:
        opened(database)

        def broken(connection: Any) -> None:
            row = {"key": "k", "candidate": "c", "evaluator": "e", "value": 1.0, "seconds": 0.0}
            database.insert(connection, tables.evaluations, [row])
            raise RuntimeError

        with pytest.raises(RuntimeError):
            database.transact(broken)
        assert known_outcomes(database, ["k"]) == {}


def test_a_second_writer_is_refused_and_readers_are_not(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Database(path, write=True) as database:
        opened(database)
        with pytest.raises(OutputError, match="another run writes to .*s.sqlite"):
            Database(path, write=True)
        with Database(path) as reader:
            assert find_campaign(reader).name == "one"
            with pytest.raises(OutputError, match="cannot read"):
                reader.transact(lambda c: c.execute(tables.campaigns.delete()))
    Database(path, write=True).close()  # free again


def test_a_lost_connection_is_opened_again(tmp_path: Path) -> None:
    with Database(tmp_path / "s.sqlite", write=True) as database:
        opened(database)
        tries = []

        def work(connection: Any) -> None:
            tries.append(1)
            row = {"key": "k", "candidate": "c", "evaluator": "e", "value": 1.0, "seconds": 0.0}
            database.insert(connection, tables.evaluations, [row])
            if len(tries) == 1:  # the connection dies under the transaction
                connection.connection.driver_connection.close()
                connection.execute(select(tables.about))

        database.transact(work)
        assert len(tries) == 2
        assert len(known_outcomes(database, ["k"])) == 1


def downgrade(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("alter table generations drop column hypervolume")
    connection.execute("update about set value = '1' where name = 'version'")
    connection.commit()
    connection.close()


def test_an_older_store_migrates_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Database(path, write=True) as database:
        campaign = opened(database)
        add_generation(database, campaign, 0, [Candidate("vector", "[1]")], {})
    downgrade(path)
    with pytest.raises(DataError, match="version 1, older than 2"):
        Database(path)
    with Database(path, write=True) as database:
        assert len(read_candidates(database, campaign, 0)) == 1
    with Database(path) as database:
        assert database.transact(tables.found_version) == tables.VERSION
        columns = database.transact(lambda c: inspect(c).get_columns("generations"))
        assert "hypervolume" in {column["name"] for column in columns}


@pytest.mark.parametrize("write", [True, False])
def test_a_newer_store_is_refused_and_left_alone(tmp_path: Path, write: bool) -> None:
    path = tmp_path / "s.sqlite"
    Database(path, write=True).close()
    connection = sqlite3.connect(path)
    connection.execute("update about set value = '99'")
    connection.commit()
    connection.close()
    with pytest.raises(DataError, match="version 99, newer than 2"):
        Database(path, write=write)
    connection = sqlite3.connect(path)
    assert connection.execute("select value from about").fetchone() == ("99",)
    connection.close()


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.sqlite").write_text("no database, and long enough to be read as one" * 20)
    with pytest.raises(DataError, match="no store"):
        Database(tmp_path / "text.sqlite", write=True)
    connection = sqlite3.connect(tmp_path / "other.sqlite")
    connection.execute("create table mine (a)")
    connection.commit()
    connection.close()
    with pytest.raises(DataError, match="something else"):
        Database(tmp_path / "other.sqlite", write=True)
    with pytest.raises(DataError, match="does not exist"):
        Database(tmp_path / "missing.sqlite")
    with pytest.raises(ConfigError, match="store: cannot use this URL"):
        Database("nonsense://x/y", write=True)


def test_a_read_only_folder_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        (folder / "probe").touch()
        pytest.skip("this user may write everywhere")
    except PermissionError:
        with pytest.raises(OutputError, match="cannot write"):
            Database(folder / "s.sqlite", write=True)
    finally:
        folder.chmod(stat.S_IRWXU)


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write .*nowhere"):
        Database(tmp_path / "nowhere" / "s.sqlite", write=True)


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Database(path, write=True) as database:
        campaign = opened(database)
        add_generation(database, campaign, 0, [Candidate("vector", "[1]")], {})
        pages = database.transact(lambda c: c.exec_driver_sql("pragma page_count").scalar())
        big = [Candidate("vector", "[" + "1" * 9000 + str(i) + "]") for i in range(200)]

        def full(connection: Any) -> None:  # SQLite then answers as on a full disk
            connection.exec_driver_sql(f"pragma max_page_count={pages + 4}")
            rows = [
                {
                    "campaign": campaign,
                    "generation": 1,
                    "position": i,
                    "key": one.key,
                    "form": one.form,
                    "content": one.content,
                    "origin": "{}",
                }
                for i, one in enumerate(big)
            ]
            database.insert(connection, tables.candidates, rows)

        with pytest.raises(OutputError, match="cannot write .*full"):
            database.transact(full)
        database.engine.dispose()
        assert len(read_candidates(database, campaign, 0)) == 1
        assert read_candidates(database, campaign, 1) == []


def test_another_campaign_of_the_name_is_refused(tmp_path: Path) -> None:
    with Database(tmp_path / "s.sqlite", write=True) as database:
        first = opened(database)
        assert opened(database, resume=True) == first
        with pytest.raises(OutputError, match="--resume"):
            opened(database)
        with pytest.raises(OutputError, match="another 'batch'"):
            opened(database, resume=True, batch=3)
        with pytest.raises(OutputError, match="other weights"):
            open_campaign(
                database,
                "one",
                {"batch": 2, "evaluations": {"first": "i"}},
                0,
                ({}, {"w": "2"}),
                True,
            )
        with pytest.raises(ConfigError, match="no campaign 'two'.*one"):
            find_campaign(database, "two")


def test_names_and_texts_are_parameters(tmp_path: Path) -> None:
    nasty = "x'; drop table candidates; --"
    with Database(tmp_path / "s.sqlite", write=True) as database:
        row = open_campaign(database, nasty, {"evaluations": {}}, 0, ({}, {}), False)
        add_generation(database, row.id, 0, [Candidate("json", nasty)], {"note": nasty})
        add_outcomes(database, [Outcome(nasty, "c", nasty, None, nasty)])
        assert find_campaign(database, nasty).name == nasty
        assert read_candidates(database, row.id, 0)[0].content == nasty
        assert known_outcomes(database, [nasty])[nasty].reason == nasty
        with pytest.raises(ConfigError):
            find_campaign(database, "x' or '1'='1")


def test_hashes_keep_parts_apart() -> None:
    assert digest("ab", "c") != digest("a", "bc") != digest("abc")
    assert digest("a") == digest("a") and len(digest("")) == 32


def test_a_copy_of_the_files_can_be_read(tmp_path: Path) -> None:
    with Database(tmp_path / "s.sqlite", write=True) as database:
        opened(database)
        for name in ("s.sqlite", "s.sqlite-wal", "s.sqlite-shm"):
            if (tmp_path / name).exists():
                shutil.copy(tmp_path / name, tmp_path / f"copy{name[1:]}")
    with Database(tmp_path / "copy.sqlite") as copy:
        assert find_campaign(copy).name == "one"
