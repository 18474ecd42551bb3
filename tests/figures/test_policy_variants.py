"""Figures of policies trained with DPO's variants: what is drawn where."""

from drawings import DRAWINGS, named

from rlhf_hw.figures.policy_variants import LOSS_LOOKS, LOWEST_GOLD, variant_frontiers, variants_at_their_best


def test_every_loss_has_a_panel_with_its_line_and_a_ring_at_its_chosen_rate():
    panels = [axes for axes in DRAWINGS["variant_frontiers"]().axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == [label for label, _, _ in LOSS_LOOKS.values()]
    for axes, (label, colour, mark) in zip(panels, LOSS_LOOKS.values(), strict=True):
        lines = [line for line in axes.lines if len(line.get_xdata()) == 3]
        own = [line for line in lines if line.get_label() == label]
        assert [(line.get_color(), line.get_marker()) for line in own] == [(colour, mark)]
        assert len(lines) == len(LOSS_LOOKS)  # the others are there, pale
        rings = [line for line in axes.lines if line.get_markersize() == 10]
        assert [ring.get_xdata()[0] for ring in rings] == [0.5]


def test_a_point_far_below_is_named_at_the_edge_and_presses_nothing_together():
    near = [{"kl": 0.1, "gold": 0.4, "chosen": True}, {"kl": 1.0, "gold": -1.0, "chosen": False}]
    far = [*near, {"kl": 30.0, "gold": -3.26, "chosen": False}]
    left, right = variant_frontiers({"DPO": near, "SimPO": far}).axes
    assert left.get_ylim() == right.get_ylim() and right.get_ylim()[0] == LOWEST_GOLD
    assert [text.get_text() for text in right.texts if text.get_text()] == ["−3.3"] and not left.texts
    whole = variant_frontiers({"DPO": near}).axes[0]
    assert whole.get_ylim()[0] < -1.0 and whole.get_ylim()[0] > LOWEST_GOLD and not whole.texts


def test_no_interval_of_a_divergence_goes_below_zero():
    numbers = named("gold", 0.5) | named("words", 0.5) | named("kl", 0.02)
    numbers |= {"kl_trainings_low": -0.4, "kl_trainings_high": 0.5}
    kl = variants_at_their_best({"honest": {"DPO": numbers}, "flipped": {}, "shuffled": {}}).axes[1]
    ends = [end for bars in kl.collections for path in bars.get_paths() for end in path.vertices[:, 0]]
    assert min(ends) == 0.0 and max(ends) == 0.5


def test_one_rate_and_one_loss_are_enough():
    one = [{"kl": 0.2, "gold": 0.1, "chosen": True}]
    assert len(variant_frontiers({"DPO": one}).axes[0].lines) >= 2


def test_labels_of_one_loss_share_its_row():
    numbers = {key: value for name in ("gold", "kl", "words") for key, value in named(name, 0.5).items()}
    trained = {"honest": {"DPO": numbers, "NLL": numbers}, "flipped": {"DPO": numbers}, "shuffled": {}}
    panels = variants_at_their_best(trained).axes
    assert [text.get_text() for text in panels[0].get_yticklabels()] == ["DPO", "likelihood alone"]
    places = [line.get_ydata()[0] for line in panels[1].lines if line.get_marker() in "os"]
    assert [round(place) for place in places] == [1, 0, 1]
