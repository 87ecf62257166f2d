"""Turns are answered anew: what is kept is replaced only once there is an answer to keep."""

from collections.abc import Sequence

import pytest
from playwright.sync_api import BrowserContext, Locator, expect

from tests.browser.conftest import ECHO_ENGINE
from tests.browser.service import Service
from tests.browser.tab import Tab
from tests.support.processes import Processes

LONG = " ".join(f"word{number}" for number in range(80))


@pytest.fixture
def kept(tab: Tab, service: Service) -> str:
    """A conversation of three turns, open in the tab."""
    conversation = service.talk("One", "Two", "Three")
    tab.page.goto(f"{service.url}/#c={conversation}")
    tab.page.reload()
    tab.shows("One", "Two", "Three")
    return conversation


def pairs(messages: Sequence[str]) -> list[tuple[str, str]]:
    return [(message, message) for message in messages]


def edit(tab: Tab, number: int) -> Locator:
    """Open the editor of a turn; returns its field."""
    turn = tab.turns.nth(number - 1)
    turn.hover()
    turn.get_by_role("button", name="Edit this message").click()
    field = turn.get_by_role("textbox", name="The message")
    expect(field).to_be_focused()
    return field


def regenerate(tab: Tab, number: int) -> None:
    """Ask for another answer to a turn; returns when it is in the place of the one before."""
    before = tab.turns.nth(number - 1).element_handle()
    tab.turns.nth(number - 1).get_by_role("button", name="Regenerate").click()
    before.wait_for_element_state("hidden")


def test_the_last_turn_is_answered_again(tab: Tab, service: Service, kept: str) -> None:
    before = service.read(kept)["turns"]
    regenerate(tab, 3)
    assert "TTFT" in tab.finish()
    tab.shows("One", "Two", "Three")
    [frame] = tab.frames("regenerate")
    assert (frame["conversation"], frame["turn"], frame["message"]) == (kept, 3, None)
    after = service.read(kept)["turns"]
    assert after[:2] == before[:2]
    assert after[2]["job"] == tab.frames("accepted")[-1]["job"] != before[2]["job"]
    expect(tab.input).to_be_focused()


def test_an_edited_message_is_answered_from_there(tab: Tab, service: Service, kept: str) -> None:
    field = edit(tab, 2)
    expect(field).to_have_value("Two")
    expect(tab.page.get_by_text("the turn after it will be gone")).to_be_visible()
    field.fill("2")
    field.press("Enter")
    tab.shows("One", "2")
    tab.finish()
    assert tab.frames("regenerate")[-1]["message"] == "2"
    assert service.said(kept) == pairs(["One", "2"])
    tab.ask("3")
    tab.finish()
    tab.page.reload()
    tab.shows("One", "2", "3")
    assert service.said(kept) == pairs(["One", "2", "3"])


def test_a_message_that_is_left_as_it_was_is_no_edit(tab: Tab, kept: str) -> None:
    edit(tab, 3).press("Enter")
    tab.finish()
    assert tab.frames("regenerate")[-1]["message"] is None


def test_an_edit_can_be_left(tab: Tab, kept: str) -> None:
    field = edit(tab, 1)
    field.fill("Never")
    field.press("Escape")
    expect(tab.turns.first.get_by_role("button", name="Edit this message")).to_be_focused()
    tab.shows("One", "Two", "Three")
    edit(tab, 1).fill(" ")
    tab.page.get_by_role("button", name="Ask again").click()
    tab.page.get_by_role("button", name="Cancel").click()
    assert tab.frames("regenerate") == []


def test_what_follows_is_there_again_after_an_error(tab: Tab, service: Service, kept: str) -> None:
    tab.page.set_viewport_size({"width": 1000, "height": 500})
    field = edit(tab, 1)
    field.fill("[FORGED]")
    field.press("Enter")
    problem = tab.turns.first.locator(".problem")
    expect(problem).to_contain_text("Nothing was changed.")
    expect(problem).to_be_in_viewport(ratio=1)
    tab.shows("One", "Two", "Three")
    assert service.said(kept) == pairs(["One", "Two", "Three"])
    problem.get_by_role("button", name="Edit the message").click()
    field = tab.turns.first.get_by_role("textbox", name="The message")
    expect(field).to_have_value("[FORGED]")
    field.fill("Fine")
    tab.page.get_by_role("button", name="Ask again").click()
    tab.shows("Fine")
    tab.finish()
    assert service.said(kept) == pairs(["Fine"])


def test_an_error_is_forgotten_with_the_next_question(tab: Tab, kept: str) -> None:
    field = edit(tab, 1)
    field.fill("[FORGED]")
    field.press("Enter")
    expect(tab.page.locator(".problem:visible")).to_have_count(1)
    tab.ask("Four")
    tab.finish()
    expect(tab.page.locator(".problem:visible")).to_have_count(0)
    tab.shows("One", "Two", "Three", "Four")


def test_stop_keeps_what_was_shown_in_place_of_the_turn(tab: Tab, service: Service, kept: str) -> None:
    field = edit(tab, 2)
    field.fill(LONG)
    field.press("Enter")
    tab.reach(20)
    expect(tab.page.get_by_text("the turn after it will be gone")).to_be_visible()
    tab.page.get_by_role("button", name="Stop").click()
    assert "stopped" in tab.finish().lower()
    expect(tab.turns).to_have_count(2)
    assert service.said(kept) == [("One", "One"), (LONG, tab.answer)]
    tab.page.reload()
    expect(tab.turns).to_have_count(2)


def test_an_answer_stopped_before_it_began_replaces_nothing(fleet: Processes, context: BrowserContext) -> None:
    worker, api = fleet.worker(**ECHO_ENGINE), fleet.api()
    service = Service(api.http)
    kept = service.talk("One", "Two")
    worker.end()
    tab = Tab(context).open(f"{service.url}/#c={kept}")
    tab.shows("One", "Two")
    regenerate(tab, 1)
    expect(tab.last.locator(".status")).to_contain_text("Waiting for a worker")
    tab.page.get_by_role("button", name="Stop").click()
    tab.shows("One", "Two")
    tab.ask("Three")
    tab.page.get_by_role("button", name="Stop").click()
    assert "stopped" in tab.finish().lower()
    assert service.said(kept) == pairs(["One", "Two"])
    fleet.worker(**ECHO_ENGINE)
    regenerate(tab, 3)
    tab.shows("One", "Two", "Three")
    tab.finish()
    assert service.said(kept) == pairs(["One", "Two", "Three"])
    assert tab.complaints() == []


def test_a_reload_goes_on_with_the_answer_made_anew(tab: Tab, service: Service, kept: str) -> None:
    field = edit(tab, 2)
    field.fill(LONG)
    field.press("Enter")
    tab.reach(20)
    tab.page.reload()
    tab.finish()
    tab.shows("One", LONG)
    assert tab.frames("attach")[-1]["cursor"] >= 20
    assert service.said(kept) == pairs(["One", LONG])


def test_another_tab_shows_an_answer_made_anew(context: BrowserContext, tab: Tab, service: Service, kept: str) -> None:
    other = Tab(context).open(tab.page.url)
    other.shows("One", "Two", "Three")
    field = edit(tab, 1)
    field.fill(LONG)
    field.press("Enter")
    expect(other.turns).to_have_count(1)
    expect(other.page.get_by_text("the 2 turns after it will be gone")).to_be_visible()
    other.page.get_by_role("button", name="Stop").click()
    tab.finish()
    other.finish()
    assert tab.answer == other.answer
    assert service.said(kept) == [(LONG, tab.answer)]
    assert other.complaints() == []


def test_an_answer_stopped_before_its_first_token_replaces_nothing(tab: Tab, service: Service, kept: str) -> None:
    tab.ask("WAIT")
    expect(tab.last.locator(".status")).to_contain_text("Reading")
    tab.page.get_by_role("button", name="Stop").click()
    tab.finish()
    assert service.said(kept) == pairs(["One", "Two", "Three"])
    tab.ask("Four")
    tab.finish()
    assert service.said(kept) == pairs(["One", "Two", "Three", "Four"])
    regenerate(tab, tab.turns.count())  # a page that connected again meanwhile shows what is kept alone
    tab.finish()
    assert service.said(kept) == pairs(["One", "Two", "Three", "Four"])


def test_one_answer_at_a_time(tab: Tab, kept: str) -> None:
    tab.ask(LONG)
    tab.reach(10)
    expect(tab.turns.first.get_by_role("button", name="Regenerate")).to_be_disabled()
    tab.page.get_by_role("button", name="Stop").click()
    tab.finish()
    expect(tab.turns.first.get_by_role("button", name="Regenerate")).to_be_enabled()
