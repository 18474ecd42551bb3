"""The notebook that stands alone: it needs nothing of the library, and its texts become the same tokens.

That its losses are those of the library and of TRL, `tests/training/test_losses.py` shows.
"""

import ast
import sys

from notebook_code import notebook_functions, notebook_tree

from rlhf_hw.models.batches import tokenize_preferences
from rlhf_hw.models.rendering import Renderer, load_tokenizer
from rlhf_hw.paths import DATA
from rlhf_hw.preferences.reading import load_preferences

STEM = "dpo_from_scratch"


def test_it_imports_torch_transformers_and_what_draws() -> None:
    tree = notebook_tree(STEM)
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    others = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    assert others == {"torch", "transformers", "matplotlib"}


def test_its_pairs_and_tokens_are_those_of_the_library() -> None:
    made = notebook_functions(STEM)
    tokenizer = load_tokenizer(DATA / "base-model")
    preferences, _ = load_preferences(str(DATA / "nano"), "HOMEWORK", "train", 40)
    groups = tokenize_preferences(preferences, Renderer(tokenizer))[0]
    read = made["read_pairs"](made["find"]("data/nano/train.jsonl.gz"))
    pairs = [pair for pair, _ in zip(read, preferences, strict=False)]
    assert pairs == [(one.prompt[-1].content, one.chosen, one.rejected) for one in preferences]
    for number, pair in enumerate(pairs):
        bounds = groups.offsets[number]
        ids = [groups.ids[a:b].tolist() for a, b in zip(bounds, bounds[1:], strict=False)]
        assert list(made["encode"](tokenizer, pair)) == ids


def test_rows_that_teach_nothing_are_left_out(tmp_path) -> None:
    rows = [("a", "b", 1), ("a", "b", 2), ("a", "b", 0), ("a", "a", 1)]
    text = '{{"question": "q", "response_1": "{}", "response_2": "{}", "overall_response": {}}}\n'
    (tmp_path / "pairs.jsonl").write_text("".join(text.format(*row) for row in rows))
    read = notebook_functions(STEM)["read_pairs"](str(tmp_path / "pairs.jsonl"))
    assert list(read) == [("q", "a", "b"), ("q", "b", "a")]
