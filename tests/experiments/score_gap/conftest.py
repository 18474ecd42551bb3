"""A small reward model, and replies whose gap is measured."""

import pandas as pd
import pytest

from rlhf_hw.experiments.score_gap.edits import sentence_end_ids
from rlhf_hw.experiments.score_gap.instruments import instruments_for
from rlhf_hw.experiments.score_gap.policy_gap import measure_gap
from rlhf_hw.models.loading import load_reward_model
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.models.scoring import RewardModel
from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.training.base_model import new_language_model, train_tokenizer
from rlhf_hw.training.config import NewModel
from rlhf_hw.world.gold import gold


@pytest.fixture(scope="package")
def few_preferences():
    return load_preferences("data/nano", "HOMEWORK", "validation", 24)[0]


@pytest.fixture(scope="package")
def reward_model_folder(few_preferences, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer([p.chosen for p in few_preferences], vocabulary=600)
    shape = NewModel(hidden_size=32, layers=2, heads=2, intermediate_size=64)
    renderer, base = Renderer(tokenizer), folder / "base"
    new_language_model(tokenizer, shape).save_pretrained(base)
    model = load_reward_model(base)
    model.config.pad_token_id = renderer.pad_id
    model.save_pretrained(folder)
    renderer.save(folder)
    return folder


@pytest.fixture(scope="package")
def reward_model(reward_model_folder):
    return RewardModel(reward_model_folder, dtype="fp32")


@pytest.fixture(scope="package")
def replies(few_preferences, reward_model):
    """The rejected replies as generated ones; every third was cut."""
    rejected = [p.rejected for p in few_preferences]
    texts = [text if n % 3 else text[: len(text) // 2] for n, text in enumerate(rejected)]
    scores = reward_model.score([p.prompt for p in few_preferences], [[text] for text in texts])[:, 0]
    meta = [{"row": p.row} for p in few_preferences]
    finished = [bool(n % 3) for n in range(len(texts))]
    return pd.DataFrame({"response": texts, "score": scores, "finished": finished, "meta": meta})


@pytest.fixture(scope="package")
def ends(reward_model):
    return sentence_end_ids(reward_model.renderer.tokenizer)


@pytest.fixture(scope="package")
def instruments(reward_model, few_preferences):
    return instruments_for(reward_model, few_preferences, gold, price=0.5)


@pytest.fixture(scope="package")
def measure(reward_model, few_preferences, instruments):
    """`measure_gap` of replies with this reward model."""

    def inner(replies, preferences=few_preferences):
        return measure_gap(instruments, reward_model.renderer, replies, preferences)

    return inner


@pytest.fixture(scope="package")
def equal_replies(replies, few_preferences):
    """The chosen replies as generated ones: no gap."""
    return replies.assign(response=[p.chosen for p in few_preferences], finished=True)
