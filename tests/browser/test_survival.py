"""Connections, processes and the page itself go away in the middle of an answer; the answer arrives whole."""

import json
import re
import signal

import pytest
import redis
from playwright.sync_api import BrowserContext, WebSocketRoute, expect

from ekiden.keys import Keys
from ekiden.settings import Settings
from tests.browser.conftest import ECHO_ENGINE
from tests.browser.service import Service
from tests.browser.tab import Tab
from tests.support.processes import Api, Processes

LONG = " ".join(f"word{number}" for number in range(60))


@pytest.fixture
def api(fleet: Processes) -> Api:
    fleet.worker(**ECHO_ENGINE)
    return fleet.api()


@pytest.fixture
def own(context: BrowserContext, api: Api) -> Tab:
    return Tab(context).open(api.http)


def started_again(fleet: Processes, api: Api) -> None:
    fleet.api(EKIDEN_PORT=str(api.port))


def test_an_answer_goes_on_after_its_api_was_killed(fleet: Processes, api: Api, own: Tab) -> None:
    own.ask(LONG)
    own.reach(30)
    api.end(signal.SIGKILL)
    expect(own.page.locator("#link")).to_contain_text("Reconnecting")
    started_again(fleet, api)
    own.finish()
    assert own.answer == LONG
    assert len(own.frames("accepted")) == 1
    assert own.frames("attach")[-1]["cursor"] >= 30


def test_a_question_that_was_not_accepted_is_sent_again_with_its_id(fleet: Processes, api: Api, own: Tab) -> None:
    api.send(signal.SIGSTOP)
    own.ask("Anybody there?")
    api.end(signal.SIGKILL)
    started_again(fleet, api)
    own.finish()
    assert own.answer == "Anybody there?"
    chats = own.frames("chat")
    assert len(chats) > 1
    assert {chat["id"] for chat in chats} == {own.frames("accepted")[0]["id"]}


def test_a_question_asked_while_nothing_answers_is_sent_later(fleet: Processes, api: Api, own: Tab) -> None:
    api.end(signal.SIGKILL)
    own.ask("Later")
    expect(own.last.locator(".status")).to_contain_text("Waiting for the connection")
    started_again(fleet, api)
    own.finish()
    assert own.answer == "Later"


def test_a_question_left_before_it_was_accepted_is_answered(fleet: Processes, api: Api, own: Tab) -> None:
    api.end(signal.SIGKILL)
    own.ask("Left")
    own.new_chat()
    own.ask("Next")
    started_again(fleet, api)
    own.finish()
    assert own.answer == "Next"
    expect(own.rows).to_have_count(2)
    own.page.get_by_role("link", name="Left").click()
    own.shows("Left")


def test_stop_while_nothing_answers_takes_effect_later(fleet: Processes, context: BrowserContext) -> None:
    fleet.worker(**ECHO_ENGINE | {"EKIDEN_TEST_STEP_S": "0.1"})  # the answer must last until the page is back
    api = fleet.api()
    own = Tab(context).open(api.http)
    own.ask(LONG)
    own.reach(10)
    api.end(signal.SIGKILL)
    own.page.get_by_role("button", name="Stop").click()
    started_again(fleet, api)
    assert "stopped" in own.finish().lower()
    assert LONG.startswith(own.answer)


def test_a_reload_goes_on_with_the_conversation_and_the_answer(tab: Tab) -> None:
    tab.ask("Before")
    tab.finish()
    tab.ask(LONG)
    tab.reach(30)
    tab.input.fill("A draft")
    tab.page.reload()
    tab.finish()
    assert tab.answer == LONG
    assert tab.turns.first.locator(".words").text_content() == "Before"
    expect(tab.input).to_have_value("A draft")
    assert tab.frames("attach")[-1]["cursor"] >= 30


def test_a_killed_worker_is_a_small_note_on_a_whole_answer(fleet: Processes, context: BrowserContext) -> None:
    first = fleet.worker(**ECHO_ENGINE)
    tab = Tab(context).open(fleet.api().http)
    tab.ask(LONG)
    tab.reach(30)
    fleet.worker(**ECHO_ENGINE)
    first.end(signal.SIGKILL)
    tab.finish()
    assert tab.answer == LONG
    expect(tab.last.locator(".note")).to_have_text("moved to another worker")
    assert tab.complaints() == []


def test_frames_that_come_twice_or_are_unknown_change_nothing(context: BrowserContext, api: Api) -> None:
    def make_noisy(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def to_page(data: str | bytes) -> None:
            frame = json.loads(data)
            for noisy in (frame, {**frame, "type": "sparkle"}, {**frame, "mood": 1}):
                socket.send(json.dumps(noisy))

        server.on_message(to_page)

    tab = Tab(context)
    tab.page.route_web_socket("**/v1/chat", make_noisy)
    tab.open(api.http)
    tab.ask(LONG)
    tab.finish()
    assert tab.answer == LONG
    assert tab.turns.count() == 1
    assert tab.complaints() == []


LIST = re.compile(r"/v1/conversations(\?.*)?$")


def lose_answer(settings: Settings, tab: Tab) -> None:
    """Ask, and take the job's record away in mid-answer."""
    tab.ask(LONG)
    tab.reach(10)
    keys = Keys(settings.key_prefix)
    job = tab.frames("accepted")[0]["job"]
    with redis.Redis.from_url(settings.redis_url) as store:
        store.delete(keys.job(job), keys.request(job), keys.log(job))
    expect(tab.last.locator(".problem")).to_be_visible()


def test_an_answer_that_failed_is_no_part_of_the_conversation(settings: Settings, api: Api, own: Tab) -> None:
    lose_answer(settings, own)
    own.ask("Next")
    own.finish()
    assert Service(api.http).said(own.conversation) == [("Next", "Next")]


def test_a_job_the_store_lost_can_be_asked_again(settings: Settings, own: Tab) -> None:
    lose_answer(settings, own)
    own.last.get_by_role("button", name="Retry").click()
    expect(own.turns).to_have_count(1)
    own.finish()
    assert own.answer == LONG
    assert own.frames("error")[0]["code"] == "job_lost"
    assert len({frame["job"] for frame in own.frames("accepted")}) == 2


def test_a_conversation_the_server_lost_goes_on_in_a_new_one(tab: Tab, service: Service) -> None:
    tab.ask("One")
    tab.finish()
    tab.ask("Two")
    tab.finish()
    lost = tab.conversation
    service.delete(lost)
    tab.page.reload()
    tab.shows("One", "Two")
    tab.ask("Three")
    tab.finish()
    tab.shows("One", "Two", "Three")
    expect(tab.last.locator(".note")).to_contain_text("no longer had this conversation")
    assert tab.conversation != lost
    kept = service.read(tab.conversation)
    assert [message["content"] for message in kept["messages"]] == ["One", "One", "Two", "Two"]
    assert service.said(tab.conversation) == [("Three", "Three")]
    tab.page.reload()
    tab.shows("One", "Two", "Three")
    tab.ask("Four")
    tab.finish()
    assert service.said(tab.conversation) == [("Three", "Three"), ("Four", "Four")]


def test_a_turn_of_a_lost_conversation_is_answered_anew_in_a_new_one(tab: Tab, service: Service) -> None:
    for question in ("One", "Two", "Three"):
        tab.ask(question)
        tab.finish()
    service.delete(tab.conversation)
    tab.turns.nth(1).get_by_role("button", name="Regenerate").click()
    tab.shows("One", "Two")
    tab.finish()
    assert [message["content"] for message in service.read(tab.conversation)["messages"]] == ["One", "One"]
    assert service.said(tab.conversation) == [("Two", "Two")]


def test_a_conversation_that_is_busy_elsewhere_shows_that_answer_and_can_be_asked_then(
    tab: Tab, service: Service
) -> None:
    # The list would tell of the other answer too; here the refusal has to.
    tab.page.route(LIST, lambda route: route.fulfill(json={"data": [], "next": None}))
    tab.ask("One")
    tab.finish()
    service.ask(LONG, tab.conversation)
    tab.ask("Three")
    problem = tab.last.locator(".problem")
    expect(problem).to_contain_text("being answered in another tab or window")
    expect(tab.turns).to_have_count(3)
    expect(tab.turns.nth(1).locator(".words")).to_have_text(LONG)
    problem.get_by_role("button", name="Retry").click()
    tab.finish()
    tab.shows("One", LONG, "Three")
    assert service.said(tab.conversation) == [("One", "One"), (LONG, LONG), ("Three", "Three")]
