"""Errors that explain themselves are also the built-in errors a caller expects, and name what is near."""

import pytest
from pydantic import ValidationError

from rlhf_hw.errors import Explained, InputError, RunFailed, UnknownName, did_you_mean, one_line
from rlhf_hw.training.config import RewardTraining


@pytest.mark.parametrize(
    ("error", "builtin"), [(InputError, ValueError), (UnknownName, KeyError), (RunFailed, RuntimeError)]
)
def test_each_is_the_builtin_error_too_and_prints_its_message_as_written(error, builtin) -> None:
    message = "profile.yaml, row 3: 'beta' is \"hot\"\nGive a number."
    with pytest.raises(builtin) as caught:
        raise error(message)
    assert isinstance(caught.value, Explained) and str(caught.value) == message
    assert str(error()) == ""


@pytest.mark.parametrize(
    ("name", "known", "end"),
    [
        ("learning_rte", ["learning_rate", "seed"], " (did you mean learning_rate?)"),
        ("betta", ["beta", "theta", "seed"], " (did you mean beta or theta?)"),
        ("width", ["beta", "seed"], " (nothing similar among 2 names)"),
        ("width", [], " (nothing similar among 0 names)"),
    ],
)
def test_near_names_are_offered(name, known, end) -> None:
    assert did_you_mean(name, known) == end


def test_of_dotted_names_the_last_part_counts_too() -> None:
    known = ["rm.validation.accuracy", "dpo.train.loss", "untrained.margin_mean"]
    assert did_you_mean("inference.gold.margin_mean", known) == " (did you mean untrained.margin_mean?)"


def test_a_number_of_too_many_digits_is_told_what_to_do() -> None:
    with pytest.raises(ValidationError) as caught:
        RewardTraining(model="a", output_dir="b", max_reply_tokens="1" * 5000)
    assert one_line(caught.value).startswith("max_reply_tokens: ")
    assert one_line(caught.value).endswith(": give a smaller number")
