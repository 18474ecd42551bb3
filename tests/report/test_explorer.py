"""The reply explorer's file: complete, escaped, closed by its policy, in two languages; `rlhf-hw explore`."""

import base64
import hashlib
import html
import json
import re
from pathlib import Path

import pytest
import yaml
from explored_rows import BREAKING, SECRET, write_run

from rlhf_hw import cli
from rlhf_hw.errors import InputError
from rlhf_hw.experiments.explored import explored_run
from rlhf_hw.paths import REPORT
from rlhf_hw.pipeline.graph import STAGES
from rlhf_hw.report import LANGUAGES, current, explorer
from rlhf_hw.report.explorer import FOLDER, as_data, read_labels, write_explorer

SCRIPTS = "".join((FOLDER / name).read_text(encoding="utf-8") for name in explorer.SCRIPTS)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[dict, str]:
    """What was found, and the page of it as text."""
    folder = tmp_path_factory.mktemp("explorer")
    found = explored_run(write_run(folder))
    return found, write_explorer(found, folder / "explorer.html").read_text(encoding="utf-8")


def elements(page: str, tag: str) -> list[str]:
    return re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}>", page, re.DOTALL)


def test_the_page_holds_its_data_whole_and_no_text_can_end_them(written) -> None:
    found, page = written
    _, data, _ = elements(page, "script")
    assert json.loads(data) == json.loads(json.dumps(found))
    assert BREAKING in [text["t"] for text in json.loads(data)["texts"]]
    assert not set("<>&\u2028\u2029") & set(data)


@pytest.mark.parametrize(
    "text", ["</script><b>", "<!-- <script>", "\u2028\u2029\ufeff", "\ud800 half", "]]>", "&lt;\\u003c\x00"]
)
def test_any_text_comes_back_as_it_was(text) -> None:
    data = as_data({text: [text, 1.5]})
    assert json.loads(data) == {text: [text, 1.5]} and not set("<>&\u2028\x00") & set(data)
    data.encode("utf-8")


def test_numbers_that_json_cannot_say_are_refused() -> None:
    with pytest.raises(InputError, match="the explorer's data"):
        as_data({"score": float("nan")})


def test_a_title_and_a_hole_in_a_text_stay_text(tmp_path) -> None:
    found = {"title": "<i>{{script}}</i>", "texts": ["{{style}}"]}
    page = write_explorer(found, tmp_path / "page.html").read_text(encoding="utf-8")
    assert elements(page, "title") == ["Replies: &lt;i&gt;{{script}}&lt;/i&gt;"]
    assert json.loads(elements(page, "script")[1]) == found


def test_the_policy_allows_the_pages_own_style_and_script_alone(written) -> None:
    _, page = written
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1])
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for rule, text in (
        ("style-src", elements(page, "style")[0]),
        ("script-src", elements(page, "script")[2]),
    ):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not re.findall(
        r"https?:|<link|@import|url\(|\bsrc=", page.replace(elements(page, "script")[1], "")
    )


def test_scripts_make_no_elements_of_texts() -> None:
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|new Function|fetch\(|XMLHttp|import\("
    )
    assert not re.findall(forbidden, SCRIPTS)


def test_labels_are_whole_used_and_in_both_languages() -> None:
    labels = read_labels()
    for key, words in labels.items():
        assert set(words) == set(LANGUAGES), key
        holes = [re.findall(r"\{\d\}", words[language]) for language in LANGUAGES]
        assert sorted(holes[0]) == sorted(holes[1]), key
    assert set(re.findall(r'\bt\("([\w.-]+)"', SCRIPTS)) <= set(labels)
    groups = {"by", "short", "v", "s", "set", "policy", "finding", "kind", "part"}  # by what the data hold
    plain = {key for key in labels if key.partition(".")[0] not in groups}
    assert plain - set(re.findall(r'"([\w.-]+)"', SCRIPTS)) == {"no-script"}, "nobody says these"


def test_every_part_kind_and_order_has_a_name(written) -> None:
    found, labels = written[0], read_labels()
    assert {f"part.{part}" for part in found["parts"]} <= set(labels)
    kinds = {sentence[2] for text in found["texts"] for sentence in text["g"]}
    assert {f"kind.{kind}" for kind in kinds} <= set(labels)
    orders = re.findall(r'"?([\w-]+)"?: \(', re.search(r"const ORDERS = \{(.*?)\n\};", SCRIPTS, re.DOTALL)[1])
    assert len(orders) > 10 and {f"s.{order}" for order in orders} <= set(labels)
    names = {one["key"] for one in found["sets"]} | {f"pairs-{name}" for name in ("train", "ood", "hard")}
    assert {f"set.{name}" for name in names} <= set(labels)


def test_views_are_of_figures_and_tables_of_the_report() -> None:
    views = yaml.safe_load((FOLDER / "views.yaml").read_text(encoding="utf-8"))["views"]
    text = (REPORT / "report.en.md").read_text(encoding="utf-8")
    labels = set(re.findall(r"\{#(tbl:[\w-]+)", text))
    assert views.keys() <= labels | {name for stage in STAGES.values() for name in stage.figures}


def test_explore_writes_a_page_for_a_run_and_hides_what_its_profile_hides(tmp_path, capsys) -> None:
    run = write_run(tmp_path / "mixed", world=False, show_texts="helpful")
    assert cli.main(["explore", str(run), "--language", "zh"]) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page == run / "report/explorer.html"
    text = page.read_text(encoding="utf-8")
    assert SECRET not in text and '"start":"zh"' in text
    assert cli.main(["explore", str(run), "--show-texts", "all", "--out", str(tmp_path / "all.html")]) == 0
    assert SECRET in (tmp_path / "all.html").read_text(encoding="utf-8")
    pairs = str(run / "scores/validation.jsonl")
    assert cli.main(["explore", pairs, "--out", pairs]) == 1
    assert "is read" in capsys.readouterr().err
    assert cli.main(["explore", "no-such-run"]) == 1
    assert "no-such-run" in capsys.readouterr().err


def test_the_report_links_to_the_explorer_that_lies_beside_it(tmp_path, monkeypatch) -> None:
    run, seen = write_run(tmp_path / "nano", prompts=3), []

    def build(name, languages, engine):
        seen.append((run / "report/explorer.html").exists())
        return []

    (run / "metrics.json").write_text("{}")
    monkeypatch.setattr(current, "build_report", build)
    written = current.refresh_report(run, ["zh", "en"], "auto", explored_run)
    assert written == [run / "report/explorer.html"] and seen == [True]
    assert '"start":"zh"' in written[0].read_text(encoding="utf-8")
    for file in (run / "scores").iterdir():
        file.unlink()
    assert current.refresh_report(run, ["en"], "auto", explored_run) == [] and seen == [True, False]
