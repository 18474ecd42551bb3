"""What a report shows of experiments: the run's own results, else those kept for its profile, marked."""

import json
from pathlib import Path

import pytest

from rlhf_hw import paths
from rlhf_hw.errors import InputError
from rlhf_hw.pipeline import kept_results
from rlhf_hw.pipeline.graph import STAGES, Stage
from rlhf_hw.report import build, shown
from rlhf_hw.report.fields import Facts, FieldError

STEM = "91_asked"
TEXT = """\
# A {#sec:a}

<!-- if asked -->
{{kept:asked}}

Right on {{asked.accuracy:.2f}}.

{{table:groups}}

: Groups. {#tbl:groups}

![Drawn.](fig/groups.pdf){#fig:groups width=50%}
<!-- endif -->
"""
MARK = "{{kept:asked}}\n"
SIZE = "/MediaBox [0 0 300 200] "  # what a report asks of a figure
WORDS = {
    "en": "The numbers and figures of notebook 91 are kept from the full run of commit abc1 on A CPU\\, fast "
    "(2 threads, float32).",
    "zh": "本报告所依据的运行未执行第 91 号笔记本；该笔记本的数字与图取自另一次完整规模的运行，"
    "代码提交为 abc1（A CPU\\, fast，2 线程，float32）。",
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of the profile `tiny` without its experiment, of which results were kept."""
    stage = Stage(
        makes=("metrics/91.json", "tables/groups.json"), figures=("groups", "further"), experiment=True
    )
    monkeypatch.setitem(STAGES, STEM, stage)
    monkeypatch.setattr(paths, "FIG", tmp_path / "fig")
    monkeypatch.setattr(shown, "FIG", tmp_path / "fig")
    monkeypatch.setattr(kept_results, "KEPT_RESULTS", tmp_path / "kept")
    files = {
        "kept/91_asked/metrics.json": {"asked.accuracy": 0.75},
        "kept/91_asked/tables/groups.json": [{"group": "kept", "share": 0.5}],
        "kept/91_asked/record.json": {
            "profile": "tiny",
            "commit": "abc1",
            "processor": "A CPU, fast",
            "threads": 2,
            "dtype": "float32",
            "files": {"fig/groups.pdf": "1", "fig/groups.svg": "2"},
        },
        "runs/tiny/metrics.json": {"rm.accuracy": 0.5},
        "runs/tiny/run.json": {"experiments": []},
    }
    for name, content in files.items():
        write(tmp_path / name, json.dumps(content))
    for form in ("groups.pdf", "groups.svg", "zh/groups.pdf", "zh/groups.svg", "further.pdf"):
        write(tmp_path / "fig" / form, f"{SIZE}kept")
    write(tmp_path / "references.bib", "")
    return tmp_path / "runs/tiny"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def own_results(run: Path) -> None:
    """What the experiment leaves in the run's folder, up to date or not."""
    write(run / "metrics.json", json.dumps({"rm.accuracy": 0.5, "asked.accuracy": 0.25}))
    write(run / "metrics/91.json", json.dumps({"asked.accuracy": 0.25}))
    write(run / "tables/groups.json", json.dumps([{"group": "own", "share": 0.5}]))
    for form in ("groups.pdf", "groups.svg", "zh/groups.pdf", "zh/groups.svg"):
        write(run / "fig" / form, f"{SIZE}own")


def filled(run: Path, language: str = "en", text: str = TEXT) -> str:
    """The text of a report as it is built."""
    source = run.parents[1] / f"report.{language}.md"
    source.write_text(text, encoding="utf-8")
    (facts,) = shown.run_facts(run, [language])
    build.prepare(source, facts, run)
    return (run / "report/build" / source.name).read_text(encoding="utf-8")


def drawn(run: Path, language: str) -> str:
    return (run / f"report/build/fig/{language}/groups.pdf").read_text().removeprefix(SIZE)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_run_without_its_experiment_shows_what_was_kept_and_says_so(run: Path, language: str) -> None:
    text = filled(run, language)
    assert WORDS[language] in text and "Right on 0.75" in text and "| kept |" in text
    assert drawn(run, language) == "kept"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_was_kept_is_said_at_length_once(run: Path, language: str) -> None:
    again = {
        "en": "These numbers and figures, too, are kept from that run of notebook 91.",
        "zh": "同样取自第 91 号笔记本的上述运行",
    }
    text = filled(run, language, TEXT + "\n" + MARK + "\n" + MARK)
    assert text.count(WORDS[language]) == 1 and text.count(again[language]) == 2
    assert text.index(WORDS[language]) < text.index(again[language])


@pytest.mark.parametrize("language", ["en", "zh"])
def test_others_of_the_same_code_and_machine_are_said_shortly(language: str) -> None:
    maker = {"commit": "abc1", "processor": "A CPU", "threads": 2, "dtype": "float32"}
    makers = {"one": maker, "other": maker | {"commit": "def2"}, "two": maker}
    kept = {
        name: kept_results.KeptResult(f"9{i}_{name}", made, {}, {}, {})
        for i, (name, made) in enumerate(makers.items())
    }
    kept |= {"own": None, "small": None, "smaller": None}
    facts = Facts({}, {}, {}, language, kept, {"small": "94_small", "smaller": "95_smaller"})
    told = [facts.mark(name, "here") for name in kept]
    assert ["abc1" in line for line in told] == [True, False, False, False, False, False]
    assert "def2" in told[1] and "92" in told[2] and told[3] == ""
    assert "90" in told[2] and "91" not in told[2]  # not like the one that was told last
    assert len(told[2]) < len(told[1]) < len(told[0])
    assert "EXPERIMENTS=full" in told[4] and "EXPERIMENTS=full" not in told[5] and "95" in told[5]
    again = [facts.mark(name, "here") for name in kept]
    assert len(set(again[:3])) == 3 and again[3:] == ["", "", ""] and not set(again[:3]) & set(told)


def test_what_was_kept_ends_the_prose_before_it_where_it_is_said_again(run: Path) -> None:
    more = "\n*Prose* ends here.\n\n" + MARK + "\n- an item\n\n" + MARK + "\n$$ a $$\n\n" + MARK
    text = filled(run, text=TEXT + more)
    said = "These numbers and figures, too, are kept from that run of notebook 91."
    assert f"*Prose* ends here. {said}\n" in text
    assert f"- an item\n\n\n{said}\n" in text and f"$$ a $$\n\n\n{said}\n" in text


def test_one_thread_is_one(run: Path) -> None:
    record = run.parents[1] / "kept/91_asked/record.json"
    record.write_text(record.read_text().replace('"threads": 2', '"threads": 1'))
    assert "(1 thread, float32)" in filled(run)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_changes_that_were_not_committed_are_said_in_words(run: Path, language: str) -> None:
    record = run.parents[1] / "kept/91_asked/record.json"
    record.write_text(record.read_text().replace("abc1", "abc1+"))
    said = {
        "en": "of commit abc1 with changes not committed on A CPU",
        "zh": "代码提交为 abc1，另有未提交的改动（A CPU",
    }
    text = filled(run, language)
    assert said[language] in text and "abc1+" not in text


def test_a_record_of_the_run_that_is_missing_or_of_another_state_is_named(run: Path) -> None:
    own_results(run)
    (run / "metrics/91.json").unlink()
    with pytest.raises(InputError, match=f"{run}/metrics.json has numbers of {STEM}, .*run.json .*; run the"):
        filled(run)
    (run / "run.json").unlink()
    with pytest.raises(FileNotFoundError, match=f"{run}/run.json is missing, .*: run the profile again"):
        filled(run)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_its_own_results_count_more_and_need_no_mark(run: Path, language: str) -> None:
    own_results(run)
    write(run / "run.json", json.dumps({"experiments": [STEM]}))
    text = filled(run, language)
    assert "abc1" not in text and "Right on 0.25" in text and "| own |" in text
    assert drawn(run, language) == "own"
    assert "Right on 0.25" in filled(run, language, TEXT.replace(MARK, ""))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_own_results_in_default_size_are_said_to_be_so_once(run: Path, language: str) -> None:
    said = {
        "en": "notebook 91 itself, in default size",
        "zh": "第 91 号笔记本的数字与图由本次运行以默认规模得出",
    }
    own_results(run)
    for reduced, count in (([STEM], 1), ([], 0)):
        write(run / "run.json", json.dumps({"experiments": [STEM], "reduced": reduced}))
        assert filled(run, language, TEXT + "\n" + MARK).count(said[language]) == count


def test_results_of_another_state_are_left_out(run: Path, caplog) -> None:
    own_results(run)
    text = filled(run)
    assert "abc1" in text and "Right on 0.75" in text and "| kept |" in text and drawn(run, "en") == "kept"
    assert f"{STEM} is not up to date in {run}, and left out" in caplog.text


@pytest.mark.parametrize("used", ["{{asked.accuracy:.2f}}", "{{table:groups}}", "![A](fig/groups.pdf)"])
def test_kept_results_without_a_mark_are_an_error(run: Path, used: str) -> None:
    with pytest.raises(FieldError, match=r"report.en.md: .* a line \{\{kept:asked\}\} is missing"):
        filled(run, text=f"# A\n\n{used}\n")
    assert filled(run, text="# A\n\n{{rm.accuracy:.1f}}\n") == "# A\n\n0.5\n"


def test_only_figures_that_were_kept_are_shown(run: Path) -> None:
    with pytest.raises(FieldError, match="no figure 'further'; it is made by 91_asked"):
        filled(run, text="![A](fig/further.pdf)")


def test_another_profile_shows_nothing_of_it(run: Path) -> None:
    other = run.with_name("other")
    write(other / "metrics.json", json.dumps({"rm.accuracy": 0.5}))
    write(other / "run.json", "{}")
    assert filled(other) == "# A {#sec:a}\n\n"
    for text, message in (
        ("{{asked.accuracy:.2f}}", "unknown key 'asked.accuracy'"),
        (MARK, "no results of an experiment 'asked'"),
        ("![A](fig/groups.pdf)", "no figure 'groups'"),
    ):
        with pytest.raises(FieldError, match=message):
            filled(other, text=text)


def test_a_missing_key_stays_an_error(run: Path) -> None:
    with pytest.raises(FieldError, match="unknown key 'asked.precision'"):
        filled(run, text=MARK + "{{asked.precision:.2f}}")


def test_one_key_in_two_places_is_an_error(run: Path) -> None:
    write(run / "metrics.json", json.dumps({"asked.accuracy": 0.5}))
    with pytest.raises(ValueError, match=f"{run}/metrics.json has numbers of {STEM}, .* does not count"):
        shown.run_facts(run, ["en"])
