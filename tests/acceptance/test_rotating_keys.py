"""The ledger's key changes: announced, beside the old one, alone. What an auditor with the old key sees all along."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from acceptance.conftest import ANN, OPS, Muniment
from muniment.config import load
from muniment.core.errors import StoreUnavailable
from muniment.ledger.note import parse_note
from muniment.main import open_desk
from muniment.service import rotating


def rotate(muniment: Muniment, *words: object, who: str = OPS):
    return muniment.json("admin", "rotate-key", *words, who=who)


def settings(muniment: Muniment, **ledger: str) -> None:
    """Change lines of muniment.toml, or add them to [ledger] or [store]."""
    lines = muniment.config.read_text().splitlines()
    for name, value in ledger.items():
        section = "[store]" if name == "mark_key" else "[ledger]"
        lines = [line for line in lines if line.partition(" ")[0] != name]
        lines.insert(lines.index(section) + 1, f"{name} = {value}")
    muniment.config.write_text("\n".join(lines) + "\n")


def without_mark(muniment: Muniment) -> None:
    """As `init` wrote it once: the mark is derived from the ledger's key."""
    lines = muniment.config.read_text().splitlines()
    muniment.config.write_text("\n".join(each for each in lines if not each.startswith("mark_key")) + "\n")
    (muniment.folder / "keys/mark.key").unlink(missing_ok=True)


def states(document) -> dict[str, str]:
    return {each["key"].rpartition("+")[2]: each["state"] for each in document["keys"]}


def kept(muniment: Muniment, folder: Path, name: str, *vkeys: str) -> Path:
    path = folder / name
    path.write_text("".join(f"log {each}\n" for each in vkeys) + "quorum none\n")
    return path


def signers(muniment: Muniment) -> list[str]:
    note = (muniment.folder / "var/ledger/checkpoint").read_text()
    return [line.key_id.hex() for line in parse_note(note).signatures]


def verified(muniment: Muniment, trust: Path):
    return muniment.json("ledger", "verify", "--trust", trust)


@pytest.mark.slow
def test_a_key_is_announced_signs_beside_the_old_one_and_takes_over(here: Muniment, tmp_path: Path) -> None:
    muniment = here
    without_mark(muniment)
    first = muniment.filed()
    old = muniment.json("ledger", "checkpoint").document["vkey"]
    old_id = signers(muniment)[0]
    trust_old = kept(muniment, tmp_path, "old", old)

    # announced, and not signing yet
    made = rotate(muniment, "file:keys/ledger-2.key").document
    path = muniment.folder / "keys/ledger-2.key"
    assert made["made"] == str(path.resolve())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert any("mark_key" in words for words in made["next"])
    new = next(each["vkey"] for each in made["keys"] if each["state"] == "announced")
    new_id = new.split("+")[1]
    announced = next(each["announced"] for each in made["keys"] if each["vkey"] == new)
    assert states(made) == {old_id: "signs", new_id: "announced"}
    again = rotate(muniment, "file:keys/ledger-2.key").document
    assert (again["made"], again["size"], again["keys"]) == (None, made["size"], made["keys"]), (
        "nothing is recorded twice"
    )
    muniment.filed()
    assert signers(muniment) == [old_id]

    # both sign
    settings(muniment, mark_key='"file:keys/mark.key"', also_sign='["file:keys/ledger-2.key"]')
    refused = rotate(muniment, "--retire", old_id)
    assert refused.error["code"] == "refused.last-key", "nobody has seen the new one sign yet"
    muniment.filed()
    assert signers(muniment) == [old_id, new_id]
    assert verified(muniment, trust_old).document["ok"] is True
    assert states(rotate(muniment).document) == {old_id: "signs", new_id: "signs"}

    # the old one is retired: what it signed it stands for, and what comes now it does not sign
    gone = rotate(muniment, "--retire", old_id).document
    assert states(gone) == {old_id: "retired", new_id: "signs"}
    retired = next(each["retired"] for each in gone["keys"] if each["vkey"] == old)
    muniment.filed()
    assert signers(muniment) == [new_id]
    assert rotate(muniment, "--retire", old_id).document["keys"] == rotate(muniment).document["keys"]
    assert rotate(muniment, "file:keys/ledger.key").error["code"] == "refused.retired-key"
    assert rotate(muniment, "--retire", new_id).error["code"] == "refused.last-key"

    # the old key's file is destroyed, and marks on old entries still hold
    settings(muniment, key='"file:keys/ledger-2.key"', also_sign="[]")
    (muniment.folder / "keys/ledger.key").unlink()
    assert muniment.json("show", first, who=ANN).status == 0
    muniment.filed()
    whole = muniment.json("ledger", "verify")
    assert whole.document["ok"] is True, whole.document

    # an auditor with the old key alone is told what happened, and where to look
    told = verified(muniment, trust_old)
    assert told.status == 1
    fault = told.document["levels"]["V1"]["first_fault"]
    assert all(
        words in fault
        for words in (f"entry {announced} ", f"its successor {new}", f"entry {retired} ", "retired ", old_id)
    ), fault
    assert told.document["levels"]["V2"]["ok"] is True
    both = kept(muniment, tmp_path, "both", old, new)
    assert verified(muniment, both).document["ok"] is True
    only_new = verified(muniment, kept(muniment, tmp_path, "new", new)).document["levels"]["V1"][
        "first_fault"
    ]
    assert f"before entry {announced} " in only_new
    assert old_id in only_new

    # the same of an exported copy, which has both keys in its files
    export = tmp_path / "export"
    assert muniment.json("ledger", "export", export).status == 0
    assert set((export / "vkey").read_text().split()) == {old, new}
    assert muniment.json("ledger", "verify", "--dir", export, "--trust", both).document["ok"] is True
    assert muniment.json("ledger", "verify", "--dir", export, "--trust", trust_old).status == 1


def test_who_may_and_what_is_refused(here: Muniment) -> None:
    muniment = here
    muniment.filed()
    answer = rotate(muniment, "file:keys/other.key", who=ANN)
    assert (answer.status, answer.error["code"]) == (1, "refused.not-an-operator")
    assert not (muniment.folder / "keys/other.key").exists()
    assert rotate(muniment, "file:keys/ledger-2.key", "--retire", "x").error["code"] == "usage"
    assert rotate(muniment, "--retire", "ffffffff").error["code"] == "refused.unknown-key"
    assert rotate(muniment, "file:no-such-folder/ledger-2.key").error["code"] == "config"
    assert rotate(muniment, "pkcs11:token=t").error["code"] == "config.ledger-key"
    without_mark(muniment)
    assert rotate(muniment, "--retire", "ffffffff").error["code"] == "config.mark-key"


def test_a_key_that_was_not_announced_signs_nothing(here: Muniment) -> None:
    """Configured by mistake, or by somebody else: beside the one in force it is left out, and alone it is refused."""
    muniment = here
    muniment.filed()
    (mine,) = signers(muniment)
    assert rotate(muniment, "file:keys/ledger-2.key").status == 0
    desk = open_desk(load(muniment.config))
    other = muniment.folder / "keys/unannounced.key"
    other.write_bytes((muniment.folder / "keys/ledger-2.key").read_bytes())
    from muniment.cli.keys import write  # noqa: PLC0415
    from muniment.ledger.keys import signer_from_seed, signer_to_pem  # noqa: PLC0415

    other.unlink()
    write(other, signer_to_pem(signer_from_seed(desk.store.origin, b"\x09" * 32)))
    settings(muniment, also_sign='["file:keys/unannounced.key"]')
    muniment.filed()
    assert signers(muniment) == [mine]
    settings(muniment, key='"file:keys/unannounced.key"', also_sign="[]")
    answer = muniment.request()
    assert (answer.status, answer.error["code"]) == (2, "ledger.key-not-announced")


def test_a_second_line_of_ml_dsa_is_announced_the_same_way(here: Muniment, tmp_path: Path) -> None:
    muniment = here
    muniment.filed()
    old = muniment.json("ledger", "checkpoint").document["vkey"]
    made = rotate(muniment, "file:keys/ledger-pq.key", "--ml-dsa").document
    second = next(each for each in made["keys"] if each["algorithm"] == "ML-DSA-44")
    settings(muniment, also_sign='["file:keys/ledger-pq.key"]')
    muniment.filed()
    assert signers(muniment) == [old.split("+")[1], second["key"].rpartition("+")[2]]
    document = verified(muniment, kept(muniment, tmp_path, "both", old, second["vkey"])).document
    assert document["ok"] is True
    assert len(document["signed_by"]) == 2
    assert rotate(muniment, "--retire", old.split("+")[1]).error["code"] == "refused.last-key"
    settings(muniment, key='"file:keys/ledger-pq.key"', also_sign="[]")
    assert muniment.json("check").error["code"] == "config.ledger-key"


def test_with_another_mark_nothing_is_opened(here: Muniment) -> None:
    """The setting changed, not the store: the sentence says so, instead of calling every entry forged."""
    muniment = here
    ticket = muniment.filed()
    settings(muniment, mark_key='"file:keys/ssh-ca"')
    answer = muniment.json("show", ticket, who=ANN)
    assert (answer.status, answer.error["code"]) == (2, "config.mark-key")


@pytest.mark.parametrize("where", ["before the entry", "before the checkpoint"])
def test_a_step_that_was_interrupted_is_ended_by_running_it_again(
    here: Muniment, monkeypatch, where: str
) -> None:
    muniment = here
    muniment.filed()
    assert rotate(muniment, "file:keys/ledger-2.key").status == 0
    desk = open_desk(load(muniment.config))
    caller = desk.caller(OPS, "test")
    (muniment.folder / "keys/ledger-3.key").write_bytes((muniment.folder / "keys/ledger-2.key").read_bytes())
    from muniment.ledger.keys import signer_from_seed  # noqa: PLC0415

    third = signer_from_seed(desk.store.origin, b"\x0a" * 32)

    def fails(*_: object) -> None:
        raise StoreUnavailable("the disk is full")

    calls = []
    real = rotating.seal

    def seal(desk):
        calls.append(1)
        return fails() if len(calls) > 1 else real(desk)

    with monkeypatch.context() as patch:
        if where == "before the entry":
            patch.setattr(desk.store, "append", fails)
        else:
            patch.setattr(rotating, "seal", seal)
        with pytest.raises(StoreUnavailable):
            rotating.announce(desk, caller, third)
    document = rotating.announce(desk, caller, third)
    assert states(document)[third.verifier.key_id.hex()] == "announced"
    assert [each.event.kind for each in desk.store.entries("keys")] == ["key-announced/1"] * 2
