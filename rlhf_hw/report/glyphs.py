"""Which characters the fonts hold, and what stands for one that no font has.

A report shows what models and data sets wrote, in any script. Its own fonts hold Latin and common Chinese;
other characters come from whichever of the further fonts is there: DejaVu, which matplotlib brings, and from
the system Noto CJK, Noto Emoji and the like. A character that none holds is shown as one sign, `SIGN`, and a
log line says which and what to install. Fonts are asked for glyphs, never trusted by their names: Typst's
export as PDF/UA refuses a text with an empty box, and TeX asks each font (`\\fallback`, `report/header.tex`).
"""

import json
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import matplotlib
import typst

from rlhf_hw.errors import RunFailed

SIGN = "\ufffd"
FONT_PACKAGES = "fonts-noto-cjk fonts-noto-core fonts-symbola"
DEJAVU = ("DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSans.ttf")
SYSTEM_FONTS = True  # whether Typst may use the fonts that are installed here
_TYPOGRAPHY = "–—‘’“”…•€™†‡−\u200b"
_REFUSED = re.compile(r'the text `"(.+?)"` could not be displayed')
_PROBE = """\
#set document(title: "probe")
#for character in json("{name}.json") [#character ]
"""


def is_chinese(char: str) -> bool:
    """Tell whether a character is common Chinese (GB 2312) or its punctuation, as in a Chinese report."""
    code = ord(char)
    if not (0x3000 <= code < 0x3020 or 0x4E00 <= code < 0xA000 or 0xFF01 <= code < 0xFF5F):
        return False
    try:
        char.encode("gb2312")
    except UnicodeEncodeError:
        return False
    return True


def is_usual(char: str) -> bool:
    """Tell whether both the Latin and the Chinese font of the XeLaTeX report hold the character."""
    return ord(char) < 0x180 or char in _TYPOGRAPHY or is_chinese(char)


def is_right_to_left(char: str) -> bool:
    """Tell whether a character belongs to a script such as Arabic or Hebrew."""
    return unicodedata.bidirectional(char) in ("R", "AL")


def visible(text: str) -> str:
    """Return `text` with `SIGN` for each control, direction, private or unassigned character.

    Selectors of a character's variant are left out. Joiners stay: scripts and emoji need them.
    """
    kept = (c for c in text if not "\ufe00" <= c <= "\ufe0f")
    return "".join(SIGN if unicodedata.category(c)[0] == "C" and c not in "\u200c\u200d" else c for c in kept)


def lay_fonts(folder: Path) -> Path:
    """Copy the further fonts that come with matplotlib to `folder`/fonts; return that folder."""
    target = folder / "fonts"
    target.mkdir(exist_ok=True)
    for name in DEJAVU:
        shutil.copyfile(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, target / name)
    return target


def characters(tree: dict) -> set[str]:
    """Return the characters of all texts of a pandoc syntax tree that are not plain Latin."""
    return {char for text in _texts(tree) for char in text if ord(char) >= 0x180 and char not in _TYPOGRAPHY}


def without(tree: dict, missing: Iterable[str]) -> dict:
    """Return a copy of a pandoc syntax tree with `SIGN` for each missing character."""
    signs = str.maketrans(dict.fromkeys(missing, SIGN))
    return _mapped(tree, lambda text: text.translate(signs))


def _mapped(node, change: Callable[[str], str]):
    if isinstance(node, dict):
        if node.get("t") == "Str":
            return {"t": "Str", "c": change(node["c"])}
        if node.get("t") in ("Code", "CodeBlock"):
            return {"t": node["t"], "c": [node["c"][0], change(node["c"][1])]}
        return {key: _mapped(value, change) for key, value in node.items()}
    return [_mapped(part, change) for part in node] if isinstance(node, list) else node


def _texts(tree) -> Iterator[str]:
    found: list[str] = []
    _mapped(tree, lambda text: found.append(text) or text)
    return iter(found)


def typst_lacks(wanted: Iterable[str], folder: Path, name: str = "probe") -> set[str]:
    """Return the characters that none of the fonts Typst finds has a glyph for.

    Args:
        wanted: characters, none of them a control character.
        folder: where the further fonts are laid and the trial document is written.
        name: of the trial document.

    Raises:
        RunFailed: Typst stumbled over something else.
    """
    # a mark that combines needs a letter before it
    wanted = sorted(set(wanted))
    shown = ["a" + c if unicodedata.category(c)[0] == "M" else c for c in wanted]
    (folder / f"{name}.json").write_text(json.dumps(shown), encoding="utf-8")
    source = folder / f"{name}.typ"
    source.write_text(_PROBE.format(name=name), encoding="utf-8")
    try:
        typst.compile(
            str(source), output=str(folder / f"{name}.pdf"), pdf_standards="ua-1", **typst_fonts(folder)
        )
    except typst.TypstError as error:
        told = error.diagnostic or str(error)
        refused = "".join(_REFUSED.findall(told))
        if not refused:
            raise RunFailed(f"typst failed on {source.name}: {told}") from error
        refused = re.sub(r"\\u\{([0-9a-f]+)\}", lambda code: chr(int(code[1], 16)), refused)
        return {char for char in refused if char in wanted}
    return set()


def typst_fonts(folder: Path) -> dict:
    """Options of Typst's compiler that name where fonts are."""
    return {"font_paths": [str(lay_fonts(folder))], "ignore_system_fonts": not SYSTEM_FONTS}
