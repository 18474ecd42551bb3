"""Rotary embeddings of checkpoints that were written for transformers 4, and of ours when it reads them."""

import json
import math

import numpy as np
import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from rlhf_hw.models.loading import load_policy, load_reward_model
from rlhf_hw.training.checkpoints import readable_by_transformers_4

SHAPE = {"hidden_size": 64, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPE |= {"num_key_value_heads": 2, "max_position_embeddings": 256, "vocab_size": 50, "pad_token_id": 0}
SHAPE |= {"bos_token_id": 1, "eos_token_id": 2}
WIDTH = 16  # of a head


def frequencies(theta: float, width: int = WIDTH) -> np.ndarray:
    """Angle a position, of each pair of numbers (Su et al. 2021, arXiv 2104.09864)."""
    return theta ** -(np.arange(0, width, 2) / width)


def llama3(theta: float, factor: float, low: float, high: float, trained: int) -> np.ndarray:
    """Llama 3.1's: long waves are stretched, short ones stay, those between are blended."""
    plain = frequencies(theta)
    turns = trained * plain / (2 * math.pi)
    stay = np.clip((turns - low) / (high - low), 0, 1)
    return stay * plain + (1 - stay) * plain / factor


def yarn(theta: float, factor: float, trained: int) -> np.ndarray:
    """Peng et al. 2023, arXiv 2309.00071: pairs with 1 to 32 turns in the trained length are blended."""
    plain = frequencies(theta)
    pair = [WIDTH * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(theta)) for turns in (32, 1)]
    first, last = max(math.floor(pair[0]), 0), min(math.ceil(pair[1]), WIDTH - 1)
    stretch = np.clip((np.arange(WIDTH // 2) - first) / (last - first), 0, 1)
    return (1 - stretch) * plain + stretch * plain / factor


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 64, "rope_type": "llama3"}
YARN = {"factor": 4.0, "original_max_position_embeddings": 64}
# family; what stands in config.json for transformers 4; the frequencies; the factor of cosine and sine
OLDER = {
    "llama3": (
        "llama",
        {"rope_theta": 500.0, "rope_scaling": LLAMA3},
        llama3(500.0, 8, 1, 4, 64),
        1.0,
    ),
    "yarn": (
        "qwen2",
        {"rope_theta": 1000.0, "rope_scaling": YARN | {"type": "yarn"}},
        yarn(1000.0, 4, 64),
        0.1 * math.log(4) + 1,
    ),
    "linear": (
        "llama",
        {"rope_theta": 300.0, "rope_scaling": {"type": "linear", "factor": 4.0}},
        frequencies(300.0) / 4,
        1.0,
    ),
    "partial": (
        "phi",
        {"rope_theta": 300.0, "partial_rotary_factor": 0.25},
        frequencies(300.0, WIDTH // 4),
        1.0,
    ),
    "neox": (
        "gpt_neox",
        {"rotary_emb_base": 300.0, "rotary_pct": 0.75},
        frequencies(300.0, 3 * WIDTH // 4),
        1.0,
    ),
}
FOR_4 = ("rope_theta", "rope_scaling", "partial_rotary_factor", "rotary_emb_base", "rotary_pct")


@pytest.fixture
def written_for_4(request, tmp_path):
    """A checkpoint whose configuration has the older names only."""
    family, names, *_ = OLDER[request.param]
    AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SHAPE)).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("rope_parameters", *FOR_4)}
    path.write_text(json.dumps(config | names | {"transformers_version": "4.46.0"}))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    return request.param, tmp_path


@pytest.mark.parametrize("written_for_4", OLDER, indirect=True)
def test_they_are_read_with_their_rotary_settings(written_for_4) -> None:
    name, folder = written_for_4
    *_, expected, factor = OLDER[name]
    for model in (load_policy(folder), load_reward_model(folder)):
        rotary = model.base_model.rotary_emb
        np.testing.assert_allclose(rotary.inv_freq.numpy(), expected, rtol=1e-5)
        assert rotary.attention_scaling == pytest.approx(factor)


@pytest.mark.parametrize("written_for_4", OLDER, indirect=True)
def test_ours_carry_the_older_names_again(written_for_4) -> None:
    name, folder = written_for_4
    family, older, expected, _ = OLDER[name]
    load_policy(folder).save_pretrained(folder)
    assert "rope_parameters" in json.loads((folder / "config.json").read_text())
    readable_by_transformers_4(folder)
    config = json.loads((folder / "config.json").read_text())
    scaling = older.get("rope_scaling")
    if scaling is not None:
        read = config["rope_scaling"]
        assert read.pop("rope_type") == scaling.get("rope_type", scaling.get("type"))
        kept = {k: v for k, v in scaling.items() if k not in ("type", "rope_type")}
        assert {k: read[k] for k in kept} == kept and "rope_theta" not in read
    assert {k: config[k] for k in older if k != "rope_scaling"} == {
        k: v for k, v in older.items() if k != "rope_scaling"
    }
    np.testing.assert_allclose(
        load_policy(folder).base_model.rotary_emb.inv_freq.numpy(), expected, rtol=1e-5
    )


def test_longrope_and_settings_by_layer_take_their_older_form(tmp_path) -> None:
    long = {"rope_type": "longrope", "rope_theta": 500.0, "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    full = {"rope_type": "linear", "rope_theta": 5000.0, "factor": 8.0}
    by_layer = {
        "full_attention": full,
        "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    }
    found = []
    for family, settings in (
        ("phi3", {"original_max_position_embeddings": 128, "rope_parameters": long}),
        ("gemma3_text", {"head_dim": WIDTH, "rope_parameters": by_layer}),
    ):
        AutoConfig.for_model(family, **SHAPE | settings).save_pretrained(tmp_path)
        (tmp_path / "tokenizer_config.json").write_text("{}")
        readable_by_transformers_4(tmp_path)
        found.append(json.loads((tmp_path / "config.json").read_text()))
    assert set(found[0]["rope_scaling"]) == {"type", "short_factor", "long_factor"}
    assert found[0]["original_max_position_embeddings"] == 128 and found[0]["rope_theta"] == 500.0
    assert found[1]["rope_scaling"] == {"rope_type": "linear", "factor": 8.0}
    assert (found[1]["rope_theta"], found[1]["rope_local_base_freq"]) == (5000.0, 100.0)
    again = AutoConfig.from_pretrained(tmp_path).rope_parameters
    assert again["full_attention"] == full and again["sliding_attention"]["rope_theta"] == 100.0
