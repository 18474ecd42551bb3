"""A report that was filled and checked, ready to be typeset."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Document:
    """A checked report: its pandoc syntax tree, and the folder to build it in, with its figures in `fig/`."""

    tree: Path
    language: str
    folder: Path
    bibliography: Path
    strict: bool = False  # text that leaves its place is an error, not a warning

    @property
    def name(self) -> str:
        """File name without suffix, for example `report.en`."""
        return self.tree.stem

    @property
    def short(self) -> bool:
        """A few pages to hand in: no list of contents, and set closer."""
        return self.name.startswith("report.short.")

    @property
    def margin(self) -> float:
        """Centimetres around the text of a page."""
        return 2.1 if self.short else 2.5
