"""A folder with tiny models and data for the campaign, and what a case of it is."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rlhf_hw import cli
from rlhf_hw.files import digest
from tests.conftest import make_language_model, sentence

QUICK = [
    "--dtype",
    "fp32",
    "--report-to",
    "none",
    "--batch-size",
    "4",
    "--max-steps",
    "1",
    "--max-train",
    "8",
]


@dataclass
class Case:
    """One hostile input.

    Attributes:
        about: What is hostile about it.
        call: What meets it, from beginning to end; returns an exit status, or nothing.
        names: Texts that an error about it has to hold; of a tuple one of its texts.
        right: Whether the result of a call that ended well is right, given what it printed; None where
            nothing can be right and the input has to be refused.
        writes: Files and folders in which the call may write.
        works: Whether refusing it would be wrong.
    """

    about: str
    call: Callable[[], int | None]
    names: tuple = ()
    right: Callable[[str], bool] | None = None
    writes: tuple[Path, ...] = ()
    works: bool = False


@dataclass
class Workshop:
    """A folder in which a campaign works: `models/` and `data/` stay as they are, each case has its own."""

    folder: Path
    number: int = 0
    rows: list[dict] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.models, self.data = self.folder / "models", self.folder / "data"
        self.policy, self.reward = self.models / "policy", self.models / "reward"
        self.pairs, self.replies = self.data / "pairs.jsonl", self.data / "replies.jsonl"
        self.marker = self.folder / "it ran"
        self.rows = good_rows(random.Random(0), 24)

    def build(self) -> "Workshop":
        """Make the models and the data."""
        from rlhf_hw.models.loading import load_reward_model
        from rlhf_hw.models.rendering import Renderer
        from rlhf_hw.training.base_model import train_tokenizer

        texts = [value for row in self.rows for value in row.values() if isinstance(value, str)]
        renderer = Renderer(train_tokenizer(texts, vocabulary=320))
        make_language_model(renderer.tokenizer, 1).save_pretrained(self.policy)
        renderer.save(self.policy)
        model = load_reward_model(self.policy, seed=3)
        model.config.pad_token_id = renderer.pad_id
        model.save_pretrained(self.reward)
        renderer.save(self.reward)
        self.data.mkdir()
        write_lines(self.pairs, self.rows)
        replies = [{"prompt": row["question"], "response": row["response_1"]} for row in self.rows[:6]]
        write_lines(self.replies, replies)
        return self

    def case(self) -> Path:
        """An empty folder for the next case; that of the last one is removed."""
        shutil.rmtree(self.folder / f"case{self.number}", ignore_errors=True)
        self.number += 1
        made = self.folder / f"case{self.number}"
        made.mkdir()
        return made

    def train(self, method: str, output: Path, *flags: str, model: Path | None = None) -> int:
        """`rlhf-hw train` on the good pairs, for one step."""
        given = ["--model", str(model or self.policy), "--train-dataset", str(self.pairs), *QUICK]
        if method == "sft":
            given += ["--eval-dataset", str(self.pairs), "--eval-split", "train", "--max-eval", "4"]
        return cli.main(["train", method, "--output-dir", str(output), *given, *flags])


def good_rows(draw: random.Random, count: int) -> list[dict]:
    """Rows in the homework's schema, the better reply first and second in turn."""
    return [
        {
            "question": f"{number}: {sentence(draw, 2, 12)}",
            "response_1": f"{'Good' if number % 2 else 'Bad'} {number}. {sentence(draw, 1, 20)}",
            "response_2": f"{'Bad' if number % 2 else 'Good'} {number}. {sentence(draw, 1, 20)}",
            "overall_response": 1 if number % 2 else 2,
        }
        for number in range(count)
    ]


def write_lines(path: Path, rows: list) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def snapshot(folder: Path) -> dict[Path, str]:
    """The content of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {path: digest(path) for path in files}
