import copy

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from rlhf_hw.models.generation import choose_tokens, generate
from rlhf_hw.models.loading import load_policy


@pytest.fixture(scope="module")
def policy(policy_folder, renderer, prompts):
    """A random model that ends its turn at about every tenth token: that logit is about 3.5 everywhere."""
    model = load_policy(policy_folder)
    with torch.no_grad():
        states = [
            model.model(torch.tensor([ids])).last_hidden_state[0] for ids in renderer.prompt_ids(prompts)
        ]
        mean = torch.cat(states).mean(0)
        model.lm_head.weight[renderer.end_id] = 3.5 * mean / mean.square().sum()
    return model


@pytest.fixture(scope="module")
def prompts(preferences) -> list:
    return [p.prompt for p in preferences[:16]]


def test_batch_size_changes_no_reply(policy, renderer, prompts) -> None:
    replies = generate(policy, renderer, prompts, max_new_tokens=20, seed=3, batch_size=16)
    assert len({tuple(r.ids) for r in replies}) == 16
    assert 0 < sum(r.finished for r in replies) < 16
    for size in (1, 3):
        assert generate(policy, renderer, prompts, max_new_tokens=20, seed=3, batch_size=size) == replies
    for reply in replies:
        assert reply.finished == (reply.ids[-1] == renderer.end_id)
        assert reply.finished or len(reply.ids) == 20
        assert renderer.end_id not in reply.ids[:-1]
        assert reply.text == renderer.tokenizer.decode(reply.ids, skip_special_tokens=True)


def test_samples_of_one_prompt(policy, renderer, prompts) -> None:
    several = generate(policy, renderer, prompts[:5], max_new_tokens=12, samples=4, seed=3, batch_size=8)
    assert len({tuple(r.ids) for r in several}) > 15
    # the first sample is what a run with one sample gives, and a smaller batch changes none
    assert several[::4] == generate(policy, renderer, prompts[:5], max_new_tokens=12, seed=3)
    assert several == generate(
        policy, renderer, prompts[:5], max_new_tokens=12, samples=4, seed=3, batch_size=1
    )


def test_seeds(policy, renderer, prompts) -> None:
    first, again, other = (
        generate(policy, renderer, prompts[:4], max_new_tokens=8, seed=s) for s in (1, 1, 2)
    )
    assert first == again != other
    # a longer limit goes on with the same reply
    longer = generate(policy, renderer, prompts[:4], max_new_tokens=16, seed=1)
    assert [r.ids[:8] for r in longer] == [r.ids for r in first]


def test_greedy_equals_transformers(policy, renderer, prompts) -> None:
    ours = generate(policy, renderer, prompts[:8], max_new_tokens=15, temperature=0, samples=1, batch_size=3)
    for prompt, reply in zip(renderer.prompt_ids(prompts[:8]), ours, strict=True):
        output = policy.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=15,
            do_sample=False,
            eos_token_id=renderer.end_id,
            pad_token_id=renderer.pad_id,
        )
        assert reply.ids == output[0, len(prompt) :].tolist()


def test_sampled_tokens_follow_the_model(policy, renderer, prompts) -> None:
    """The first token of many samples has the frequencies of the model's own distribution."""
    (ids,) = renderer.prompt_ids(prompts[:1])
    with torch.no_grad():
        probabilities = policy(input_ids=torch.tensor([ids])).logits[0, -1].double().softmax(-1).numpy()
    count = 2000
    replies = generate(
        policy, renderer, prompts[:1], max_new_tokens=1, samples=count, batch_size=count, seed=0
    )
    seen = np.bincount([r.ids[0] for r in replies], minlength=len(probabilities))
    order = np.argsort(-probabilities)
    top = order[probabilities[order] * count >= 5]
    observed, expected = np.append(seen[top], count - seen[top].sum()), probabilities[top] * count
    assert len(top) > 5
    assert chisquare(observed, np.append(expected, count - expected.sum())).pvalue > 1e-3


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_chosen_tokens_have_the_right_frequencies(temperature) -> None:
    logits = torch.tensor([2.0, -torch.inf, 0.0, 1.0, -1.0])
    uniforms = torch.from_numpy(np.random.default_rng(0).random(20000))
    tokens = choose_tokens(logits.expand(20000, -1), uniforms, temperature)
    seen = torch.bincount(tokens, minlength=5).numpy()
    expected = (logits / temperature).double().softmax(-1).numpy() * 20000
    assert seen[1] == 0
    assert chisquare(np.delete(seen, 1), np.delete(expected, 1)).pvalue > 1e-3


def test_tokens_lie_at_their_place_in_the_cumulative_distribution() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    places = {0.0: 0, 0.499: 0, 0.501: 1, 0.799: 1, 0.801: 2, 1 - 2**-53: 2}
    for uniform, token in places.items():
        assert choose_tokens(logits, torch.tensor([uniform], dtype=torch.float64), 1.0).item() == token
    zero_first = torch.tensor([[-torch.inf, 0.0]])
    assert choose_tokens(zero_first, torch.zeros(1, dtype=torch.float64), 1.0).item() == 1


def test_top_p_keeps_the_likeliest_tokens() -> None:
    logits = torch.tensor([0.2, 0.5, 0.05, 0.25]).log()
    uniforms = torch.from_numpy(np.random.default_rng(0).random(4000))
    for top_p, kept in ((0.4, {1}), (0.5, {1}), (0.6, {1, 3}), (0.94, {0, 1, 3}), (1.0, {0, 1, 2, 3})):
        tokens = choose_tokens(logits.expand(4000, -1), uniforms, 1.0, top_p)
        assert set(tokens.tolist()) == kept, top_p
    tokens = choose_tokens(logits.expand(4000, -1), uniforms, 1.0, 0.6)
    assert (tokens == 1).double().mean().item() == pytest.approx(0.5 / 0.75, abs=0.03)
    assert choose_tokens(logits[None], uniforms[:1], 0.0).item() == 1


def test_a_reply_ends_at_each_token_that_the_model_names(policy, renderer, prompts) -> None:
    alone = generate(policy, renderer, prompts, max_new_tokens=20, seed=3)
    other = max(range(len(renderer.tokenizer)), key=lambda i: sum(i in r.ids[1:-1] for r in alone))
    model = copy.deepcopy(policy)
    model.generation_config.eos_token_id = [other, renderer.end_id]
    replies = generate(model, renderer, prompts, max_new_tokens=20, seed=3)
    earlier = 0
    for reply, longer in zip(replies, alone, strict=True):
        cut = longer.ids.index(other) + 1 if other in longer.ids else len(longer.ids)
        assert reply.ids == longer.ids[:cut]
        assert reply.finished == (longer.finished or other in longer.ids)
        assert reply.text == renderer.decode(reply.ids[:-1] if reply.finished else reply.ids)
        earlier += cut < len(longer.ids)
    assert earlier > 2


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_embeddings_without_a_token_are_never_sampled(policy, renderer, prompts, temperature) -> None:
    """Qwen2.5's table has 271 rows more than its tokenizer knows tokens."""
    wide, count = copy.deepcopy(policy), len(renderer.tokenizer)
    wide.resize_token_embeddings(count + 24, mean_resizing=False)
    with torch.no_grad():  # likelier than any other
        wide.get_input_embeddings().weight[count:] = 2 * policy.lm_head.weight[renderer.end_id]
    replies = generate(wide, renderer, prompts, max_new_tokens=20, seed=3, temperature=temperature)
    assert max(max(r.ids) for r in replies) < count
    assert replies == generate(policy, renderer, prompts, max_new_tokens=20, seed=3, temperature=temperature)


@pytest.mark.parametrize("setting", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_settings_that_cannot_be(policy, renderer, prompts, setting) -> None:
    with pytest.raises(ValueError, match="expected temperature >= 0 and 0 < top_p <= 1"):
        generate(policy, renderer, prompts, **setting)
