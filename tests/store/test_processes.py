"""Several processes on one database, and processes that die: nothing acknowledged is lost, nothing is half done."""

from __future__ import annotations

import json
import threading
from collections import Counter

import pytest
from sqlalchemy import select

from muniment.ledger.verify import verify_log
from muniment.store import tables as t
from muniment.store.rebuild import differences
from store.stores import ORIGIN, SIGNER, Shelf, file_of, in_another_process, ledger_of, opened, seal, verified


def test_processes_race_for_one_stream(shelf: Shelf) -> None:
    url = shelf.url()
    answer = in_another_process("race", url, 2, 15)
    assert answer["statuses"] == [0, 0], answer["lines"]
    with opened(url) as store:
        said = [r.event.target for r in store.entries("shared")]
        assert sorted(said) == sorted(f"{me}-{n}" for me in range(2) for n in range(15))
        for me in range(2):
            assert [s for s in said if s.startswith(f"{me}-")] == [f"{me}-{n}" for n in range(15)]
        verified(store)


def test_what_was_acknowledged_survives_sigkill(shelf: Shelf) -> None:
    """I27. Twenty times; the killed process also sequenced and signed meanwhile."""
    url = shelf.url()
    answer = in_another_process("kill", url, 20)
    told: dict[str, int] = {}
    for line in answer["told"]:
        assert not line.startswith("!"), line
        stream, version = line.split()
        told[stream] = max(told.get(stream, 0), int(version))
    assert len({stream.partition("-")[0] for stream in told}) == 20
    with opened(url) as store:
        with store.engine.connect() as connection:
            stored = Counter(connection.execute(select(t.event.c.stream)).scalars())
        for stream, version in told.items():
            assert stored[stream] >= version
        for stream, count in stored.items():
            assert count % 2 == 0  # a group of two is there, or is not
            assert [r.seq for r in store.entries(stream)] == list(range(count))
            assert count - told.get(stream, 0) <= 2  # what was under way may be there too, and no more
        notes = _notes(store)
        assert verified(store).events == sum(stored.values())
        entries = list(ledger_of(store).entries())
        for size, note in notes:  # every note ever signed is of this very log
            assert verify_log(entries[:size], note, SIGNER.verifier, origin=ORIGIN).ok
        assert list(differences(store)) == []


def _notes(store) -> list[tuple[int, str]]:
    with store.engine.connect() as connection:
        rows = connection.execute(
            select(t.checkpoint.c.size, t.checkpoint.c.note).order_by(t.checkpoint.c.size)
        ).all()
    return [(row.size, row.note) for row in rows][-5:]


@pytest.mark.server("postgres18")
@pytest.mark.xdist_group("store-postgres18")
def test_the_sequencer_loses_nothing_of_four_writers(postgres_shelf: Shelf) -> None:
    """Ids commit out of order, so a sequencer that remembers the last one loses entries (3 % when it was measured)."""
    url = postgres_shelf.url()
    answers: list[dict] = []
    writers = threading.Thread(target=lambda: answers.append(in_another_process("fill", url, 4, 40)))
    with opened(url) as store:
        writers.start()
        rounds = 0
        while writers.is_alive():
            seal(store)
            rounds += 1
        writers.join()
        assert answers[0]["statuses"] == [0] * 4, answers[0]["lines"]
        assert rounds > 3
        report = verified(store)
        assert report.events == 4 * 40 * 3 * 3
        with store.engine.connect() as connection:
            rows = connection.execute(
                select(t.leaf.c.idx, t.event.c.stream, t.event.c.seq)
                .join(t.event, t.event.c.id == t.leaf.c.event_id)
                .order_by(t.leaf.c.idx)
            ).all()
    assert [row.idx for row in rows] == list(range(len(rows)))
    order: dict[str, list[int]] = {}
    for row in rows:
        order.setdefault(row.stream, []).append(row.seq)
    assert all(seqs == [0, 1, 2] for seqs in order.values())


def test_processes_open_an_empty_database_at_once(shelf: Shelf) -> None:
    """The nodes of a cluster start together on the first day: one migrates, all are served."""
    url = shelf.empty_url()
    answer = in_another_process("open_at_once", url, 3)
    assert answer["lines"] == ["opened"] * 3
    assert answer["statuses"] == [0] * 3
    with opened(url) as store:
        assert verified(store).events == 3


def test_a_full_disk_by_file_size(sqlite_shelf: Shelf) -> None:
    """I28: what was acknowledged is there, what was not is not, and it goes on by itself once there is room."""
    url = sqlite_shelf.url()
    answer = in_another_process("small_files", url, 600_000)
    assert answer["refused"] == "StoreUnavailable"
    assert answer["still"] == ["StoreUnavailable"]
    assert answer["after"] == 1
    assert len(answer["acknowledged"]) > 5
    with opened(url) as store:
        for stream in answer["acknowledged"]:
            assert len(store.entries(stream)) == 2
        assert store.entries(f"s{len(answer['acknowledged'])}") == []
        assert store.entries("still") == []
        assert verified(store).events == 2 * len(answer["acknowledged"]) + 1


def test_a_file_that_may_not_be_written(
    sqlite_shelf: Shelf, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = sqlite_shelf.url()
    with opened(url) as store:
        path = file_of(store)
    folder = path.parent / "readonly"
    folder.mkdir()
    moved = folder / "store.db"
    path.rename(moved)
    moved.chmod(0o444)
    folder.chmod(0o555)
    parent_mode = path.parent.stat().st_mode
    path.parent.chmod(0o755)
    try:
        answer = in_another_process("unwritable", f"sqlite:///{moved}")
        (line,) = answer["lines"]
        kind, message, remedy = json.loads(line)
        assert kind == "StoreUnavailable", message
        assert remedy
    finally:
        path.parent.chmod(parent_mode)
        folder.chmod(0o755)
        moved.unlink()
        folder.rmdir()
