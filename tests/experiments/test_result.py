"""Numbers of several trainings are averaged name by name."""

from rlhf_hw.experiments.result import averaged


def test_means_over_trainings_keep_whole_numbers_that_agree():
    found = averaged([{"pairs": 2000, "loss": 0.2, "only": 1.0}, {"pairs": 2000, "loss": 0.4}])
    assert found == {"pairs": 2000, "loss": 0.30000000000000004} and isinstance(found["pairs"], int)
    assert averaged([{"loss": 0.2}]) == {"loss": 0.2}
