"""Figures of policies trained with DPO's variants: what is drawn where."""

from drawings import DRAWINGS, named

from rlhf_hw.figures.policy_variants import LOSS_LOOKS, variant_frontiers, variants_at_their_best


def test_every_loss_has_a_line_and_a_ring_at_its_chosen_rate():
    axes = DRAWINGS["variant_frontiers"]().axes[0]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert [line.get_label() for line in lines] == [label for label, _, _ in LOSS_LOOKS.values()]
    rings = [line for line in axes.lines if line.get_markersize() == 10]
    assert [ring.get_xdata()[0] for ring in rings] == [0.5] * len(LOSS_LOOKS)
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == len(LOSS_LOOKS)


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
