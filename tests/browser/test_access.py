"""Keyboard, screen sizes, reading position, and the limits the page lives in."""

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.tab import Tab
from tests.support import http
from tests.support.processes import Api

LINES = "\n".join(f"line {number}" for number in range(70))


def test_the_keyboard_is_enough(tab: Tab) -> None:
    keyboard = tab.page.keyboard
    expect(tab.input).to_be_focused()
    keyboard.type("One")
    keyboard.press("Shift+Enter")
    keyboard.type("two")
    keyboard.press("Enter")
    tab.finish()
    assert tab.answer == "One\ntwo"
    expect(tab.input).to_be_focused()
    keyboard.insert_text(LINES)
    keyboard.press("Enter")
    tab.reach(10)
    keyboard.press("Tab")
    expect(tab.page.get_by_role("button", name="Stop")).to_be_focused()
    keyboard.press("Enter")
    assert "stopped" in tab.finish().lower()
    expect(tab.input).to_be_focused()
    while not tab.page.get_by_role("button", name="Settings").evaluate("node => node === document.activeElement"):
        keyboard.press("Shift+Tab")
    assert tab.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    keyboard.press("Enter")
    expect(tab.page.get_by_label("System prompt")).to_be_focused()
    keyboard.press("Escape")
    expect(tab.page.get_by_role("button", name="Settings")).to_be_focused()


def test_escape_stops_an_answer(tab: Tab) -> None:
    tab.ask(LINES)
    tab.reach(10)
    tab.page.keyboard.press("Escape")
    assert "stopped" in tab.finish().lower()


def test_enter_that_ends_a_composition_sends_nothing(tab: Tab) -> None:
    tab.input.focus()
    session = tab.page.context.new_cdp_session(tab.page)
    session.send("Input.imeSetComposition", {"text": "にほん", "selectionStart": 3, "selectionEnd": 3})
    tab.page.keyboard.press("Enter")
    session.send("Input.insertText", {"text": "日本"})
    expect(tab.turns).to_have_count(0)
    tab.page.keyboard.press("Enter")
    tab.finish()
    assert tab.answer == "日本"


def test_words_are_not_announced_one_by_one(tab: Tab) -> None:
    tab.page.evaluate(
        """() => {
            window.said = [];
            const live = document.querySelectorAll("[aria-live], [role=status], [role=alert], [role=log]");
            const tell = ([{ target }]) => said.push(target.textContent);
            for (const node of live) new MutationObserver(tell).observe(node, { childList: true, subtree: true });
        }"""
    )
    text = LINES[:200]
    tab.ask(text)
    tab.finish()
    assert tab.page.evaluate("said") == ["The answer is being written.", f"Answer: {text}"]


@pytest.mark.parametrize("width", [320, 430])
def test_a_phone_needs_no_sideways_scroll(browser: Browser, shared_api: Api, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 640}, has_touch=True, is_mobile=True)
    tab = Tab(context).open(shared_api.http)
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert tab.page.evaluate(overflow) == 0
    tab.ask("w" * 300 + "\n```\n" + "c" * 300 + "\n```")
    tab.finish()
    assert tab.page.evaluate(overflow) == 0
    assert tab.page.locator("#scroller").evaluate("node => node.scrollWidth - node.clientWidth") == 0
    tab.page.get_by_role("button", name="Settings").click()
    assert tab.page.locator("#settings").evaluate("node => node.scrollWidth - node.clientWidth") == 0
    assert tab.complaints() == []
    context.close()


def test_a_reader_who_scrolled_up_is_left_alone(tab: Tab) -> None:
    tab.page.set_viewport_size({"width": 800, "height": 500})
    scroller = tab.page.locator("#scroller")
    tab.ask(LINES)
    tab.reach(350)
    assert scroller.evaluate("node => node.scrollHeight - node.scrollTop - node.clientHeight") < 40
    scroller.hover()
    tab.page.mouse.wheel(0, -10_000)
    latest = tab.page.get_by_role("button", name="To the latest")
    expect(latest).to_be_visible()
    tab.finish()
    assert scroller.evaluate("node => node.scrollTop") == 0
    latest.click()
    expect(latest).to_be_hidden()
    assert scroller.evaluate("node => node.scrollHeight - node.scrollTop - node.clientHeight") < 40


def test_the_policy_allows_the_page_alone(tab: Tab, shared_api: Api) -> None:
    policy = http.get(shared_api.http).headers["content-security-policy"]
    assert "unsafe" not in policy
    tab.page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), { textContent: 'hit = 1' }))"
    )
    assert tab.page.evaluate("window.hit") is None
    assert [complaint for complaint in tab.complaints() if complaint.startswith("script-src")]
    tab.page.reload()  # forgets the violation provoked here
    tab.forget()
