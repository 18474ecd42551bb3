"""What notebooks need of each other's parameters is asked before the first one runs.

Single values are those of `tests/pipeline/test_profiles.py`.
"""

import pytest

from rlhf_hw.errors import InputError
from rlhf_hw.experiments.notebook_values import refuse_bad_values
from rlhf_hw.pipeline.profiles import apply_overrides, load_profile
from rlhf_hw.pipeline.sizes import all_values

OWN = ["own_models=true", "parts=helpful, harmless"]
MIXED = ["train_dataset=hub/helpful-a, hub/harmless", "eval_dataset=hub/helpful-a, hub/harmless"]
JUDGED = ("dpo_training", "dpo_inference_analysis", "score_gap")
FIRST = [f"{name}.{key}_dataset=hub/helpful-a" for name in JUDGED for key in ("train", "eval")]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["own_models=true", *MIXED, *FIRST], r"own_models: .* names none; .* \(notebooks: reward_model_t"),
        ([*OWN, *MIXED, *FIRST, "eval_dataset=hub/helpful-a"], "no source belongs to harmless"),
        ([*OWN, *MIXED], "train_dataset: .* part 'helpful', .* without hub/harmless .*dpo_training, .*_gap"),
        ([*OWN, *MIXED, *FIRST[:-1]], r"eval_dataset: replies are judged .* \(notebooks: score_gap\)"),
    ],
)
def test_models_of_parts_need_data_that_fit_them(overrides: list[str], told: str) -> None:
    fitting = apply_overrides(load_profile("nano"), [*OWN, *MIXED, *FIRST])
    refuse_bad_values(all_values(fitting))
    with pytest.raises(InputError, match=told):
        refuse_bad_values(all_values(apply_overrides(load_profile("nano"), overrides)))


def test_the_profile_with_models_of_parts_trains_policies_on_the_first_alone() -> None:
    values = all_values(load_profile("smollm2"))
    assert values["reward_model_training"]["own_models"] and values["reward_model_evaluation"]["own_models"]
    shown = load_profile("smollm2").parameters["show_texts"]
    for name in JUDGED:
        sources = {values[name][f"{key}_dataset"] for key in ("train", "eval")}
        assert len(sources) == 1 and all(shown in part for part in sources.pop().split(","))
    assert values["dpo_inference_analysis"]["parts"] == ""


def test_a_sampled_reply_has_room_to_be_scored_to_its_end() -> None:
    judged = ["dpo_inference_analysis.max_new_tokens=128"]
    refuse_bad_values(all_values(apply_overrides(load_profile("nano"), [*judged, "max_reply_tokens=129"])))
    told = r"max_new_tokens: .* in max_reply_tokens 128: .* found 128 \(notebooks: dpo_inference_analysis\)"
    with pytest.raises(InputError, match=told):
        refuse_bad_values(all_values(apply_overrides(load_profile("nano"), judged)))
    # without the world notebook 02 samples nothing
    pairs = ["world=false", "ood_split=", "reward_model_evaluation.max_reply_tokens=60"]
    refuse_bad_values(all_values(apply_overrides(load_profile("nano"), pairs)))
