package main

// V4 in its most important rules, and V5.

import (
	"encoding/json"
	"time"
)

const skew = 300 * time.Second

// A ticket is what the rules need to know of it.
type ticket struct {
	people   map[string]bool // who asked, for whom, and who answers for them: none of them approves
	own      map[string]bool // who asked, and for whom: nor do these agree, where owners may
	asker    string
	consent  map[string]bool // the stages in which owners agree
	glass    bool
	permit   bool
	approved bool
	voices   map[string]bool
	ends     time.Time
	needed   int
	proposer string // who proposed to lift a disablement, where the stream is one of those
}

type data struct {
	Terms struct {
		Requester   string `json:"requester"`
		Beneficiary string `json:"beneficiary"`
		Kind        string `json:"kind"`
	} `json:"terms"`
	Accountable []string `json:"accountable"`
	Approver    string   `json:"approver"`
	Decision    string   `json:"decision"`
	Reviewer    string   `json:"reviewer"`
	Outcome     string   `json:"outcome"`
	ExpiresAt   string   `json:"expires_at"`
	LastAt      string   `json:"last_at"`
	Permitted   bool     `json:"permitted"`
	Stage       string   `json:"stage"`
	ProposedBy  string   `json:"proposed_by"`
	Obligations struct {
		Stages []struct {
			Name      string   `json:"name"`
			Needed    int      `json:"needed"`
			Approvers []string `json:"approvers"`
			Consent   bool     `json:"consent"`
		} `json:"stages"`
	} `json:"obligations"`
}

// rules: nobody alone, nothing without approval, nothing after its end.
func rules(entries []*entry) error {
	tickets := map[string]*ticket{}
	two := false // it takes two people to change what holds
	for _, each := range entries {
		said := data{}
		json.Unmarshal(each.Data, &said)
		t := tickets[each.Ticket]
		if t == nil {
			t = &ticket{people: map[string]bool{}, own: map[string]bool{}, voices: map[string]bool{}}
			tickets[each.Ticket] = t
		}
		switch each.Type {
		case "request-submitted/1":
			t.glass = said.Terms.Kind == "break_glass"
			for _, person := range append(said.Accountable, said.Terms.Requester, said.Terms.Beneficiary) {
				t.people[person] = true
			}
			t.asker = said.Terms.Requester
			t.own[said.Terms.Requester], t.own[said.Terms.Beneficiary] = true, true
		case "policy-decided/1":
			t.permit = said.Permitted
			t.needed, t.consent = 0, map[string]bool{}
			for _, stage := range said.Obligations.Stages {
				t.needed += stage.Needed
				t.consent[stage.Name] = stage.Consent
				for _, owner := range stage.Approvers {
					if stage.Consent && owner == t.asker { // asking is agreeing
						t.needed--
					}
				}
			}
		case "counter-accepted/1": // other terms: judged and approved anew
			t.permit, t.voices = false, map[string]bool{}
		case "approval-recorded/1":
			stake := t.people
			if t.consent[said.Stage] {
				stake = t.own
			}
			if stake[said.Approver] || each.Actor.ID != said.Approver {
				return wrong("leaf %d: %s approves their own ticket %q, or for somebody else", each.index, said.Approver, each.Ticket)
			}
			if said.Decision == "approve" {
				t.voices[said.Approver] = true
			}
		case "request-approved/1":
			// of a broken glass, approvals come afterwards
			if !t.permit || (!t.glass && len(t.voices) < t.needed) {
				return wrong("leaf %d: ticket %q is approved by %d, and needs %d", each.index, each.Ticket, len(t.voices), t.needed)
			}
			t.approved = true
		case "provisioning-started/1":
			if !t.permit || !t.approved {
				return wrong("leaf %d: ticket %q was not approved", each.index, each.Ticket)
			}
			t.ends, _ = time.Parse(time.RFC3339Nano, said.ExpiresAt)
		case "grant-observed/1":
			if t.ends.IsZero() {
				return wrong("leaf %d: ticket %q was never to be given", each.index, each.Ticket)
			}
		case "use-observed/1":
			if used, err := time.Parse(time.RFC3339Nano, said.LastAt); err != nil || used.After(t.ends.Add(time.Second)) {
				return wrong("leaf %d: ticket %q was used after its end", each.index, each.Ticket)
			}
		case "request-closed/1":
			if t.glass && said.Outcome == "closed" && len(t.voices) < t.needed {
				return wrong("leaf %d: ticket %q broke the glass, is closed with %d approvals, and needs %d", each.index, each.Ticket, len(t.voices), t.needed)
			}
		case "settings-adopted/1":
			two = true
		case "lift-proposed/1":
			t.proposer = each.Actor.ID
		case "lift-agreed/1":
			if said.ProposedBy == "" && two {
				return wrong("leaf %d: %s lifted a disablement alone", each.index, each.Actor.ID)
			}
			if said.ProposedBy != "" && (said.ProposedBy != t.proposer || said.ProposedBy == each.Actor.ID) {
				return wrong("leaf %d: %s lifted a disablement, and nobody else had proposed it", each.index, each.Actor.ID)
			}
			t.proposer = ""
		case "review-recorded/1":
			if t.people[said.Reviewer] || each.Actor.ID != said.Reviewer {
				return wrong("leaf %d: %s reviews their own ticket %q", each.index, said.Reviewer, each.Ticket)
			}
		}
	}
	return nil
}

// times: no later than any checkpoint that has the entry was cosigned, no earlier than one that has it not.
func times(entries []*entry, heads []*head) error {
	last := map[string]time.Time{}
	anchored := false
	for _, each := range entries {
		var latest, earliest int64 = 1 << 62, 0
		for _, h := range heads {
			for _, at := range h.times {
				anchored = true
				if h.tree.N > int64(each.index) && at < latest {
					latest = at
				}
			}
		}
		for _, h := range heads {
			for _, at := range h.times {
				// one made late, after something that has the entry, says nothing of when it came
				if h.tree.N <= int64(each.index) && at > earliest && at <= latest {
					earliest = at
				}
			}
		}
		if !anchored {
			return nil
		}
		if latest < 1<<62 && each.time.After(time.Unix(latest, 0).Add(skew)) {
			return wrong("leaf %d: it says %s, and was there before", each.index, each.At)
		}
		if each.time.Before(time.Unix(earliest, 0).Add(-skew)) {
			return wrong("leaf %d: it says %s, and was not there yet", each.index, each.At)
		}
		if each.time.Before(last[each.Ticket].Add(-skew)) {
			return wrong("leaf %d: in ticket %q time runs backwards", each.index, each.Ticket)
		}
		if each.time.After(last[each.Ticket]) {
			last[each.Ticket] = each.time
		}
	}
	return nil
}
