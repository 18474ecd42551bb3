"""Hostile input: a few cases of the campaign, more than a thousand in the full run; and its own judgement."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.faults import campaign
from tests.faults.campaign import GOOD, plan, table, try_case
from tests.faults.run_kinds import shielded
from tests.faults.workshop import Case, Workshop

CASES = 32
FULL_CASES = 1200


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Workshop:
    folder = tmp_path_factory.mktemp("campaign") / "workshop"
    folder.mkdir()
    return Workshop(folder).build()


def test_hostile_input_is_read_right_or_refused_with_its_name_and_a_remedy(workshop, monkeypatch) -> None:
    monkeypatch.setattr("logging.basicConfig", lambda **_: None)  # it would keep the stream of one case
    with shielded(workshop):
        found = [try_case(workshop, number, kind, seed=0) for number, kind in plan(CASES)]
    bad = [one for one in found if one.outcome not in GOOD]
    assert not bad, "\n".join(f"{one.kind}: {one.about}\n  {one.outcome}: {one.said[-500:]}" for one in bad)
    assert len({one.kind for one in found}) > 10


@pytest.mark.full
def test_more_than_a_thousand_hostile_inputs(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["campaign", "--cases", str(FULL_CASES)])
    status = campaign.main()
    assert status == 0, capsys.readouterr().out[-5000:]


def case(folder: Path, way: str) -> Case:
    """A case of which is known what comes of it."""
    kept = folder / "kept.txt"

    def call() -> int:
        if way in ("clear error", "unclear error"):
            print("error: kept.txt: expected" if way == "clear error" else "error: no", file=sys.stderr)
            return 1
        if way == "left a folder":
            (folder / "out").mkdir()
            print("error: kept.txt: expected", file=sys.stderr)
            return 1
        if way == "traceback":
            raise KeyError("a")
        if way == "lost":
            kept.write_text("changed")
        if way == "crash":
            os.kill(os.getpid(), signal.SIGALRM)  # as if it did not end
        if way == "foreign code":
            (folder / "it ran").mkdir()
        return 0

    return Case(way, call, ("kept.txt",), lambda _: way != "silently wrong")


@pytest.mark.parametrize("way", [*campaign.OUTCOMES, "foreign code", "left a folder"])
def test_what_comes_of_a_case_is_told(tmp_path, monkeypatch, way) -> None:
    (tmp_path / "kept.txt").write_text("content")
    monkeypatch.setattr(campaign, "kinds", lambda: {"kind": lambda draw, shop: case(shop.folder, way)})
    found = try_case(Workshop(tmp_path), 0, "kind", 0)
    other = {"foreign code": "silently wrong", "left a folder": "unclear error"}
    assert found.outcome == other.get(way, way)
    assert "| kind | 1 |" in table([found])


def test_a_process_that_dies_counts_and_the_next_goes_on(tmp_path, monkeypatch) -> None:
    def kinds() -> dict:
        def die(draw, shop) -> Case:
            return Case("dies", lambda: os.kill(os.getpid(), signal.SIGKILL), ())

        return {"dies": die, "lives": lambda draw, shop: Case("lives", lambda: 0, (), lambda _: True)}

    monkeypatch.setattr(campaign, "kinds", kinds)
    monkeypatch.setattr(Workshop, "build", lambda shop: shop)
    order = [(0, "lives"), (1, "dies"), (2, "lives"), (3, "dies"), (4, "lives")]
    found = campaign.campaign(order, 0, tmp_path / "campaign")
    assert [one.outcome for one in found] == ["right", "crash", "right", "crash", "right"]
