"""What makes a policy set unusable, said before it is in force: one sentence with file and policy, and a remedy."""

from __future__ import annotations

import os

import pytest

from muniment.core.errors import Misconfigured
from muniment.policy import starter
from muniment.policy.cedar import CedarPolicy
from muniment.policy.loading import SCHEMA, schema_text
from policy.world import FORBID, PERMIT, policy

APPROVE = 'permit (principal, action == Action::"approve", resource);'

REFUSED = [
    ("no id", PERMIT, "no @id"),
    ("empty id", f'@id("") {PERMIT}', "no @id"),
    ("id without value", f"@id {PERMIT}", "no @id"),
    ("odd id", f'@id("a b") {PERMIT}', "the id 'a b'"),
    ("unknown annotation", f'@id("a") @min_aprovals("2") {PERMIT}', "@min_aprovals"),
    ("annotation twice", f'@id("a") @message("x") @message("y") {PERMIT}', "duplicate annotation"),
    ("annotation without value", f'@id("a") @message {PERMIT}', "@message without a value"),
    ("obligation on a forbid", f'@id("a") @max_duration("1h") {FORBID}', "@max_duration"),
    ("obligation on an approval", f'@id("a") @approvers("owners") {APPROVE}', "@approvers"),
    ("bad value", f'@id("a") @max_duration("long") {PERMIT}', "@max_duration('long')"),
    ("permit for every action", '@id("a") permit (principal, action, resource);', "exactly one action"),
    (
        "permit for two actions",
        '@id("a") permit (principal, action in [Action::"request", Action::"approve"], resource);',
        "exactly one action",
    ),
    ("unknown action", '@id("a") forbid (principal, action == Action::"grant", resource);', "grant"),
    ("unknown attribute", f'@id("a") {PERMIT[:-1]} when {{ context.mins > 3 }};', "mins"),
    ("optional attribute unguarded", f'@id("a") {PERMIT[:-1]} when {{ resource.resource == "x" }};', "optional attribute"),
    ("wrong type", f'@id("a") {PERMIT[:-1]} when {{ context.minutes == "60" }};', "not compatible"),
    ("unknown type", '@id("a") permit (principal is Robot, action == Action::"request", resource);', "Robot"),
    ("machine approves", '@id("a") permit (principal is AiAgent, action == Action::"approve", resource);', "applicable action"),
    ("a manager's groups", f'@id("a") {FORBID[:-1]} when {{ principal is Human && principal has manager && principal.manager in Group::"x" }};', '"in"'),
    ("template", '@id("a") permit (principal == ?principal, action == Action::"request", resource);', "template"),
    ("broken", f'@id("good") {PERMIT}\n@id("a") permit (principal action);', "in the policy after line 1"),
    ("broken at once", "hello", "in its first policy"),
    ("unclosed", f'@id("a") {PERMIT[:-1]}', "x.cedar"),
    ("comments only", "// nothing", "no policy"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "says"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused(tmp_path, text, says):
    (tmp_path / "x.cedar").write_text(text)
    with pytest.raises(Misconfigured) as refused:
        CedarPolicy.load(tmp_path)
    assert says in refused.value.message
    assert refused.value.remedy
    assert refused.value.code == "config.policy"
    if says != "no policy":
        assert refused.value.message.startswith("x.cedar")


def test_a_problem_names_file_and_policy():
    with pytest.raises(Misconfigured) as refused:
        CedarPolicy({"good.cedar": f'@id("ok") {PERMIT}', "bad.cedar": f'@id("fine") {PERMIT} @id("worse") {PERMIT[:-1]} when {{ context.x }};'})  # fmt: skip
    assert refused.value.message.startswith('bad.cedar: policy "worse": ')


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.cedar", b"\xff\xfe", "not UTF-8"),
        ("x.cedar", b"// " + b"x" * (1 << 20), "longer than 1 MiB"),
        ("x.cedar.bak", b"", "not a policy file"),
        ("x.CEDAR", b"", "not a policy file"),
        ("forbid.ceder", b"", "not a policy file"),
        ("schema.cedarschema", b"", "not a policy file"),
    ],
)
def test_files_that_are_refused(tmp_path, name, content, says):
    (tmp_path / "good.cedar").write_text(f'@id("ok") {PERMIT}')
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Misconfigured, match=says) as refused:
        CedarPolicy.load(tmp_path)
    assert name in refused.value.message


def test_folders_and_pipes_are_refused_at_once(tmp_path):
    (tmp_path / "sub.cedar").mkdir()
    with pytest.raises(Misconfigured, match="not a policy file"):
        CedarPolicy.load(tmp_path)
    (tmp_path / "sub.cedar").rmdir()
    os.mkfifo(tmp_path / "pipe.cedar")
    with pytest.raises(Misconfigured, match="not a policy file"):
        CedarPolicy.load(tmp_path)


def test_no_folder_and_an_empty_one(tmp_path):
    with pytest.raises(Misconfigured, match="no policy"):
        CedarPolicy.load(tmp_path)
    with pytest.raises(Misconfigured, match="cannot be read"):
        CedarPolicy.load(tmp_path / "none")


def test_hidden_files_and_notes_may_lie_beside(tmp_path):
    (tmp_path / "good.cedar").write_text(f'@id("ok") {PERMIT}')
    (tmp_path / ".good.cedar.swp").write_bytes(b"\xff")
    (tmp_path / "README.md").write_text("why")
    assert list(CedarPolicy.load(tmp_path).files()) == ["good.cedar", SCHEMA]


def test_a_broken_schema_is_refused():
    with pytest.raises(Misconfigured, match=SCHEMA):
        CedarPolicy({SCHEMA: "entity;", "a.cedar": f'@id("a") {PERMIT}'})


def test_the_digest_covers_names_texts_and_schema():
    base = {"a.cedar": f'@id("a") {PERMIT}', "b.cedar": f'@id("b") {PERMIT}'}
    swapped = {"a.cedar": base["b.cedar"], "b.cedar": base["a.cedar"]}
    joined = {"a.cedar": base["a.cedar"] + base["b.cedar"]}
    spaced = {**base, "a.cedar": base["a.cedar"] + " "}
    schema = {**base, SCHEMA: schema_text() + "\n"}
    digests = [CedarPolicy(files).digest for files in (base, swapped, joined, spaced, schema)]
    assert len(set(digests)) == len(digests)
    assert CedarPolicy(dict(reversed(base.items()))).digest == digests[0]
    assert CedarPolicy(CedarPolicy(base).files()).digest == digests[0]


def test_the_starter_set_loads_from_disk(tmp_path):
    for name, text in starter.files().items():
        (tmp_path / name).write_text(text)
    rules = CedarPolicy.load(tmp_path)
    assert rules.digest == CedarPolicy(starter.files()).digest
    assert {"engineers", "on-call"} <= rules.named_groups()


def test_named_groups_are_those_of_conditions_and_approvers():
    rules = policy(
        '@id("a") @approvers("group:leads, owners, human:cyd@example.com") permit (principal in Group::"dba", action == '
        'Action::"request", resource) unless { principal in Group::"interns" };'
    )
    assert rules.named_groups() == {"leads", "dba", "interns"}
