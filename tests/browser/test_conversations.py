"""The list of conversations: what is kept can be found, opened, named and deleted, from every tab."""

from typing import Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, expect

from tests.browser.service import Service
from tests.browser.tab import Tab

LONG = " ".join(f"word{number}" for number in range(80))


def row(tab: Tab, title: str) -> Locator:
    return tab.rows.filter(has_text=title)


def open_row(tab: Tab, title: str) -> None:
    row(tab, title).get_by_role("link").click()


def test_conversations_are_listed_the_newest_change_first(tab: Tab, service: Service) -> None:
    first = service.talk("One\nand more")
    service.talk("Two")
    tab.page.reload()
    expect(tab.rows).to_have_count(2)
    assert tab.titles == ["Two", "One"]
    service.talk("Three")
    service.rename(first, "The first")
    tab.ask("Four")
    tab.finish()
    expect(tab.rows).to_have_count(4)
    assert tab.titles == ["Four", "The first", "Three", "Two"]
    assert tab.rows.locator("[aria-current=page]").all_text_contents() == ["Four, being answered"]


def test_a_conversation_is_opened_from_the_list(tab: Tab, service: Service) -> None:
    kept = service.talk("One", "Two")
    tab.ask("Else")
    tab.finish()
    other = tab.conversation
    open_row(tab, "One")
    tab.shows("One", "Two")
    assert tab.conversation == kept
    expect(tab.page).to_have_title("One – Ekiden")
    expect(tab.input).to_be_focused()
    tab.ask("Three")
    tab.finish()
    assert service.said(kept) == [("One", "One"), ("Two", "Two"), ("Three", "Three")]
    tab.page.go_back()
    tab.shows("Else")
    assert tab.conversation == other


def test_an_address_opens_a_conversation_anywhere(browser: Browser, service: Service) -> None:
    kept = service.talk("One", "Two")
    elsewhere = browser.new_context()
    tab = Tab(elsewhere).open(f"{service.url}/#c={kept}")
    tab.shows("One", "Two")
    expect(row(tab, "One").get_by_role("link")).to_have_attribute("aria-current", "page")
    assert tab.complaints() == []
    elsewhere.close()


def test_what_a_conversation_began_with_is_shown_and_can_be_asked_anew(tab: Tab, service: Service) -> None:
    before = [{"role": role, "content": f"The {role}'s"} for role in ("system", "user", "assistant")]
    kept = service.talk("Next", before=before)
    tab.page.goto(f"{service.url}/#c={kept}")
    tab.page.reload()
    expect(tab.page.locator(".question p")).to_have_text(["The user's", "Next"])
    expect(tab.page.locator(".words")).to_have_text(["The assistant's", "Next"])
    tab.turns.first.get_by_role("button", name="Regenerate").click()
    tab.shows("The user's")
    tab.finish()
    assert tab.conversation != kept
    assert service.read(tab.conversation)["messages"] == before[:1]
    assert len(service.read(kept)["turns"]) == 1


def test_a_long_conversation_is_shown_from_its_end_on(tab: Tab, service: Service) -> None:
    kept = service.talk(*(f"m{number}" for number in range(1, 104)))
    tab.page.goto(f"{service.url}/#c={kept}")
    tab.page.reload()
    expect(tab.turns).to_have_count(100)
    expect(tab.last.locator(".words")).to_be_in_viewport()
    tab.page.get_by_role("button", name="Show earlier messages").click()
    tab.shows(*(f"m{number}" for number in range(1, 104)))
    expect(tab.page.get_by_role("button", name="Show earlier messages")).to_be_hidden()


def test_more_conversations_are_listed_as_the_reader_comes_to_them(tab: Tab, service: Service) -> None:
    for conversation in [service.ask(f"number {number}") for number in range(65)]:
        service.settled(conversation)
    tab.page.reload()
    expect(tab.rows).to_have_count(30)
    tab.rows.last.scroll_into_view_if_needed()
    expect(tab.rows).to_have_count(60)
    tab.page.get_by_role("button", name="Show more").focus()
    tab.page.keyboard.press("Enter")
    expect(tab.rows).to_have_count(65)
    assert tab.titles == [found["title"] for found in service.conversations()]
    expect(tab.page.get_by_role("button", name="Show more")).to_be_hidden()


def test_a_conversation_is_renamed(tab: Tab, service: Service) -> None:
    tab.ask("One")
    tab.finish()
    tab.rows.first.hover()
    tab.page.get_by_role("button", name="Rename “One”").click()
    title = tab.page.get_by_role("textbox", name="Title")
    expect(title).to_have_value("One")
    title.fill("Better")
    title.press("Enter")
    expect(row(tab, "Better").get_by_role("link")).to_be_focused()
    expect(tab.page).to_have_title("Better – Ekiden")
    tab.page.keyboard.press("F2")
    tab.page.keyboard.type("Never mind")
    tab.page.keyboard.press("Escape")
    expect(row(tab, "Better")).to_be_visible()
    tab.page.keyboard.press("F2")
    tab.page.keyboard.type("  ")
    tab.input.focus()
    expect(row(tab, "Better")).to_be_visible()
    assert service.read(tab.conversation)["title"] == "Better"
    assert len(tab.frames("cancel")) == 0


def test_a_conversation_is_deleted_after_a_confirmation(tab: Tab, service: Service) -> None:
    service.talk("Kept")
    tab.ask("Doomed")
    tab.finish()
    tab.rows.first.hover()
    tab.page.get_by_role("button", name="Delete “Doomed”").click()
    dialog = tab.page.get_by_role("dialog", name="Delete this conversation?")
    expect(dialog).to_contain_text("“Doomed” and its answers will be gone for good.")
    dialog.get_by_role("button", name="Keep").click()
    expect(tab.page.get_by_role("button", name="Delete “Doomed”")).to_be_focused()
    tab.page.keyboard.press("Enter")
    dialog.get_by_role("button", name="Delete").click()
    expect(tab.rows).to_have_count(1)
    expect(row(tab, "Kept").get_by_role("link")).to_be_focused()
    expect(tab.turns).to_have_count(0)
    expect(tab.page).to_have_url(f"{service.url}/")
    assert [found["title"] for found in service.conversations()] == ["Kept"]


def test_a_conversation_is_deleted_in_the_middle_of_an_answer(tab: Tab, service: Service) -> None:
    tab.ask(LONG)
    tab.reach(10)
    tab.rows.first.hover()
    tab.page.get_by_role("button", name="Delete “").click()
    tab.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(tab.turns).to_have_count(0)
    expect(tab.rows).to_have_count(0)
    expect(tab.page.get_by_text("What you ask is kept here.")).to_be_visible()
    tab.ask("Next")
    tab.finish()
    assert [found["title"] for found in service.conversations()] == ["Next"]


def test_an_answer_under_way_is_followed_from_every_tab(context: BrowserContext, tab: Tab, service: Service) -> None:
    tab.ask("One")
    tab.finish()
    tab.ask(LONG)
    tab.reach(10)
    other = Tab(context).open(tab.page.url)
    expect(row(other, "One").locator(".busy")).to_be_visible()
    other.reach(20)
    expect(other.page.get_by_role("button", name="Stop")).to_be_visible()
    other.finish()
    tab.finish()
    other.shows("One", LONG)
    assert tab.answer == LONG
    other.ask("Three")
    expect(tab.turns).to_have_count(3)
    tab.shows("One", LONG, "Three")
    assert other.complaints() == []


def leave_in_mid_answer(tab: Tab, service: Service) -> str:
    """Leave a conversation for a new one while its second answer comes; its id."""
    kept = service.talk("One")
    tab.page.goto(f"{service.url}/#c={kept}")
    tab.page.reload()
    tab.shows("One")
    tab.ask(LONG)
    tab.reach(10)
    tab.new_chat()
    return kept


def test_an_opened_conversation_goes_on_where_its_answer_is(tab: Tab, service: Service) -> None:
    kept = leave_in_mid_answer(tab, service)
    open_row(tab, "One")
    tab.reach(20)
    tab.finish()
    tab.shows("One", LONG)
    assert tab.frames("attach")[-1]["cursor"] == 0
    assert service.said(kept) == [("One", "One"), (LONG, LONG)]


def test_what_comes_between_opening_and_attaching_is_not_taken_for_the_beginning(tab: Tab, service: Service) -> None:
    leave_in_mid_answer(tab, service)
    tab.page.evaluate(SLOW_ATTACH)
    open_row(tab, "One")
    tab.finish()
    tab.shows("One", LONG)


SLOW_ATTACH = """() => {
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (data) {
        if (JSON.parse(data).type === "attach") setTimeout(() => send.call(this, data), 1000);
        else send.call(this, data);
    };
}"""


def test_a_conversation_that_is_not_kept_says_so(context: BrowserContext, service: Service) -> None:
    tab = Tab(context)
    tab.page.set_viewport_size({"width": 320, "height": 400})
    tab.open(f"{service.url}/#c={'0' * 32}")
    expect(tab.page.get_by_text("That conversation is not kept any more")).to_be_in_viewport(ratio=1)
    expect(tab.page).to_have_url(f"{service.url}/")
    tab.ask("Anew")
    tab.finish()


def test_a_change_that_the_server_refuses_is_taken_back(tab: Tab, service: Service) -> None:
    tab.ask("One")
    tab.finish()
    expect(tab.rows).to_have_count(1)
    tab.page.route("**/v1/conversations/*", lambda route: route.abort())
    tab.rows.first.get_by_role("link").focus()
    tab.page.keyboard.press("F2")
    tab.page.keyboard.type("Two")
    tab.page.keyboard.press("Enter")
    alert = tab.page.get_by_role("navigation").get_by_role("alert")
    expect(alert).to_have_text("The conversation could not be renamed. The server does not answer.")
    assert tab.titles == ["One"]
    tab.page.get_by_role("button", name="Delete “One”").click()
    tab.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(alert).to_contain_text("could not be deleted")
    tab.shows("One")
    tab.page.unroute("**/v1/conversations/*")
    tab.page.get_by_role("button", name="Delete “One”").click()
    tab.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(tab.rows).to_have_count(0)
    expect(alert).to_be_hidden()
    tab.forget()  # the browser itself reports what was aborted


def test_the_list_can_be_hidden(tab: Tab, service: Service) -> None:
    toggle = tab.page.get_by_role("button", name="Conversations")
    expect(toggle).to_have_attribute("aria-expanded", "true")
    toggle.click()
    expect(tab.page.get_by_role("navigation")).to_be_hidden()
    expect(toggle).to_have_attribute("aria-expanded", "false")
    tab.page.reload()
    expect(tab.page.get_by_role("navigation")).to_be_hidden()
    toggle.click()
    expect(tab.page.get_by_role("navigation")).to_be_visible()


@pytest.mark.parametrize("width", [320, 430])
def test_on_a_phone_the_list_is_a_drawer(browser: Browser, service: Service, width: int) -> None:
    service.talk("w" * 200)
    kept = service.talk("One")
    context = browser.new_context(viewport={"width": width, "height": 640}, has_touch=True, is_mobile=True)
    tab = Tab(context).open(service.url)
    expect(tab.page.get_by_role("navigation")).to_be_hidden()
    tab.page.get_by_role("button", name="Conversations").tap()
    drawer = tab.page.get_by_role("dialog")
    expect(tab.rows).to_have_count(2)
    assert drawer.evaluate("node => node.scrollWidth - node.clientWidth") == 0
    tab.page.get_by_role("link", name="One").tap()
    expect(drawer).to_be_hidden()
    tab.shows("One")
    assert tab.conversation == kept
    tab.page.get_by_role("button", name="Conversations").tap()
    tab.page.get_by_role("button", name="Delete “One”").tap()
    tab.page.get_by_role("dialog", name="Delete").get_by_role("button", name="Delete").tap()
    expect(tab.rows).to_have_count(1)
    tab.page.touchscreen.tap(width - 5, 300)
    expect(tab.page.get_by_role("navigation")).to_be_hidden()
    expect(tab.turns).to_have_count(0)
    assert tab.complaints() == []
    context.close()


def test_the_keyboard_is_enough_for_the_list(tab: Tab, service: Service) -> None:
    service.talk("Old")
    tab.ask("New")
    tab.finish()
    expect(tab.rows).to_have_count(2)
    keyboard = tab.page.keyboard

    def go(name: str, role: Literal["button", "link"] = "button", key: str = "Shift+Tab") -> Locator:
        wanted = tab.page.locator("body").get_by_role(role, name=name, exact=True)
        for _ in range(30):
            if wanted.evaluate("node => node === document.activeElement"):
                assert wanted.evaluate("node => getComputedStyle(node).opacity") == "1"
                return wanted
            keyboard.press(key)
        raise AssertionError(f"Tab does not reach {name}")

    go("Old", "link")
    keyboard.press("Enter")
    tab.shows("Old")
    expect(tab.input).to_be_focused()
    go("Rename “Old”")
    keyboard.press("Enter")
    keyboard.type("Older")
    keyboard.press("Enter")
    expect(row(tab, "Older").get_by_role("link")).to_be_focused()
    go("Delete “Older”", key="Tab")
    keyboard.press("Enter")
    go("Delete", key="Tab")
    keyboard.press("Enter")
    expect(row(tab, "New").get_by_role("link")).to_be_focused()
    go("New chat")
    keyboard.press("Enter")
    expect(tab.input).to_be_focused()
    go("To the message")
    keyboard.press("Enter")
    expect(tab.input).to_be_focused()
    assert [found["title"] for found in service.conversations()] == ["New"]
