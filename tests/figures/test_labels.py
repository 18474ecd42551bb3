"""Every text of every figure has a translation, which is there while the figure is saved, and gone after."""

import re
import shutil
import subprocess

import matplotlib.pyplot as plt
import pytest
import yaml
from drawings import DRAWINGS, FAULTS, JUDGES, STEP
from matplotlib.axis import Axis
from matplotlib.text import Text

from rlhf_hw.figures import labels
from rlhf_hw.figures.diagrams import DIAGRAMS
from rlhf_hw.figures.labels import FONTS, label_table, language_font, speaking, translation
from rlhf_hw.figures.replies import judged_wins
from rlhf_hw.figures.style import save
from rlhf_hw.paths import LIBRARY

EXPERIMENTS = LIBRARY / "experiments"
CHINESE = re.compile(r"[\u4e00-\u9fff]")


# drawn without a Chinese font, which is saving's affair
pytestmark = pytest.mark.filterwarnings("ignore:Glyph .* missing:UserWarning")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts(figure) -> list[str]:
    """All words that stand in a figure, without formulas."""
    found = [re.sub(r"\$[^$]*\$", "", text.get_text()) for text in figure.findobj(Text)]
    return [text for text in found if re.search(r"[a-z\u4e00-\u9fff]{2}", text)]


@pytest.mark.parametrize("language", FONTS)
@pytest.mark.parametrize("name", [*DRAWINGS, *DIAGRAMS])
def test_every_text_of_every_figure_has_a_translation(name, language):
    figure = (DRAWINGS | DIAGRAMS)[name]()
    before = texts(figure)
    with speaking(figure, language) as untranslated:
        for axis in figure.findobj(Axis):
            axis.get_ticklabels()  # which writes them anew
        said = texts(figure)
    for axis in figure.findobj(Axis):
        axis.get_ticklabels()
    assert untranslated == []
    assert any(map(CHINESE.search, said)) and not any(map(CHINESE.search, before))
    assert texts(figure) == before


def test_numbers_and_names_stand_in_a_translation_where_its_language_wants_them():
    assert translation("chosen, mean -0.32", "zh") == "chosen，均值 -0.32"
    assert translation("read-out + length (?)", "zh") == "打分位置 + 长度（?）"
    assert translation("base\nrank correlation -0.31", "zh") == "基座\n秩相关 -0.31"
    assert translation("SFT minus base", "zh") == "SFT 减基座"
    assert translation("1e-04, 0.1", "zh") == "1e-04, 0.1" and translation("$x_w$", "zh") == "$x_w$"
    assert translation("warp drive", "zh") is None and translation("warp drive, mean 1", "zh") is None


def test_a_translation_has_the_holes_of_its_text():
    table = yaml.safe_load(labels.TABLE.read_text(encoding="utf-8"))
    for words in table.values():
        for english, said in words.items():
            assert sorted(re.findall(r"\{\w\}", english)) == sorted(re.findall(r"\{\w\}", said)), english
    assert len(label_table("zh")) == len(table["zh"])


def test_no_text_is_translated_twice():
    """YAML keeps the last of two equal keys in silence: an axis of gold once got the unit of scores so."""
    keys = [
        key.value
        for _, words in yaml.compose(labels.TABLE.read_text(encoding="utf-8")).value
        for key, _ in words.value
    ]
    assert sorted({key for key in keys if keys.count(key) > 1}) == []


def test_notebooks_and_tests_give_planted_faults_and_judges_the_same_names():
    """The names that figures get from data; what else they say stands in their code, which the tests draw."""
    faults = "".join(path.read_text() for path in (EXPERIMENTS / "score_gap").glob("*faults.py"))
    assert [name for name in FAULTS if f'"{name}"' not in faults] == []
    judges = (EXPERIMENTS / "hard_pairs.py").read_text(encoding="utf-8")
    assert [name for name in JUDGES if f'"{name}"' not in judges] == []


def test_a_text_without_a_translation_is_told_and_stays(tmp_path, caplog):
    figure = judged_wins({"warp - base": STEP})
    save(figure, tmp_path, "wins")
    assert "figure wins has no zh for: warp minus base" in caplog.text
    assert "warp minus base" in texts(figure)


def test_without_a_font_only_the_english_figure_is_left(tmp_path, caplog, monkeypatch):
    (tmp_path / "zh").mkdir()
    (tmp_path / "zh" / "wins.pdf").write_text("of an earlier run")
    monkeypatch.setitem(FONTS, "zh", ("No Such Font", "NoSuchFont.otf"))
    language_font.cache_clear()
    save(judged_wins({"SFT - base": STEP}), tmp_path, "wins")
    language_font.cache_clear()
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["wins.pdf", "wins.png", "wins.svg"]
    assert "no font for figures in Chinese" in caplog.text and "fonts-noto-cjk" in caplog.text


def test_a_chinese_pdf_needs_no_font(tmp_path):
    save(judged_wins({"SFT - base": STEP}), tmp_path, "wins")
    if language_font("zh") is None or not shutil.which("pdffonts"):
        pytest.skip("needs a Chinese font and pdffonts")
    pdf = str(tmp_path / "zh" / "wins.pdf")
    told = subprocess.run(["pdffonts", pdf], capture_output=True, text=True, check=True).stdout
    assert len(told.splitlines()) == 2  # its heading alone
