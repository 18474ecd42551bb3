"""Hundreds of replies of one policy to a few prompts: sampled once, scored by reward models, read as states.

All that needs models is here; what is chosen from the replies is arithmetic. Distinct replies are scored
once, so that equal texts have equal scores, whatever batch they were in.

    found = make_many(asked, pairs, Sources(sft, reward_models, base), 512, settings, gold, folder)
    load_many(folder)["scores"]            shape (reward models, prompts, replies)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rlhf_hw.experiments.plural.reply_states import main_directions
from rlhf_hw.experiments.replicate_work import TOGETHER, AnswerSettings, sample_sets
from rlhf_hw.files import make_folder, replacing
from rlhf_hw.models.batches import TokenizedGroups, group_tokens, tokenize_preferences
from rlhf_hw.models.forward import end_states
from rlhf_hw.models.scoring import RewardModel, score_groups
from rlhf_hw.preferences.score_files import prompt_fields, write_scores
from rlhf_hw.preferences.templates import Message, Preference
from rlhf_hw.workers import in_workers

SHARE = 4  # prompts that one process samples for before it takes the next
ARRAYS, TEXTS = "replies.npz", "replies.jsonl"

Prompt = Sequence[Message]


@dataclass(frozen=True)
class Sources:
    """The checkpoints.

    Attributes:
        policy: Writes the replies.
        reward_models: Score them.
        reader: A language model whose states stand for the texts.
    """

    policy: Path
    reward_models: Sequence[Path]
    reader: Path


def make_many(
    asked: Sequence[Preference],
    pairs: Sequence[Sequence[Preference]],
    sources: Sources,
    count: int,
    settings: AnswerSettings,
    gold: Callable[[str, str], float],
    folder: Path,
) -> dict[str, np.ndarray]:
    """Sample, score and read; write the texts and all arrays into the folder.

    Args:
        asked: Their prompts are answered.
        pairs: Training pairs and held-out pairs, for the small reward models that learn from states.
        sources: The checkpoints.
        count: Replies to each prompt.
        settings: How to sample and score.
        gold: The simulated world's true reward.
        folder: Where `replies.jsonl` and `replies.npz` go.

    Returns:
        `gold`, `words` (prompts, count); `scores` (reward models, prompts, count); `averaged`, those of one
        model with the mean of the reward models' weights; `states` (prompts, count, D); `train`, `held_out`:
        (pairs, 2, D), the chosen reply first.
    """
    prompts = [p.prompt for p in asked]
    texts = sample_many(sources.policy, prompts, count, settings)
    calls = [(_scores, [path], prompts, texts, settings) for path in sources.reward_models]
    calls.append((_scores, list(sources.reward_models), prompts, texts, settings))
    calls.append((_states_of_replies, sources.reader, prompts, texts, settings))
    calls += [(_states_of_pairs, sources.reader, some, settings) for some in pairs]
    *scores, averaged, states, train, held_out = in_workers(_call, calls, "scoring and reading")
    found = {
        "gold": np.array([[gold(p.question, t) for t in row] for p, row in zip(asked, texts, strict=True)]),
        "words": np.array([[len(t.split()) for t in row] for row in texts]),
        "scores": np.array(scores),
        "averaged": averaged,
    }
    found |= dict(zip(("train", "states", "held_out"), _directions(train, states, held_out), strict=True))
    make_folder(folder, "replies")
    write_scores(folder / TEXTS, _rows(asked, texts, found))
    with replacing(folder / ARRAYS, "wb") as stream:
        np.savez_compressed(stream, **found)
    return found


def load_many(folder: Path) -> dict[str, np.ndarray]:
    """What `make_many` returned."""
    with np.load(folder / ARRAYS) as arrays:
        return dict(arrays)


def sample_many(
    policy: Path, prompts: Sequence[Prompt], count: int, settings: AnswerSettings
) -> list[list[str]]:
    """Replies to each prompt, in processes side by side; which of them samples what changes no reply."""
    starts = range(0, len(prompts), SHARE)
    seed = settings.sampling.get("seed", 0)
    calls = []
    for start in starts:  # random numbers go by a prompt's place in its call, so each has a seed of its own
        sampling = {**settings.sampling, "batch_size": count, "seed": 1000 * seed + start}
        sets = {"many": prompts[start : start + SHARE]}
        calls.append((policy, sets, count, replace(settings, sampling=sampling)))
    drawn = [reply.text for one in in_workers(sample_sets, calls, "sampling") for reply in one["many"]]
    return [drawn[start : start + count] for start in range(0, len(drawn), count)]


def _scores(
    paths: Sequence[Path], prompts: Sequence[Prompt], texts: Sequence[Sequence[str]], settings: AnswerSettings
) -> np.ndarray:
    """Scores by a reward model, or by one with the mean weights of several; shape (prompts, replies)."""
    model = RewardModel(paths[0], dtype=settings.dtype, **settings.limits)
    if len(paths) > 1:
        states = [RewardModel(p, **settings.limits).model.state_dict() for p in paths]
        mean = {name: sum(state[name] for state in states) / len(states) for name in states[0]}
        model.model.load_state_dict(mean)
    groups, back = _distinct(model, prompts, texts)
    found = score_groups(model.model, groups, model.renderer.pad_id, settings.dtype)
    return found.ravel()[back]


def _states_of_replies(
    reader: Path, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]], settings: AnswerSettings
) -> np.ndarray:
    """Last hidden states at the end of each reply, shape (prompts, replies, D)."""
    model = RewardModel(reader, dtype=settings.dtype, untrained=True, **settings.limits)
    groups, back = _distinct(model, prompts, texts)
    found = end_states(model.model, groups, model.renderer.pad_id, settings.dtype)
    return found.reshape(-1, found.shape[-1])[back]


def _states_of_pairs(reader: Path, pairs: Sequence[Preference], settings: AnswerSettings) -> np.ndarray:
    model = RewardModel(reader, dtype=settings.dtype, untrained=True, **settings.limits)
    groups, kept, _ = tokenize_preferences(pairs, model.renderer)
    found = end_states(model.model, groups, model.renderer.pad_id, settings.dtype)
    whole = np.zeros((len(pairs), *found.shape[1:]), dtype=found.dtype)
    whole[kept] = found  # pairs that truncation made equal have no difference
    return whole


def _distinct(
    model: RewardModel, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]]
) -> tuple[TokenizedGroups, np.ndarray]:
    """Each distinct reply once, a few behind one copy of their prompt.

    Returns:
        The groups, and for each reply where it stands among all of theirs, shape (prompts, replies).
    """
    behind, replies, places = [], [], []
    for prompt, row in zip(model.renderer.prompt_ids(prompts), texts, strict=True):
        start, distinct = len(replies), list(dict.fromkeys(row))
        place = {text: start + k for k, text in enumerate(distinct)}
        places.append([place[text] for text in row])
        full = distinct + distinct[-1:] * (-len(distinct) % TOGETHER)
        replies += full
        behind += [prompt] * (len(full) // TOGETHER)
    ids = model.renderer.reply_ids(replies)
    each = [ids[k : k + TOGETHER] for k in range(0, len(ids), TOGETHER)]
    return group_tokens(behind, each), np.array(places)


def _directions(train: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """All states in the directions in which those of the training pairs differ most, in their deviations."""
    flat = train.reshape(-1, train.shape[-1]).astype(float)
    middle, turned = main_directions(flat)
    deviation = ((flat - middle) @ turned).std(axis=0)
    turned = turned / np.where(deviation > 1e-6, deviation, np.inf)
    return [((one - middle) @ turned).astype(np.float32) for one in (train, *others)]


def _rows(
    asked: Sequence[Preference], texts: Sequence[Sequence[str]], found: dict[str, np.ndarray]
) -> list[dict]:
    """The replies in the layout of reply score files, with the score of the first reward model."""
    return [
        {
            "id": place * len(row) + k,
            **prompt_fields(pair.prompt, pair.question),
            "response": text,
            "score": float(found["scores"][0, place, k]),
            "meta": {"gold": float(found["gold"][place, k])},
        }
        for place, (pair, row) in enumerate(zip(asked, texts, strict=True))
        for k, text in enumerate(row)
    ]


def _call(function: Callable, *arguments):
    return function(*arguments)
