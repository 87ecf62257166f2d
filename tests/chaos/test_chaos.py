"""The short cut of `make chaos`: some faults alone, more of them at once, and a few answers of the real model."""

import asyncio
from pathlib import Path

import pytest

from tests.chaos import real
from tests.chaos.drive import Outcome, run
from tests.chaos.plans import alone, short, together
from tests.support.seeded import SEED

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def assert_whole(outcome: Outcome) -> None:
    assert [(track.verdict, track.reason) for track in outcome.wrong] == []
    assert outcome.trouble == []
    assert outcome.answers > 0


def test_no_fault_alone_loses_doubles_or_alters_an_answer(tmp_path: Path) -> None:
    outcome = asyncio.run(run(alone("alone", short()), tmp_path / "fleet", SEED))
    assert_whole(outcome)
    assert outcome.seen["worker_killed"].moved > 0


def test_faults_together_under_a_full_queue_lose_double_and_alter_no_answer(tmp_path: Path) -> None:
    assert_whole(asyncio.run(run(together("together", 400), tmp_path / "fleet", SEED)))


@pytest.mark.model
def test_answers_of_the_real_model_are_those_of_an_undisturbed_fleet(tmp_path: Path) -> None:
    compared = asyncio.run(real.compare(tmp_path / "fleet", answers=16, tokens=24, seed=SEED))
    assert compared.wrong == []
