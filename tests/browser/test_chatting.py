"""A person chats in the page."""

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import ECHO_ENGINE
from tests.browser.service import Service
from tests.browser.tab import Tab
from tests.support.processes import Api, Processes

# Every answer repeats its question, so a question is also what must be shown.
LONG = " ".join(f"word{number}" for number in range(120))


def test_the_answer_streams_in_exactly(tab: Tab) -> None:
    text = "Grüße aus 東京 🏃‍♀️ — eleven  spaces,\n\ttabs and\n\nempty lines.\n" + LONG[:300]
    tab.ask(text)
    facts = tab.finish()
    assert tab.answer == text
    assert len(tab.frames("delta")) > 1
    assert f"{len(text.encode())} tokens" in facts
    assert "tok/s" in facts
    assert "TTFT" in facts


def test_the_model_is_named(tab: Tab) -> None:
    expect(tab.page.locator("#model")).to_have_text("SmolLM2-135M-Instruct")


def test_the_conversation_is_kept_by_the_server(tab: Tab, service: Service) -> None:
    tab.ask("First")
    tab.finish()
    tab.ask("Second")
    tab.finish()
    first, second = tab.frames("chat")
    assert (first["conversation"], first["messages"]) == ("new", [{"role": "user", "content": "First"}])
    assert (second["conversation"], second["message"]) == (tab.conversation, "Second")
    assert service.said(tab.conversation) == [("First", "First"), ("Second", "Second")]
    tab.new_chat()
    tab.ask("Third")
    assert tab.frames("chat")[-1]["conversation"] == "new"
    tab.finish()
    assert service.said(tab.conversation) == [("Third", "Third")]


def test_stop_keeps_what_was_said(tab: Tab) -> None:
    tab.ask(LONG)
    tab.reach(20)
    tab.page.get_by_role("button", name="Stop").click()
    assert "stopped" in tab.finish().lower()
    assert tab.answer != LONG
    assert LONG.startswith(tab.answer)
    assert tab.frames("done")[-1]["finish_reason"] == "cancelled"
    tab.ask("On")
    tab.finish()
    assert tab.answer == "On"


def test_an_answer_that_is_left_goes_on(tab: Tab, service: Service) -> None:
    tab.ask(LONG)
    tab.reach(20)
    left = tab.conversation
    tab.new_chat()
    tab.ask("Next")
    tab.finish()
    assert tab.answer == "Next"
    service.settled(left)
    assert service.said(left) == [(LONG, LONG)]
    assert tab.frames("cancel") == []
    expect(tab.page.locator(".row .busy:visible")).to_have_count(0)


def test_blank_input_is_not_sent(tab: Tab) -> None:
    expect(tab.page.get_by_role("button", name="Send")).to_be_disabled()
    tab.input.fill(" \n ")
    tab.input.press("Enter")
    tab.ask("Said")
    tab.finish()
    assert len(tab.frames("chat")) == 1


def test_settings_are_used(tab: Tab, service: Service) -> None:
    tab.page.get_by_role("button", name="Settings").click()
    tab.page.get_by_label("System prompt").fill("Be brief.")
    tab.page.get_by_label("Temperature").fill("0.25")
    tab.page.get_by_label("Longest answer").fill("5")
    tab.page.get_by_role("button", name="Save").click()
    tab.ask("Tell me more")
    assert "length limit" in tab.finish()
    assert tab.answer == "Tell "
    chat = tab.frames("chat")[-1]
    assert chat["messages"][0] == {"role": "system", "content": "Be brief."}
    assert service.read(tab.conversation)["messages"] == chat["messages"][:1]
    assert chat["params"] == {"temperature": 0.25, "max_tokens": 5}


def test_settings_out_of_range_are_not_saved(tab: Tab) -> None:
    tab.page.get_by_role("button", name="Settings").click()
    tab.page.get_by_label("Temperature").fill("3")
    tab.page.get_by_role("button", name="Save").click()
    expect(tab.page.get_by_role("dialog")).to_be_visible()
    tab.page.get_by_role("button", name="Close without saving").click()
    tab.ask("Plain")
    assert tab.frames("chat")[-1]["params"] == {}
    tab.finish()


def test_fenced_code_is_a_block_of_its_own(tab: Tab) -> None:
    tab.ask("Look:\n\n```python\nif a < b:\n\n    print('`')\n```\n\nThat is all.\n````\n```\n````")
    tab.finish()
    assert tab.last.locator(".words > p").all_text_contents() == ["Look:", "That is all."]
    assert tab.last.locator("pre").all_text_contents() == ["if a < b:\n\n    print('`')", "```"]
    assert tab.last.locator(".code span").all_text_contents() == ["python", ""]


def test_code_can_be_copied(context: BrowserContext, tab: Tab) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.ask("```\none\ntwo\n```")
    tab.finish()
    tab.last.locator(".code").get_by_role("button", name="Copy").click()
    expect(tab.last.locator(".code").get_by_role("button")).to_have_text("Copied")
    assert tab.page.evaluate("navigator.clipboard.readText()") == "one\ntwo"


def test_a_prompt_that_does_not_fit_is_explained_and_not_kept(tab: Tab, service: Service) -> None:
    tab.ask("x" * 5000)
    problem = tab.last.locator(".problem")
    expect(problem).to_contain_text("4096")
    expect(problem).to_contain_text("Shorten the message")
    expect(problem.get_by_role("button", name="Retry")).to_be_hidden()
    problem.get_by_role("button", name="Edit the message").click()
    expect(tab.turns).to_have_count(0)
    expect(tab.input).to_have_value("x" * 5000)
    tab.input.press("Enter")
    expect(problem).to_contain_text("4096")
    tab.ask("Short")
    tab.finish()
    assert service.said(tab.conversation) == [("Short", "Short")]


def test_a_conversation_over_the_frame_limit_is_not_sent(tab: Tab) -> None:
    tab.ask("ä" * 600_000)
    expect(tab.last.locator(".problem")).to_contain_text("too long")
    assert tab.frames("chat") == []


@pytest.mark.parametrize(
    "text", ["<script>window.hit = 1</script>", "<img src=x onerror='window.hit = 1'>\n```\n<b>b</b>"]
)
def test_markup_is_shown_as_text(tab: Tab, text: str) -> None:
    tab.ask(text)
    tab.finish()
    assert tab.last.locator(".question p").text_content() == text
    assert tab.answer in (text, text.replace("\n```\n", "Copy"))
    assert tab.page.locator("#turns :is(script, img, b)").count() == 0
    assert tab.page.evaluate("window.hit") is None


def test_two_tabs_do_not_disturb_each_other(context: BrowserContext, tab: Tab, shared_api: Api) -> None:
    other = Tab(context).open(shared_api.http)
    tab.ask(LONG[:400])
    other.ask(LONG[400:])
    tab.page.reload()
    other.finish()
    tab.finish()
    assert (tab.answer, other.answer) == (LONG[:400], LONG[400:])
    assert (tab.turns.count(), other.turns.count()) == (1, 1)
    assert other.complaints() == []


def test_the_key_is_asked_for_and_stays_out_of_every_url(context: BrowserContext, fleet: Processes) -> None:
    fleet.worker(**ECHO_ENGINE)
    api = fleet.api(EKIDEN_API_KEYS="ann:right-key,bob:other-key")
    tab = Tab(context)
    tab.page.goto(api.http)
    drawer = tab.page.get_by_role("dialog")
    expect(drawer).to_contain_text("An API key is needed.")
    expect(tab.page.get_by_label("API key")).to_be_focused()
    tab.page.keyboard.type("wrong-key")
    tab.page.keyboard.press("Enter")
    expect(drawer).to_contain_text("The API key is not known.")
    tab.page.get_by_label("API key").fill("right-key")
    tab.page.keyboard.press("Enter")
    tab.connected()
    tab.ask("Hello")
    tab.finish()
    assert tab.answer == "Hello"
    tab.page.reload()
    tab.connected()
    expect(tab.rows).to_have_count(1)
    tab.page.get_by_role("button", name="Settings").click()
    tab.page.get_by_label("API key").fill("other-key")
    tab.page.keyboard.press("Enter")
    expect(tab.page.get_by_text("What you ask is kept here.")).to_be_visible()
    expect(tab.rows).to_have_count(0)
    assert not [url for url in tab.urls if "key" in url]
    assert "right-key" not in api.text()


def test_the_dashboard_is_offered_to_those_who_may_see_it(context: BrowserContext, fleet: Processes, tab: Tab) -> None:
    link = tab.page.get_by_role("link", name="Dashboard")
    expect(link).to_be_visible()  # without keys, on this machine
    link.click()
    expect(tab.page).to_have_title("Overview · Ekiden")
    api = fleet.api(EKIDEN_API_KEYS="una:key-of-una,vic:key-of-vic:viewer")
    other = Tab(context)
    other.page.goto(api.http)
    for key, offered in (("key-of-vic", True), ("key-of-una", False), ("key-of-vic", True)):
        if not other.page.get_by_role("dialog").is_visible():
            other.page.get_by_role("button", name="Settings").click()
        other.page.get_by_label("API key").fill(key)
        other.page.keyboard.press("Enter")
        other.connected()
        expect(other.page.get_by_role("link", name="Dashboard")).to_be_visible(visible=offered)


def test_a_question_waits_for_the_first_worker(context: BrowserContext, fleet: Processes) -> None:
    api = fleet.api()
    tab = Tab(context).open(api.http)
    tab.ask("Too early")
    expect(tab.last.locator(".status")).to_contain_text("Waiting for a worker")
    tab.page.get_by_role("button", name="Stop").click()
    tab.finish()
    tab.ask("Anyone?")
    fleet.worker(**ECHO_ENGINE)
    tab.finish()
    assert tab.answer == "Anyone?"
    assert Service(api.http).said(tab.conversation) == [("Anyone?", "Anyone?")]
    assert tab.complaints() == []
