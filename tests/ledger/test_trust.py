"""The trust file: what it may say, which line is wrong, and when witnesses are enough."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.logs import ORIGIN, SIGNER, STRANGER, VERIFIER, steady
from muniment.ledger.checkpoint import Checkpoint, sign_checkpoint, with_lines
from muniment.ledger.cosignature import Cosigner, MlDsaSigner
from muniment.ledger.errors import (
    BadCheckpoint,
    BadNote,
    BadSignature,
    BadTrust,
    LedgerFault,
    WrongKey,
    WrongOrigin,
)
from muniment.ledger.keys import cosigner_from_seed, ml_dsa_from_seed, signer_from_seed
from muniment.ledger.note import Signature, Verifier, sign_note
from muniment.ledger.signatures import ED25519_COSIGNATURE, ML_DSA_44, cosignature_message, subtree_message
from muniment.ledger.trust import MAX_DEFINED, MAX_POLICY, Group, TrustPolicy, Witness

NOW = 1_679_315_147
HEAD = Checkpoint(origin=ORIGIN, size=7, root=bytes(range(32)))
TEXT = HEAD.text()
NOTE = sign_checkpoint(HEAD, [SIGNER])
SECOND = ml_dsa_from_seed(ORIGIN, b"\x31" * 32)
OTHER = signer_from_seed("other.example/log", b"\x32" * 32)
W = {
    name: cosigner_from_seed(f"witness.example/{name}", bytes([at]) * 32, ml_dsa=name == "Y3")
    for at, name in enumerate(("X1", "X2", "X3", "Y1", "Y2", "Y3"), start=1)
}
LOG = f"log {SIGNER.vkey}\n"
WITNESSES = "".join(f"witness {name} {each.vkey}\n" for name, each in W.items())
# the example of c2sp.org/tlog-policy
SPEC = (
    LOG
    + "\n"
    + WITNESSES
    + """
group X-witnesses 2 X1 X2 X3
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""
)


def cosigned(*names, note=NOTE, time=NOW):
    return with_lines(note, [W[name].sign(TEXT, time) for name in names])


def first_part(signer):
    return "+".join(signer.vkey.split("+", 2)[:2])  # the base64 after it may have a plus itself


def judge(policy, note):
    return TrustPolicy.parse(policy).judge(note)


def test_the_example_of_the_specification():
    policy = TrustPolicy.parse(SPEC)
    assert policy.log == (VERIFIER,)
    assert policy.witnesses == tuple(Witness(name=name, verifier=each.verifier) for name, each in W.items())
    assert policy.groups == (
        Group(name="X-witnesses", threshold=2, members=("X1", "X2", "X3")),
        Group(name="Y-witnesses", threshold=1, members=("Y1", "Y2", "Y3")),
        Group(name="X-and-Y", threshold=2, members=("X-witnesses", "Y-witnesses")),
    )
    assert (policy.quorum, policy.operator_only) == ("X-and-Y", False)
    assert TrustPolicy.parse(SPEC.encode()) == policy
    assert TrustPolicy.parse(policy.render()) == policy
    assert TrustPolicy.parse(policy.render()).render() == policy.render()


@pytest.mark.parametrize("count", range(7))
def test_the_quorum_of_the_example_over_every_set_of_witnesses(count):
    for names in itertools.combinations(W, count):
        enough = len({"X1", "X2", "X3"} & set(names)) >= 2 and bool({"Y1", "Y2", "Y3"} & set(names))
        trusted = judge(SPEC, cosigned(*names))
        assert trusted.quorum_met is enough
        assert [each.name for each in trusted.cosigned] == [W[name].name for name in names]
        assert {each.time for each in trusted.cosigned} <= {NOW}
        assert trusted.checkpoint == HEAD
        assert trusted.log_keys == (first_part(SIGNER),)


@pytest.mark.parametrize(
    ("quorum", "enough"),
    [
        ("quorum X1", {"X1"}), ("quorum none", set()), ("group g any X1 X2\nquorum g", {"X2"}),
        ("group g all X1\nquorum g", {"X1"}), ("group g 1 X1 Y3\nquorum g", {"Y3"}),
        ("group g 2 X1 Y3\nquorum g", {"X1", "Y3"}), ("group g all X1 X2 X3 Y1 Y2 Y3\nquorum g", set(W)),
        ("group a all X1 X2\ngroup b any a Y1\nquorum b", {"Y1"}), ("group a all X1 X2\ngroup b any a Y1\nquorum b", {"X1", "X2"}),
        ("quorum Y3\ngroup later any X1", {"Y3"}),
    ],
)  # fmt: skip
def test_a_quorum_needs_each_of_a_smallest_set(quorum, enough):
    policy = f"{LOG}{WITNESSES}{quorum}\n"
    assert judge(policy, cosigned(*enough)).quorum_met
    assert judge(policy, cosigned(*W)).quorum_met
    for one in enough:
        assert not judge(policy, cosigned(*(enough - {one}))).quorum_met
    if enough:
        assert (
            not judge(policy, cosigned(*(set(W) - enough))).quorum_met or "any" in quorum or " 1 " in quorum
        )


def test_spaces_comments_and_order():
    policy = TrustPolicy.parse(
        f"# trust\n \t\n\t#x\n quorum none \n\t log \t{SIGNER.vkey}  https://a/\t\nwitness  X1\t{W['X1'].vkey} http://w/x \n"
    )
    assert policy.log_urls == ("https://a/",)
    assert policy.witnesses[0].url == "http://w/x"
    assert policy.operator_only
    assert policy.render() == (
        f"log {SIGNER.vkey} https://a/\nwitness X1 {W['X1'].vkey} http://w/x\nquorum none\n"
    )


def test_only_comments_may_be_no_utf_8():
    policy = f"{LOG}quorum none\n".encode()
    assert TrustPolicy.parse(b"# caf\xe9\n" + policy) == TrustPolicy.parse(policy)
    with pytest.raises(BadTrust) as caught:
        TrustPolicy.parse(policy + b"witness caf\xe9 " + W["X1"].vkey.encode() + b"\n")
    assert "line 3" in str(caught.value)
    named = TrustPolicy.parse(f"witness K\u212a\u00a0\u0085 {W['X1'].vkey}\nquorum K\u212a\u00a0\u0085\n")
    assert named.quorum == "K\u212a\u00a0\u0085"
    assert TrustPolicy.parse(named.render().encode()) == named


X1, X2 = W["X1"].vkey, W["X2"].vkey
AS_LOG = signer_from_seed("x", b"\x01" * 32).vkey  # the key of X1
RENAMED = Cosigner(name="else", key=W["X1"].key).vkey
TWICE = Cosigner(name=W["X1"].name, key=W["X2"].key).vkey
WITNESS_OF_LOG = Cosigner(name="w", key=SIGNER.key).vkey
PQ_OF_LOG = Cosigner(name="w", key=SECOND.key).vkey
HEADER = f"{LOG}witness X1 {X1}\nwitness X2 {X2}\n"
REFUSED = {
    "nothing": ("", "no quorum line"),
    "no quorum": (HEADER, "no quorum line"),
    "two quorums": (f"{HEADER}quorum X1\nquorum X1\n", "line 5"),
    "none twice": ("quorum none\nquorum none\n", "line 2"),
    "quorum of nothing": (f"{HEADER}quorum\n", "line 4"),
    "quorum of two": (f"{HEADER}quorum X1 X2\n", "line 4"),
    "unknown quorum": (f"{HEADER}quorum X3\n", "line 4"),
    "quorum defined below": (f"quorum X1\nwitness X1 {X1}\n", "line 1"),
    "quorum in other letters": (f"{HEADER}quorum x1\n", "line 4"),
    "unknown statement": (f"{HEADER}witnesses X1\n", "line 4"),
    "statement in capitals": (f"LOG {SIGNER.vkey}\nquorum none\n", "line 1"),
    "comment after a statement": (f"{HEADER}quorum X1 # yes\n", "line 4"),
    "log without a key": ("log\nquorum none\n", "line 1"),
    "log with more": (f"log {SIGNER.vkey} https://a b\nquorum none\n", "line 1"),
    "log with a bad key": ("log a+00000000+AAAA\nquorum none\n", "line 1"),
    "log with a witness's key": (f"log {X1}\nquorum none\n", "line 1"),
    "log twice": (f"{LOG}{LOG}quorum none\n", "line 2"),
    "log's key under another name": (
        f"{LOG}log {signer_from_seed('other', bytes(range(32))).vkey}\nquorum none\n",
        "line 2",
    ),
    "witness without a key": (f"{LOG}witness X1\nquorum none\n", "line 2"),
    "witness with more": (f"{LOG}witness X1 {X1} https://a b\nquorum none\n", "line 2"),
    "witness with a log's key": (f"{LOG}witness X1 {AS_LOG}\nquorum none\n", "line 2"),
    "witness called none": (f"{LOG}witness none {X1}\nquorum none\n", "line 2"),
    "name taken": (f"{HEADER}witness X1 {W['X3'].vkey}\nquorum none\n", "line 4"),
    "key under two names": (f"{HEADER}witness X3 {X1}\nquorum none\n", "line 4"),
    "key under two key names": (f"{HEADER}witness X3 {RENAMED}\nquorum none\n", "line 4"),
    "two keys of a cosigner": (f"witness a {X1}\nwitness b {TWICE}\nquorum none\n", "line 2"),
    "log's key as a witness": (f"{LOG}witness w {WITNESS_OF_LOG}\nquorum none\n", "line 2"),
    "witness's key as a log": (f"witness X1 {X1}\nlog {AS_LOG}\nquorum none\n", "line 2"),
    "log's other key as a witness": (f"log {SECOND.vkey}\nwitness w {PQ_OF_LOG}\nquorum none\n", "line 2"),
    "group of nothing": (f"{HEADER}group g any\nquorum none\n", "line 4"),
    "group alone": (f"{HEADER}group\nquorum none\n", "line 4"),
    "group of an unknown": (f"{HEADER}group g any X1 X3\nquorum g\n", "line 4"),
    "group of itself": (f"{HEADER}group g any g\nquorum g\n", "line 4"),
    "groups in a circle": (f"{HEADER}group a any b\ngroup b any a\nquorum a\n", "line 4"),
    "group of none": (f"{HEADER}group g any none\nquorum g\n", "line 4"),
    "group called none": (f"{HEADER}group none any X1\nquorum none\n", "line 4"),
    "group called like a witness": (f"{HEADER}group X1 any X2\nquorum X1\n", "line 4"),
    "two groups of a name": (f"{HEADER}group g any X1\ngroup g any X2\nquorum g\n", "line 5"),
    "member twice": (f"{HEADER}group g 2 X1 X1\nquorum g\n", "line 4"),
    "member of two groups": (f"{HEADER}group a any X1\ngroup b any X1\nquorum b\n", "line 5"),
    "group in two groups": (
        f"{HEADER}group a any X1\ngroup b any a\ngroup c any a\nquorum c\n",
        "line 6",
    ),
    "0 of 2": (f"{HEADER}group g 0 X1 X2\nquorum g\n", "line 4"),
    "3 of 2": (f"{HEADER}group g 3 X1 X2\nquorum g\n", "line 4"),
    "-1 of 2": (f"{HEADER}group g -1 X1 X2\nquorum g\n", "line 4"),
    "01 of 2": (f"{HEADER}group g 01 X1 X2\nquorum g\n", "line 4"),
    "1.5 of 2": (f"{HEADER}group g 1.5 X1 X2\nquorum g\n", "line 4"),
    "other digits": (f"{HEADER}group g \u0661 X1 X2\nquorum g\n", "line 4"),
    "a huge count": (f"{HEADER}group g {'9' * 5000} X1 X2\nquorum g\n", "line 4"),
    "All": (f"{HEADER}group g All X1 X2\nquorum g\n", "line 4"),
    "no final newline": (f"{HEADER}quorum X1", "line 4"),
    "carriage returns": (f"{HEADER}quorum X1\n".replace("\n", "\r\n"), "line 1"),
    "NUL": (f"{HEADER}quorum X1\0\n", "line 4"),
    "control character in a comment": (f"# \x1b[2J\n{HEADER}quorum X1\n", "line 1"),
    "DEL": (f"{HEADER}quorum X1\x7f\n", "line 4"),
    "form feed for a space": (f"{HEADER}quorum\x0cX1\n", "line 4"),
    "wide space for a space": (f"{HEADER}quorum\u00a0X1\n", "line 4"),
    "lone surrogate": (f"{HEADER}group \ud800 any X1\nquorum none\n", "line 4"),
    "byte order mark": (f"\ufeff{HEADER}quorum X1\n", "line 1"),
    "UTF-16": (f"{HEADER}quorum X1\n".encode("utf-16"), "line 1"),
    "too long": ("#" * MAX_POLICY + "\nquorum none\n", "longer than"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_file_is_refused_with_its_line(name):
    text, sentence = REFUSED[name]
    with pytest.raises(BadTrust) as caught:
        TrustPolicy.parse(text)
    assert sentence in str(caught.value)
    assert caught.value.code == "ledger.bad-trust"
    assert len(str(caught.value)) < 300


def many(count, *, groups=False):
    lines = []
    for at in range(count):
        seed = at.to_bytes(32, "big")
        lines.append(f"log {signer_from_seed('log', b'l' + seed[1:]).vkey}\n")
        lines.append(f"witness w{at} {cosigner_from_seed(f'w{at}', b'w' + seed[1:]).vkey}\n")
        if groups:
            lines.append(f"group g{at} all w{at}\n")
    return "".join(lines) + "quorum none\n"


def test_how_many_there_may_be():
    assert len(TrustPolicy.parse(many(MAX_DEFINED, groups=True)).groups) == MAX_DEFINED >= 32
    with pytest.raises(BadTrust) as caught:
        TrustPolicy.parse(many(MAX_DEFINED + 1))
    assert "line 129" in str(caught.value)
    with pytest.raises(BadTrust) as caught:
        TrustPolicy.parse(many(MAX_DEFINED, groups=True) + "group one-more any g0\n")
    assert "more than 64 groups" in str(caught.value)
    post_quantum = "".join(
        f"witness w{at} {cosigner_from_seed(f'w{at}', bytes([at]) * 32, ml_dsa=True).vkey}\n"
        for at in range(MAX_DEFINED)
    )
    assert len(TrustPolicy.parse(post_quantum + "quorum w0\n").witnesses) == MAX_DEFINED


# ── judging ──


def test_either_key_of_a_log_is_enough_while_it_changes():
    new = signer_from_seed(ORIGIN, b"\x33" * 32)
    policy = f"{LOG}log {new.vkey}\nlog {SECOND.vkey}\nquorum none\n"
    for signers in ([SIGNER], [new], [SIGNER, new], [SIGNER, SECOND], [SECOND], [SIGNER, new, SECOND]):
        trusted = judge(policy, sign_checkpoint(HEAD, signers))
        assert trusted.log_keys == tuple(first_part(each) for each in signers)
        assert trusted.quorum_met
        assert trusted.cosigned == ()
    assert judge(policy, NOTE + SIGNER.sign(TEXT)).log_keys == (first_part(SIGNER),)


def test_lines_by_strangers_are_passed_over():
    note = with_lines(
        cosigned("X1"), [STRANGER.sign(TEXT), Cosigner(name="z", key=W["X2"].key).sign(TEXT, 1)]
    )
    assert judge(f"{LOG}witness X1 {X1}\nquorum X1\n", note).quorum_met
    assert not judge(f"{LOG}witness X1 {X1}\nwitness X2 {X2}\nquorum X2\n", note).quorum_met


def test_witnesses_do_not_stand_in_for_the_log():
    witnessed = sign_note(TEXT, [STRANGER]) + W["X1"].sign(TEXT, NOW)
    with pytest.raises(WrongKey) as caught:
        judge(SPEC, witnessed)
    assert caught.value.code == "ledger.wrong-key"
    with pytest.raises(WrongKey):
        judge(SPEC, sign_note(TEXT, [STRANGER]))
    with pytest.raises(WrongKey):
        judge("quorum none\n", NOTE)
    with pytest.raises(WrongOrigin):
        judge(f"witness X1 {X1}\nquorum X1\n", cosigned("X1"))


def test_a_log_signs_its_own_checkpoints_alone():
    both = f"{LOG}log {OTHER.vkey}\nquorum none\n"
    with pytest.raises(WrongKey):
        judge(both, sign_note(TEXT, [OTHER]))
    with pytest.raises(WrongOrigin) as caught:
        judge(f"log {OTHER.vkey}\nquorum none\n", sign_note(TEXT, [OTHER]))
    assert caught.value.code == "ledger.wrong-origin"
    # a line by the other one takes nothing away
    assert judge(both, sign_note(TEXT, [SIGNER, OTHER])).log_keys == (first_part(SIGNER),)


def test_a_known_line_that_fails_spoils_the_note():
    verifier = W["X1"].verifier
    bad = Signature(name=verifier.name, key_id=verifier.key_id, signature=bytes(72)).line()
    with pytest.raises(BadSignature):
        judge(SPEC, with_lines(cosigned("X2", "X3", "Y1"), bad))
    second = Signature(name=ORIGIN, key_id=SECOND.verifier.key_id, signature=bytes(2428)).line()
    assert judge(SPEC, with_lines(NOTE, second)).log_keys
    with pytest.raises(BadSignature):
        judge(f"{LOG}log {SECOND.vkey}\nquorum none\n", with_lines(NOTE, second))
    moved = with_lines(NOTE, W["X1"].sign(Checkpoint(origin=ORIGIN, size=8, root=HEAD.root).text(), NOW))
    with pytest.raises(BadSignature):
        judge(SPEC, moved)


def test_what_is_no_checkpoint_is_refused():
    with pytest.raises(BadCheckpoint):
        judge(SPEC, sign_note("hello\n", [SIGNER]))
    with pytest.raises(BadNote):
        judge(SPEC, "hello\n")
    with pytest.raises(BadNote):
        judge(SPEC, NOTE + W["X1"].sign(TEXT, NOW) * 1000)


@pytest.mark.parametrize("name", ["X1", "Y3"])
def test_a_cosignature_without_a_time_does_not_count(name):
    key, verifier = W[name].key, W[name].verifier
    message = cosignature_message(TEXT, 0) if name == "X1" else subtree_message(W[name].name, TEXT, 0)
    line = Signature(
        name=verifier.name, key_id=verifier.key_id, signature=bytes(8) + key.sign(message)
    ).line()
    policy = f"{LOG}{WITNESSES}quorum {name}\n"
    trusted = judge(policy, with_lines(NOTE, line))
    assert [each.time for each in trusted.cosigned] == [0]
    assert not trusted.quorum_met
    assert judge(policy, with_lines(NOTE, line) + W[name].sign(TEXT, 1)).quorum_met


def test_one_witness_counts_once():
    policy = f"{LOG}{WITNESSES}group g 2 X1 X2\nquorum g\n"
    note = NOTE + W["X1"].sign(TEXT, NOW) + W["X1"].sign(TEXT, NOW + 1)
    trusted = judge(policy, note)
    assert [each.time for each in trusted.cosigned] == [NOW, NOW + 1]
    assert not trusted.quorum_met


def test_a_witness_may_have_a_key_of_each_type():
    both = MlDsaSigner(name=W["X1"].name, key=W["Y3"].key).vkey
    policy = TrustPolicy.parse(f"{LOG}witness a {X1}\nwitness b {both}\ngroup w any a b\nquorum w\n")
    assert {each.verifier.kind for each in policy.witnesses} == {ED25519_COSIGNATURE, ML_DSA_44}
    assert policy.judge(cosigned("X1")).quorum_met
    assert policy.judge(NOTE + Cosigner(name=W["X1"].name, key=W["Y3"].key).sign(TEXT, 1)).quorum_met


# ── policies made by hand ──


def test_the_shortest_policy():
    assert TrustPolicy(log=(VERIFIER,)).render() == f"{LOG}quorum none\n"
    assert TrustPolicy().render() == "quorum none\n"


X1_ = Witness(name="X1", verifier=W["X1"].verifier)


@pytest.mark.parametrize(
    "policy",
    [
        TrustPolicy(quorum="X1"),
        TrustPolicy(quorum="a b", witnesses=(msgspec.structs.replace(X1_, name="a b"),)),
        TrustPolicy(witnesses=(msgspec.structs.replace(X1_, url="https://a b"),)),
        TrustPolicy(witnesses=(msgspec.structs.replace(X1_, url="https://a "),)),
        TrustPolicy(witnesses=(msgspec.structs.replace(X1_, url=""),)),
        TrustPolicy(witnesses=(msgspec.structs.replace(X1_, url="a\nquorum none"),)),
        TrustPolicy(witnesses=(X1_, X1_)),
        TrustPolicy(witnesses=(Witness(name="w", verifier=VERIFIER),)),
        TrustPolicy(log=(W["X1"].verifier,)),
        TrustPolicy(log=(VERIFIER,), log_urls=("https://a", "https://b")),
        TrustPolicy(log=(Verifier(name="é\u2028".strip(), key=bytes(32)),), log_urls=("\ud800",)),
        TrustPolicy(groups=(Group(name="g", threshold=0, members=()),)),
        TrustPolicy(witnesses=(X1_,), groups=(Group(name="g", threshold=2, members=("X1",)),)),
        TrustPolicy(groups=(Group(name="g", threshold=1, members=("g",)),), quorum="g"),
    ],
    ids=range(14),
)
def test_a_policy_that_no_file_can_hold_is_not_written(policy):
    with pytest.raises(BadTrust):
        policy.render()


@steady
@given(st.data())
def test_round_trip_and_counting(data):
    names = data.draw(st.permutations(sorted(W)))
    names, groups, free = names[: data.draw(st.integers(1, 6))], [], []
    free = list(names)
    for at in range(data.draw(st.integers(0, 3))):
        if not free:
            break
        members = free[: data.draw(st.integers(1, len(free)))]
        free = [*free[len(members) :], f"g{at}"]
        groups.append(
            Group(name=f"g{at}", threshold=data.draw(st.integers(1, len(members))), members=tuple(members))
        )
    policy = TrustPolicy(
        log=(VERIFIER,),
        log_urls=(data.draw(st.sampled_from([None, "https://ledger.example.org/"])),),
        witnesses=tuple(Witness(name=name, verifier=W[name].verifier) for name in names),
        groups=tuple(groups),
        quorum=data.draw(st.sampled_from([*names, *(group.name for group in groups)])),
    )
    assert TrustPolicy.parse(policy.render()) == policy
    present = data.draw(st.sets(st.sampled_from(sorted(W))))

    def met(name):  # the definition, from the top
        found = [group for group in groups if group.name == name]
        return sum(map(met, found[0].members)) >= found[0].threshold if found else name in present

    assert policy.quorum_met(present) is met(policy.quorum)
    known = present & set(names)
    assert policy.judge(cosigned(*sorted(present))).quorum_met is policy.quorum_met(known)


@steady
@given(st.binary(max_size=200), st.integers(0, len(SPEC)), st.integers(0, len(SPEC)))
def test_foreign_bytes_raise_bad_trust_alone(junk, one, other):
    low, high = sorted((one, other))
    raw = SPEC.encode()
    for text in (junk, raw[:low] + junk + raw[high:], raw[low:high]):
        try:
            TrustPolicy.parse(text)
        except LedgerFault as fault:
            assert type(fault) is BadTrust
