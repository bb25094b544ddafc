"""Every known failure of such systems, the rule that keeps it away here, and the tests that fail without the rule.

`without` names one break of the source, as `tools/mutate.py` makes it: file, and the condition or call that is taken out.
`python tools/mutate.py regressions` takes each out in turn and sees that every test in `tests` fails. Where nothing can
be taken out, `without` is a sentence that says why. `beside` are tests that hold the same from another side.
"""

from __future__ import annotations

from dataclasses import dataclass

HERE = "tests/regressions/test_decisions.py::"
LINKED = "tests/service/test_linked.py::"
CHANGES = "tests/acceptance/test_cli_changes.py::"


@dataclass(frozen=True)
class Failure:
    """One row."""

    name: str  # F-number, or repository and number
    happened: str
    rule: str
    without: tuple[str, str] | str
    tests: tuple[str, ...]
    beside: tuple[str, ...] = ()


FAILURES = (
    # ── approval ──
    Failure(
        "F1", "the requester wrote the approver's fields", "a request says what is asked, and nothing unknown is taken",
        "the types have no such field, and unknown members are refused: there is no check that could be left out",
        (HERE + "test_f1_a_request_carries_no_approval_and_no_status",),
        ("tests/api/test_bodies.py::test_a_member_that_nobody_knows_is_refused",),
    ),
    Failure(
        "F2", "a user approved his own access, or anyone's", "whoever approves is in a stage that policy named",
        ("core/approving.py", "if authority is None or not mine: always False"),
        (HERE + "test_f2_a_user_does_not_approve_his_own_nor_anyones",),
        ("tests/core/test_lifecycle_table.py::test_who_may_do_what",),
    ),
    Failure(
        "F3", "an approval stood for terms that changed after it", "an approval is for the digest of the terms",
        ("core/approving.py", "if digest != ticket.digest: always False"),
        (
            "tests/core/test_terms.py::test_an_approval_of_other_terms_is_refused",
            LINKED + "test_an_offer_is_accepted_approved_and_given",
        ),
        (HERE + "test_f3_changed_after_the_approval_it_is_not_given",),
    ),
    Failure(
        "F3", "approvals were taken away a moment after the change", "what changes the terms voids the approvals in itself",
        "there is no second step that could come late: the fold of that event leaves no approval",
        (HERE + "test_f3_changed_after_the_approval_it_is_not_given",),
        ("tests/core/test_countering.py::test_accepted_it_is_the_request_and_every_approval_begins_anew",),
    ),
    Failure(
        "F4", "who sent the event was judged, not who wrote it", "a request is filed by its requester",
        (
            "core/filing.py",
            "if facts.actor is None or facts.actor.id != terms.requester or verdict is None: always False",
        ),
        ("tests/core/test_filing.py::test_who_may_file",),
    ),
    Failure(
        "F4", "a check that failed was skipped", "a policy that cannot be evaluated is a no",
        ("policy/engine.py", "allowed and (not errors): And → Or"),
        (HERE + "test_f4_an_error_in_the_check_is_a_no",),
        (
            HERE + "test_f4_withdrawn_and_filed_again_it_needs_its_approval_again",
            "tests/core/test_deciding.py::test_any_walk",
        ),
    ),
    Failure(
        "F5", "an approval of stale state was a second grant", "an entry is only appended to the version that was read",
        ("store/appending.py", "if versions[append.stream.id] != append.stream.version: always False"),
        ("tests/store/test_appending.py::test_a_version_that_is_not_current_is_a_conflict",),
        (
            HERE + "test_f5_two_approvals_and_a_rejection_at_once_one_wins",
            "tests/api/test_once.py::test_a_race_to_approve",
        ),
    ),
    Failure(
        "F6", "the approver changed what was asked while approving", "an approval has no field for it",
        "the types have no such field, and unknown members are refused",
        (HERE + "test_f6_an_approval_has_no_field_for_scope_type_or_end",),
        ("tests/api/test_bodies.py::test_an_approval_cannot_carry_scope_or_time",),
    ),
    Failure(
        "F6", "anybody edited when it should end", "no command moves an end; more time is another ticket",
        "there is no such command",
        (HERE + "test_f6_no_command_moves_an_end",),
        ("tests/core/test_countering.py::test_an_offer_is_for_less_or_none",),
    ),
    Failure(
        "F7", "a link that a mail scanner followed approved", "nothing that changes something answers GET",
        "each route names its method, and the table of routes is looked at as a whole",
        ("tests/api/test_who_may_call.py::test_what_changes_something_is_never_a_get",),
    ),
    Failure(
        "F7", "a link approved an empty ticket", "nothing is asked for without a scope",
        ("core/filing.py", "if not terms.scope: always False"),
        ("tests/core/test_filing.py::test_at_its_edge",),
        (
            HERE + "test_f7_an_empty_scope_is_not_asked_for",
            "tests/api/test_who_may_call.py::test_what_changes_something_is_never_a_get",
        ),
    ),
    Failure(
        "F8", "whoever manages users gave himself a group that approves", "members of approver groups are adopted by two",
        ("service/in_force.py", "without if identity.id in agreed.get(f'group:{g}', (identity.id,))"),
        (CHANGES + "test_joining_a_group_that_approves_takes_two_and_leaving_it_nobody",),
        (CHANGES + "test_nobody_makes_themselves_an_operator",),
    ),
    Failure(
        "F8", "the owner of a list let himself in", "who may agree to changes is adopted by two",
        ("service/in_force.py", "without if agreed is None or each in agreed"),
        (CHANGES + "test_who_may_agree_to_changes_is_itself_a_change",),
        (CHANGES + "test_where_a_target_is_reached_is_a_change_too",),
    ),
    Failure(
        "F8", "one person changed what others rely on", "who proposed a change does not adopt it",
        ("service/changes.py", "without _require_second(desk, caller, change)"),
        (CHANGES + "test_a_change_holds_once_a_second_person_agreed",),
    ),
    Failure(
        "F8", "letter case hid what was asked for", "a privilege is asked for as the catalogue spells it",
        ("service/filing.py", "if item not in catalogue: always False"),
        (HERE + "test_f8_another_spelling_of_a_privilege_is_none",),
    ),
    Failure(
        "F9", "of N items one was checked N times", "each item of a bundle is judged by itself when it is filed",
        ("core/filing.py", "if not verdict.permitted or obligations is None: always False"),
        (LINKED + "test_f9_one_item_of_a_bundle_is_not_allowed_whichever",),
        ("tests/policy/test_judging.py",),
    ),
    Failure(
        "F9", "an item that is not allowed any more was given", "… and again when it is given",
        ("core/fulfilling.py", "if verdict is None or not verdict.permitted or (not facts.active): always False"),
        (
            LINKED + "test_f9_one_item_is_no_longer_allowed_when_it_is_to_be_given",
            HERE + "test_future_access_does_not_outlive_what_it_rested_on",
        ),
    ),
    # ── identity ──
    Failure(
        "F18", "another spelling was another person", "a name has one spelling, or is refused",
        ("core/identity.py", "if not wanted.fullmatch(name) or len(name) > MAX_NAME: always False"),
        (HERE + "test_f18_names_that_look_alike_or_are_cut_are_refused",),
        (
            HERE + "test_f8_f18_another_spelling_or_alias_is_the_same_person",
            HERE + "test_f18_a_name_that_the_target_would_cut_is_refused",
            "tests/directory/test_relations.py::test_letter_case_makes_no_second_person",
        ),
    ),
    Failure(
        "F18", "a long name was cut to another's", "a name that the target would cut is refused",
        ("core/text.py", "if len(value.encode('utf-8', 'surrogatepass')) > limit: always False"),
        (HERE + "test_f18_a_name_that_the_target_would_cut_is_refused",),
        ("tests/integration/test_postgresql_connector.py",),
    ),
    Failure(
        "F20", "permissions were OR-ed", "every question about a request is answered yes, or it is denied",
        ("policy/cedar.py", "if denied: always False"),
        (HERE + "test_f20_one_no_among_yeses_is_a_no",),
        ("tests/policy/test_judging.py::test_one_refused_at_every_position",),
    ),
    Failure(
        "F20", "a way in without a login", "only whom the directory knows acts",
        ("service/desk.py", "if found is None: always False"),
        (HERE + "test_f20_nobody_unknown_acts",),
        ("tests/api/test_who_may_call.py::test_nobody_known",),
    ),
    Failure(
        "F20", "a resource was not bound to who may have it", "what one may not see is not there",
        ("service/desk.py", "if ticket is None or not self.may_see(ticket, caller): always False"),
        (HERE + "test_f20_what_one_may_not_see_is_not_there",),
        ("tests/api/test_who_may_call.py::test_what_one_may_not_see_is_not_there",),
    ),
    Failure(
        "F24", "disabled people got access", "who left is looked for, and what they hold ends",
        ("service/offboarding.py", "if not answered_for(desk.subject(identity.id)): always False"),
        (HERE + "test_f24_disabled_on_the_way_nothing_is_given_and_what_was_given_ends",),
        ("tests/faults/test_leaving.py::test_live_access_ends_as_offboarded",),
    ),
    Failure(
        "F24", "disabled people got tokens", "who is deactivated is nobody who acts",
        ("service/desk.py", "if not found.active: always False"),
        (HERE + "test_f24_disabled_on_the_way_nothing_is_given_and_what_was_given_ends",),
        ("tests/api/test_who_may_call.py::test_somebody_deactivated",),
    ),
    Failure(
        "F24", "tokens had no end", "a token has one, which is looked at each time",
        ("service/tokens.py", "if row.expires_at <= now: always False"),
        (HERE + "test_f24_a_token_that_was_good_is_not_taken_again",),
        ("tests/api/test_who_may_call.py::test_credentials_that_are_not_good",),
    ),
    Failure(
        "F24", "an old token was taken again", "a token that was revoked is none",
        ("service/tokens.py", "if row.revoked_at is not None: always False"),
        (HERE + "test_f24_a_token_that_was_good_is_not_taken_again",),
        ("tests/api/test_who_may_call.py::test_credentials_that_are_not_good",),
    ),
    Failure(
        "F24", "the word of somebody who left still counted", "approvals are looked at again when access is given",
        ("core/fulfilling.py", "if fallen: always False"),
        (HERE + "test_f24_an_approver_who_left_has_approved_nothing",),
    ),
    # ── landscape, section 3, in its order ──
    Failure(
        "discord/access 119", "ended here, still there", "a ticket closes when its access is seen gone",
        ("service/taking.py", "if still: always False"),
        (HERE + "test_ended_here_and_still_there_is_not_closed",),
        ("tests/faults/test_lies.py::test_a_revocation_that_did_nothing_does_not_close",),
    ),
    Failure(
        "discord/access fan-out, JumpServer", "fulfilment failed with a line in a log", "what came of giving is an event",
        ("service/giving.py", "without f.settle(desk, seen, appends, progress)"),
        (HERE + "test_a_fulfilment_that_failed_is_on_record_and_not_just_in_a_log",),
    ),
    Failure(
        "TEAM Grant", "accepted was recorded as granted", "only what is read back is active",
        ("core/fulfilling.py", "if comparison.exact: always True"),
        (HERE + "test_accepted_is_not_granted",),
        ("tests/faults/test_lies.py::test_nothing_done_is_not_active",),
    ),
    Failure(
        "TEAM 255", "a revocation that failed was not tried again", "what is revoking is due, without end",
        "nothing counts attempts: being due follows from the status alone",
        (HERE + "test_a_revocation_that_failed_stays_due",),
        ("tests/faults/test_revoking.py::test_attempts_go_on_without_end_and_never_pause_longer_than_a_minute",),
    ),
    Failure(
        "TEAM 149, SSO Elevator 49", "an upgrade lost the timers of live grants", "an end is state, and no timer",
        "there is no timer that could be lost: a new process reads what is due",
        (HERE + "test_a_new_process_ends_what_the_old_one_gave",),
        ("tests/faults/test_races.py::test_a_stopped_controller_process_gives_its_work_to_the_next",),
    ),
    Failure(
        "TEAM 279, 513", "the first end of two removed both", "what another ticket gives stays",
        ("service/taking.py", "without if p not in staying and (work.account, str(p)) not in taken"),
        ("tests/faults/test_overlap.py::test_ending_one_keeps_it_and_ending_the_last_removes_it",),
        (LINKED + "test_no_gap_and_one_end",),
    ),
    Failure(
        "TEAM 398", "said to be revoked, and not written", "nobody is told what is not durable",
        ("service/desk.py", "without self.store.append(Append("),
        (HERE + "test_what_could_not_be_written_is_not_said_to_be_done",),
        ("tests/faults/test_store_down.py",),
    ),
    Failure(
        "SSO Elevator 47", "two approvals, two revocations", "an entry is only appended to the version that was read",
        ("store/appending.py", "if versions[append.stream.id] != append.stream.version: always False"),
        ("tests/store/test_appending.py::test_a_version_that_is_not_current_is_a_conflict",),
        (HERE + "test_two_approvers_click_together_one_grant_and_one_end",),
    ),
    Failure(
        "TEAM 585", "an approver group that is gone broke requests", "a stage that nobody can satisfy is said",
        ("service/approvers.py", "without if stage in empty"),
        (HERE + "test_an_approver_group_that_is_gone_is_said_and_breaks_nothing_else",),
    ),
    Failure(
        "TEAM 176", "only the first approver group was read", "each group of a stage counts",
        ("policy/cedar.py", "not mine.isdisjoint(stage.approvers): without not"),
        (HERE + "test_every_approver_group_is_read",),
    ),
    Failure(
        "openbao 3814, 3815", "nested members were none, and a like name was another's", "groups are resolved, by full name",
        ("directory/parsing.py", "without nested.setdefault(inner, []).append(parse_group(key))"),
        (HERE + "test_nested_members_are_members_and_a_like_named_group_is_another",),
    ),
    Failure(
        "openbao 3601, teleport 67387", "the approver did not see what is approved", "approvers see the whole request",
        ("core/visibility.py", "keys.isdisjoint(viewers(ticket)) and received.isdisjoint(stages): And → Or"),
        (HERE + "test_an_approver_sees_what_is_approved",),
    ),
    Failure(
        "teleport 7663, 41504", "self-approval by another door", "nobody decides on their own, in the core",
        ("core/separation.py", "if own: always False"),
        (
            HERE + "test_self_approval_by_another_door",
            HERE + "test_f8_f18_another_spelling_or_alias_is_the_same_person",
        ),
        ("tests/directory/test_relations.py::test_nobody_decides_for_himself_and_each_counts_once",),
    ),
    Failure(
        "teleport 7078", "a request was deleted without a trace", "no command deletes, and the database refuses",
        "there is nothing that deletes",
        (HERE + "test_no_command_deletes_a_ticket",),
        ("tests/store/test_foreign_sql.py::test_the_trigger_says_so_to_whoever_forgets",),
    ),
    Failure(
        "teleport 49456", "a role that is missing skipped a rule that forbids", "a policy that errs is a no",
        ("policy/engine.py", "allowed and (not errors): And → Or"),
        (HERE + "test_f4_an_error_in_the_check_is_a_no",),
        ("tests/faults/test_answers.py::test_rejected_is_the_end_and_nothing_stays",),
    ),
    Failure(
        "glide 91", "a connector was deleted while grants were active", "what is needed to take back cannot go unsaid",
        ("service/registry.py", "if target_id in desk.views.live_targets(): always False"),
        (HERE + "test_a_target_that_left_the_configuration_is_said_while_access_lives",),
    ),
    Failure(
        "vault 29392, 3154", "what was deleted in the target could never be revoked", "absent is gone",
        "targets are asked what they hold; that something was deleted is no error",
        ("tests/faults/test_revoking.py::test_what_was_dropped_by_hand_is_gone",),
    ),
    Failure(
        "jit-groups 145", "a grant for later outlived what it rested on", "authority is judged again when it is given",
        ("core/fulfilling.py", "if verdict is None or not verdict.permitted or (not facts.active): always False"),
        (HERE + "test_future_access_does_not_outlive_what_it_rested_on",),
        ("tests/faults/test_rejudging.py::test_policy_became_stricter",),
    ),
    Failure(
        "jumpserver 13674", "a ticket whose time was over could be approved", "what lapsed is not approved",
        ("core/approving.py", "if ticket.status == 'pending' and now >= ticket.lapses_at: always False"),
        (HERE + "test_a_request_whose_time_is_over_cannot_be_approved",),
    ),
    Failure(
        "SSO Elevator 193", "each first request was refused", "nothing asks whether somebody had access before",
        "there is no such check",
        (HERE + "test_a_first_request_is_no_reason_to_refuse",),
    ),
    Failure(
        "clock skew, DST, NTP", "no good report was found", "time never runs back, and forward only shortens",
        ("store/clock.py", "max(lower, said or lower): max → min"),
        ("tests/store/test_clock.py::test_a_step_back_extends_nothing",),
        ("tests/faults/test_time.py::test_back_never_extends", "tests/faults/test_time.py::test_forward_only_shortens"),
    ),
)  # fmt: skip
