"""Small random models, a tokenizer and preference data that the tests of the core share."""

import atexit
import json
import os
import random
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models are tiny: more threads only wait for each other
if "HF_DATASETS_CACHE" not in os.environ:  # files of tests need no place in the user's cache
    os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="rlhf-hw-tests-")
    atexit.register(shutil.rmtree, os.environ["HF_DATASETS_CACHE"], ignore_errors=True)

import pytest

FULL = "RLHF_HW_FULL"  # environment: with any value the tests of the full run are run too


def pytest_collection_modifyitems(items) -> None:
    """Leave out what only the full run does."""
    for item in items:
        if item.get_closest_marker("full") and not os.environ.get(FULL):
            item.add_marker(pytest.mark.skip(reason=f"only in the full run (make test-full, or {FULL}=1)"))


WORDS = "tea rain warm boil water leaf kettle cold slowly pour the a wait then never cup ten minutes".split()


def sentence(generator: random.Random, low: int, high: int) -> str:
    """Random words, which differ in number more than in kind."""
    return " ".join(generator.choices(WORDS, k=generator.randint(low, high))).capitalize() + "."


@pytest.fixture(scope="session")
def rows() -> list[dict]:
    """24 rows in the homework's schema, replies of 1 to 25 words; the reply with more "tea" is better."""
    generator = random.Random(0)
    made = []
    for number in range(24):
        first, second = sentence(generator, 1, 25), sentence(generator, 1, 25)
        better = 1 if first.lower().count("tea") > second.lower().count("tea") else 2
        made.append(
            {
                "question": f"{number}: {sentence(generator, 2, 12)}",
                "response_1": first,
                "response_2": second,
                "overall_response": better,
            }
        )
    return made


@pytest.fixture(scope="session")
def preferences(rows):
    """The rows as preferences; every third has two earlier turns."""
    from rlhf_hw.preferences.templates import TEMPLATES, Message, Preference

    made = []
    for number, row in enumerate(rows):
        p = TEMPLATES["HOMEWORK"](row)
        earlier = (
            (Message("user", "Is it cold?"), Message("assistant", "Warm rain.")) if number % 3 == 0 else ()
        )
        made.append(Preference(earlier + p.prompt, p.chosen, p.rejected, row=number))
    return made


@pytest.fixture(scope="session")
def pairs_file(rows, tmp_path_factory) -> Path:
    """The rows as a JSON-lines file."""
    path = tmp_path_factory.mktemp("data") / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tokenizer(rows):
    from rlhf_hw.training.base_model import train_tokenizer

    return train_tokenizer([v for row in rows for v in row.values() if isinstance(v, str)], vocabulary=320)


@pytest.fixture(scope="session")
def renderer(tokenizer):
    from rlhf_hw.models.rendering import Renderer

    return Renderer(tokenizer)


@pytest.fixture(scope="session")
def groups(preferences, renderer):
    """The preferences, tokenized."""
    from rlhf_hw.models.batches import tokenize_preferences

    return tokenize_preferences(preferences, renderer)[0]


def make_language_model(tokenizer, seed: int):
    """A random Qwen2 of 2 layers whose weights are large enough for its outputs to depend on the input."""
    import torch

    from rlhf_hw.training.base_model import new_language_model
    from rlhf_hw.training.config import NewModel

    shape = NewModel(hidden_size=32, layers=2, heads=4, intermediate_size=64)
    model = new_language_model(tokenizer, shape, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return model.eval()


@pytest.fixture(scope="session")
def policy_folder(tokenizer, renderer, tmp_path_factory) -> Path:
    """A checkpoint of a random language model with its tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "policy"
    make_language_model(tokenizer, 1).save_pretrained(folder)
    renderer.save(folder)
    return folder


@pytest.fixture(scope="session")
def other_folder(tokenizer, renderer, tmp_path_factory) -> Path:
    """Another random language model with the same tokenizer, for example as reference."""
    folder = tmp_path_factory.mktemp("models") / "other"
    make_language_model(tokenizer, 2).save_pretrained(folder)
    renderer.save(folder)
    return folder


@pytest.fixture(scope="session")
def reward_folder(policy_folder, renderer, tmp_path_factory) -> Path:
    """A checkpoint of a random reward model."""
    from rlhf_hw.models.loading import load_reward_model

    folder = tmp_path_factory.mktemp("models") / "reward"
    model = load_reward_model(policy_folder, seed=3)
    model.config.pad_token_id = renderer.pad_id
    model.save_pretrained(folder)
    renderer.save(folder)
    return folder


@pytest.fixture
def settings(pairs_file, policy_folder, tmp_path):
    """Make the settings of a tiny run: 24 pairs, 6 steps an epoch."""

    def make(kind, name="run", **changes):
        values = {
            "model": str(policy_folder),
            "output_dir": tmp_path / name,
            "train_dataset": str(pairs_file),
            "batch_size": 4,
            "learning_rate": 1e-3,
            "warmup_ratio": 0.0,
            "logging_steps": 1,
            "dtype": "fp32",
            "report_to": "none",
        }
        return kind(**values | changes)

    return make


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty folder for reference log-probabilities, instead of the project's own."""
    monkeypatch.setattr("rlhf_hw.training.reference.RUNS", tmp_path / "runs")
    return tmp_path / "runs" / "cache"


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Every test draws the same random numbers, whichever tests ran before it."""
    import torch

    torch.manual_seed(0)
