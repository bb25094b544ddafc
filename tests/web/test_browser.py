"""The pages in a real browser: a ticket's whole life by two people, by mouse and by keyboard, in every size and light."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, Route, expect

from muniment.core.campaign_items import Selection
from muniment.ledger.keys import signer_from_seed
from muniment.service import certifying
from muniment.service.certifying import Opening
from muniment.service.login_links import make
from muniment.service.sealing import seal
from muniment.service.trends import Month, Spread
from web.conftest import ANN, AUD, BO, CYD, KEY, OPS, Pages

pytestmark = pytest.mark.xdist_group("web")  # one server, one provider, one browser
SHOTS = Path(__file__).parents[2] / "docs/screenshots"


@pytest.fixture
def watched(pages: Pages) -> Any:
    """Pages that say nothing on the console and ask nobody but us."""
    said: list[str] = []
    opened: list[Page] = []

    def person(who: str, **how: Any) -> Page:
        page = pages.person(who, **how)
        opened.append(page)
        page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request",
            lambda r: said.append(r.url) if not r.url.startswith((pages.url, "data:", "blob:")) else None,
        )
        return page

    yield person
    for page in opened:  # each follows the stream, and a browser has six connections to a server
        page.close()
    assert said == []


def test_a_tickets_whole_life_by_two_people(pages: Pages, watched: Callable[..., Page]) -> None:
    ticket = pages.filed(privileges=["refunds"])
    approver = watched(CYD)
    approver.goto("/")
    approver.get_by_role("link", name=re.compile("^Decide: Ann Archer")).first.click()
    expect(approver.get_by_role("heading", name="Your decision")).to_be_visible()
    approver.goto(f"/requests/{ticket.id}")
    approver.get_by_label("Comment").fill("Fine, until the evening.")
    approver.get_by_role("button", name="Approve").click()
    expect(approver.get_by_role("status")).to_contain_text("You approved this request")
    pages.pursued(ticket)
    holds = "SELECT pg_has_role('ann', 'refunds', 'MEMBER')"
    assert pages.ask(holds) == [(True,)]
    asker = watched(ANN)
    asker.goto("/")
    card = asker.locator(".access", has=asker.locator(f'a[href="/requests/{ticket.id}"]'))
    expect(card.locator("[data-left]")).to_contain_text("1 h 5")
    card.get_by_role("button", name=re.compile("Give back")).click()
    expect(asker.get_by_role("status")).to_contain_text("You gave it back")
    pages.pursued(ticket)
    assert pages.ask(holds) == [(False,)]
    asker.reload()
    expect(asker.locator(".chip").first).to_have_text("Closed")
    story = asker.locator(".event-title").all_inner_texts()
    assert story == [
        "Ann Archer asked for refunds", "Policy lets it go on", "Cyd Moreau approved",
        "Everybody who had to agree has agreed", "Muniment begins to give it",
        "Seen on the target: exactly what was approved", "Ann Archer gave it back", "Seen on the target: it is gone", "Closed",
    ]  # fmt: skip
    with asker.expect_download() as download:
        asker.get_by_role("link", name="Download the evidence").click()
    assert download.value.suggested_filename == f"{ticket.id}.zip"
    assert Path(download.value.path()).read_bytes()[:2] == b"PK"


def test_somebody_finds_what_they_need_sees_who_decides_and_files_it(
    pages: Pages, watched: Callable[..., Page]
) -> None:
    page = watched(ANN)
    page.goto("/")
    page.get_by_role("link", name="Ask for access").click()
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("orders read")
    expect(page.locator("#found .line")).to_have_count(2)
    page.get_by_role("link", name=re.compile("^orders_ro")).click()
    preview = page.locator("#preview")
    expect(preview).to_contain_text("You can ask for this")
    page.get_by_label("Another time").fill("6h")
    expect(preview).to_contain_text("This would be refused")
    page.get_by_label("Another time").fill("")
    page.get_by_label("30 min").check()
    expect(preview).to_contain_text("You can ask for this")
    page.get_by_label("What you will do").fill("Count the refunds of this week.")
    page.get_by_role("button", name="File the request").click()
    expect(page.get_by_role("status")).to_contain_text("Your request is filed")
    expect(page.locator("h1")).to_have_text("orders_ro on pg-prod")


def test_glass_is_broken_on_a_way_of_its_own(pages: Pages, watched: Callable[..., Page]) -> None:
    page = watched(BO)
    page.goto("/ask")
    page.get_by_role("link", name="Emergency: break the glass").click()
    page.get_by_role("link", name=re.compile("pg-prod")).click()
    page.get_by_label("reporting").check()
    page.get_by_label("Incident").fill("INC-7")
    page.get_by_label("What is broken").fill("The reports of the night are missing.")
    page.get_by_role("button", name="Break the glass now").click()
    expect(page.locator(".head .is-glass")).to_have_text("break-glass")
    ticket = pages.desk.store.read(page.url.split("/")[-1].partition("?")[0])[1]
    pages.pursued(ticket)
    page.goto(f"/requests/{ticket.id}")
    expect(page.locator(".head .chip")).to_have_text("Active")
    page.get_by_role("button", name="Give back now").click()
    pages.pursued(ticket)
    looks_back = watched(CYD)
    looks_back.goto(f"/requests/{ticket.id}")
    expect(looks_back.locator(".head .chip")).to_have_text("Gone")
    looks_back.get_by_label("What did you find?").fill(
        "The reports were made again; nothing else was touched."
    )
    looks_back.get_by_role("button", name="Appropriate", exact=True).click()
    expect(looks_back.get_by_role("status")).to_contain_text("Your review is recorded")


def test_what_others_do_appears_by_itself(pages: Pages, watched: Callable[..., Page]) -> None:
    ticket = pages.filed(BO, privileges=["reporting"])
    page = watched(BO)
    with page.expect_request("**/v1/stream"):
        page.goto(f"/requests/{ticket.id}")
    expect(page.locator(".head .chip")).to_have_text("Waiting")
    pages.given(ticket)
    expect(page.locator(".head .chip")).to_have_text("Active")


def verified(page: Page, key: str) -> Locator:
    page.get_by_label("The ledger's key").fill(key)
    page.get_by_role("button", name="Verify").click()
    result = page.locator("[data-result]")
    expect(result).to_contain_text(re.compile("verify|sealed entries"))
    return result


def answered(body: str, route: Route) -> None:
    route.fulfill(body=body, content_type="application/json")


def test_seals_are_verified_in_the_browser_and_what_was_tampered_with_is_refused(
    pages: Pages, watched: Callable[..., Page]
) -> None:
    ticket = pages.given(pages.filed(privileges=["reporting"]))
    key = pages.desk.verifiers[0].vkey
    page = watched(ANN)
    page.goto(f"/requests/{ticket.id}")
    page.get_by_text("Verify it in this browser").click()
    expect(verified(page, key)).to_contain_text(f"All {ticket.version} sealed entries")
    expect(page.locator(".sealed")).to_have_count(ticket.version)
    proof = page.request.get(f"/requests/{ticket.id}/proof").json()
    other = signer_from_seed(pages.desk.store.origin, bytes(32)).verifier.vkey

    def changed(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        copy = json.loads(json.dumps(proof))
        change(copy)
        return copy

    def body(text: str, by: str) -> Callable[[dict[str, Any]], None]:
        return lambda d: d["entries"][0].update(entry=d["entries"][0]["entry"].replace(text, by))

    wrong: dict[str, tuple[dict[str, Any], str]] = {
        "another key": (proof, other),
        "a key that was mistyped": (proof, key[:-4] + "AAA="),
        "who asked": (changed(body("human:ann", "human:bob")), key),
        "a place in the tree": (
            changed(lambda d: d["entries"][1].update(index=d["entries"][1]["index"] + 1)),
            key,
        ),
        "a hash of the proof": (changed(lambda d: d["entries"][0]["hashes"].reverse()), key),
        "a proof that is too short": (changed(lambda d: d["entries"][0]["hashes"].pop()), key),
        "a proof that is too long": (
            changed(lambda d: d["entries"][0]["hashes"].append(d["entries"][0]["hashes"][0])),
            key,
        ),
        "an entry that is left out": (changed(lambda d: d["entries"].pop(1)), key),
        "two entries in another order": (changed(lambda d: d["entries"].insert(0, d["entries"].pop(1))), key),
        "the size of the tree": (
            changed(lambda d: d.update(checkpoint=d["checkpoint"].replace("\n", "\n1", 1))),
            key,
        ),
        "no signature": (
            changed(lambda d: d.update(checkpoint=d["checkpoint"].partition("\n\n")[0] + "\n\n")),
            key,
        ),
        "another ticket": (changed(lambda d: d.update(ticket="req_other")), key),
    }
    for name, (document, with_key) in wrong.items():
        page.route("**/proof", partial(answered, json.dumps(document)))
        expect(verified(page, with_key), name).to_contain_text("Does not verify")
        expect(page.locator(".sealed"), name).to_have_count(0)
        page.unroute("**/proof")
    expect(verified(page, key)).to_contain_text("sealed entries")


def test_a_passkey_approves_what_needs_a_signature(pages: Pages, watched: Callable[..., Page]) -> None:
    page = watched(CYD)
    devices = page.context.new_cdp_session(page)
    devices.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
        "isUserVerified": True, "automaticPresenceSimulation": True,
    }  # fmt: skip
    devices.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    page.goto("/auth/passkeys")
    page.get_by_role("button", name="Make a passkey").click()
    line = page.locator("#said")
    expect(line).to_contain_text("sk-ecdsa")
    people = pages.place.api.folder / "identities.toml"
    whole = people.read_text()
    head = '[identities."human:cyd@example.com"]\n'
    people.write_text(whole.replace(head, f"{head}ssh_keys = ['{line.inner_text()}']\n"))
    assert pages.desk.directory.reload_if_changed()
    ticket = pages.filed(target="bastion", privileges=["root"], public_key=KEY, duration=timedelta(hours=1))
    page.goto(f"/requests/{ticket.id}")
    page.get_by_label("Comment").fill("With my own hand.")
    page.get_by_role("button", name="Approve with your passkey").click()
    expect(page.get_by_role("status").first).to_contain_text("You approved this request")
    decision = pages.desk.store.read(ticket.id)[1].decisions[0]
    assert decision.approver == CYD
    assert decision.signature
    assert decision.signature.startswith("-----BEGIN SSH SIGNATURE-----")
    expect(page.locator(".event-fact", has_text="Signed with a key of their own")).to_be_visible()


def test_a_program_is_let_in_by_its_code(pages: Pages, watched: Callable[..., Page]) -> None:
    """Browsers send no origin from a page whose policy is "no-referrer"; then the form would be nobody's."""
    begun = pages.place.api.http.post("/auth/device", data={"client_id": "muniment-cli"}).json()
    page = watched(ANN)
    page.goto(f"/auth/device?user_code={begun['user_code']}")
    page.get_by_role("button", name="Yes, let it in").click()
    expect(page.get_by_role("heading")).to_have_text("Done")


def test_by_keyboard_alone(pages: Pages, watched: Callable[..., Page]) -> None:
    ticket = pages.filed(privileges=["orders_ro"])
    page = watched(CYD)
    page.goto(f"/requests/{ticket.id}")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('textarea[name=comment]')"):
            break
    page.keyboard.type("By keyboard.")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("You approved")
    assert pages.desk.store.read(ticket.id)[1].status == "approved"


def test_home_follows_what_others_do(pages: Pages, watched: Callable[..., Page]) -> None:
    page = watched(CYD)
    with page.expect_request("**/v1/stream"):
        page.goto("/")
    ticket = pages.filed(BO, privileges=["orders_ro"], justification="Appears by itself.")
    seal(pages.desk)
    expect(page.locator(f'a[href="/requests/{ticket.id}"]').first).to_be_visible()


def test_a_zone_that_was_chosen_stays(pages: Pages, watched: Callable[..., Page]) -> None:
    ticket = pages.filed(privileges=["orders_ro"])
    page = watched(ANN)
    page.goto(f"/requests/{ticket.id}")
    expect(page.locator(".event-at time").first).to_contain_text("UTC")
    page.locator("[data-zone]").click()
    page.reload()
    expect(page.locator("[data-zone]")).not_to_be_empty()
    assert page.evaluate("localStorage.getItem('muniment-zone')") == "local"
    page.locator("[data-zone]").click()


def test_a_ticket_on_paper_is_light_whole_and_says_exactly_when(
    pages: Pages, watched: Callable[..., Page]
) -> None:
    ticket = pages.given(pages.filed(privileges=["orders_ro"]))
    page = watched(ANN, theme="dark")
    page.goto(f"/requests/{ticket.id}")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    ink = page.evaluate("getComputedStyle(document.querySelector('h1')).color")
    assert sum(map(int, re.findall(r"\d+", ink)[:3])) < 200, ink
    for hidden in (".top", ".panel", ".foot"):
        assert page.locator(hidden).first.is_hidden()
    assert page.locator(".event-title").first.is_visible()
    page.emulate_media(media="screen")


def test_a_link_signs_in_and_leaves_nothing_in_the_address(pages: Pages, chromium: Browser) -> None:
    """Here beside a provider: an operator has said so."""
    signin = pages.place.api.office.signin
    assert signin
    pages.place.api.office.signin = replace(signin, links=True)
    try:
        link = str(make(pages.desk, None, ANN, pages.url)["link"])
        context = chromium.new_context(base_url=pages.url)
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.goto(link)
        expect(page.get_by_text("Your link is good for one sign-in")).to_be_visible()
        assert "mnt_" not in page.url
        expect(page.get_by_label("The link, or what stands")).to_be_hidden()
        assert Axe().run(page).violations_count == 0
        pictured(page, "sign-in-light")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Hello, Ann Archer")).to_be_visible()
        again = context.new_page()
        again.goto(link)
        again.get_by_role("button", name="Sign in").click()
        expect(again.get_by_role("alert")).to_contain_text("used already")
        context.close()
    finally:
        pages.place.api.office.signin = signin


def test_filters_are_kept_and_forgotten(pages: Pages, watched: Callable[..., Page]) -> None:
    page = watched(AUD)
    page.goto("/tickets?status=active&target=pg-prod")
    page.get_by_text("Keep this filter").click()
    page.get_by_label("Call it").fill("What pg-prod gives")
    page.get_by_role("button", name="Keep", exact=True).click()
    page.goto("/tickets")
    page.get_by_role("link", name="What pg-prod gives").click()
    expect(page.get_by_label("Status")).to_have_value("active")
    assert Axe().run(page).violations_count == 0
    page.get_by_role("button", name="Forget What pg-prod gives").click()
    expect(page.get_by_role("link", name="What pg-prod gives")).to_have_count(0)


def test_somebody_decides_on_what_waits_for_them_in_a_campaign(
    pages: Pages, watched: Callable[..., Page]
) -> None:
    machines = Selection(subjects=("identity",))
    opening = Opening(name="by-hand", reason="as each quarter", selection=machines, sample=0)
    certifying.open_(pages.desk, pages.caller(OPS), opening)
    page = watched(ANN)
    page.goto("/reviews/campaigns")
    page.get_by_role("link", name=re.compile("^by-hand")).click()
    page.get_by_label("Why?").fill("It goes with the old cluster.")
    page.get_by_label("service_account:deploy exists").check()
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("status")).to_contain_text("It is recorded")
    campaign = pages.desk.campaigns.read("by-hand")[1]
    assert (campaign.status, campaign.decision(0)) == ("decided", "revoke")
    auditor = watched(AUD)
    auditor.goto("/reviews/campaigns/by-hand")
    auditor.get_by_label("What did you look at?").fill("All of it.")
    auditor.get_by_role("button", name="Sign off").click()
    expect(auditor.get_by_role("status")).to_contain_text("You signed it off")
    assert pages.desk.campaigns.read("by-hand")[1].status == "removing"


def test_every_page_is_accessible_fits_and_looks_right(pages: Pages, watched: Callable[..., Page]) -> None:
    """axe-core finds nothing, light and dark; nothing is wider than the window, from 320 to 2560; and pictures are taken."""
    pages.desk.trends._known = time.monotonic() + 3600, list(a_year())  # charts with something in them
    active = pages.given(pages.filed(privileges=["orders_rw", "reporting"]))
    waiting = pages.filed(
        privileges=["orders_ro"], justification="Look up the refunds of this week for finance."
    )
    machines = Selection(subjects=("identity", "membership"))
    opening = Opening(name="pictured", reason="as each quarter", selection=machines, sample=0)
    certifying.open_(pages.desk, pages.caller(OPS), opening)
    seal(pages.desk)
    for name, who, path in (
        ("home", ANN, "/"),
        ("home-approver", CYD, "/"),
        ("ask", ANN, "/ask"),
        ("ask-form", ANN, "/ask/pg-prod?privilege=orders_rw"),
        ("break-glass", BO, "/ask/pg-prod?privilege=orders_rw&break_glass=true"),
        ("tickets", OPS, "/tickets"),
        ("grants", OPS, "/grants"),
        ("targets", OPS, "/targets"),
        ("target", CYD, "/targets/pg-prod"),
        ("findings", OPS, "/findings"),
        ("reviews", CYD, "/reviews"),
        ("campaigns", OPS, "/reviews/campaigns"),
        ("campaign", ANN, "/reviews/campaigns/pictured"),
        ("people", AUD, "/people"),
        ("person", AUD, f"/person?id={ANN}"),
        ("machine", AUD, "/person?id=service_account:deploy"),
        ("audit", AUD, "/audit"),
        ("trends", AUD, "/audit/trends"),
        ("sample", AUD, "/audit/sample?seed=2026&count=5"),
        ("policy", AUD, "/policy"),
        (
            "what-if",
            AUD,
            "/policy/what-if?who=ann@example.com&target=pg-prod&privilege=orders_rw&duration=2h",
        ),
        ("backtests", AUD, "/policy/backtest"),
        ("ledger", AUD, "/ledger"),
        ("ticket", ANN, f"/requests/{active.id}"),
        ("decide", CYD, f"/requests/{waiting.id}"),
    ):
        for theme in ("light", "dark"):
            page = watched(who, theme=theme)
            page.goto(path)
            found = Axe().run(page)
            assert found.violations_count == 0, f"{name} {theme}: {found.generate_report()}"
            pictured(page, f"{name}-{theme}")
            if theme == "light":
                for width in (320, 390, 768, 1024, 1920, 2560):
                    page.set_viewport_size({"width": width, "height": 900})
                    assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, width)
                page.set_viewport_size({"width": 390, "height": 844})
                pictured(page, f"{name}-phone")
            page.close()


def a_year() -> Iterator[Month]:
    """Months as a company might have them, in which standing privilege becomes temporary."""
    for n in range(12):
        begins = datetime(2025 + (n + 11) // 12, (n + 11) % 12 + 1, 1, tzinfo=UTC)
        decided = Spread(count=90 + 9 * n, median=2400 - 130 * n, slow=9800 - 410 * n)
        gone = Spread(count=80 + 9 * n, median=4, slow=31 - n)
        yield Month(
            begins=begins, tickets=100 + 10 * n + (n * 37) % 23, glass=(n * 5) % 7, decided=decided, gone=gone,
            temporary=14 + 3 * n, standing=160 - 12 * n,
        )  # fmt: skip


def pictured(page: Page, name: str) -> None:
    """Taken where somebody wants them: times in them differ with each run."""
    if os.environ.get("MUNIMENT_SCREENSHOTS"):
        SHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SHOTS / f"{name}.png")
