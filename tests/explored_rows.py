"""Score files of a run in the simulated world, with what is hard to show: hostile texts, loops, cut ones."""

import json
from pathlib import Path

import numpy as np
from report_texts import HOSTILE

from rlhf_hw.preferences.reading import load_preferences
from rlhf_hw.preferences.score_files import read_replies, write_scores
from rlhf_hw.world.gold import gold

POLICIES = ("base", "sft", "dpo", "reference")
BREAKING = f"</script><img src=x onerror=alert(1)> <!-- \u2028 {HOSTILE}"
LOOP = "Keep the lid on while the rice cooks. " * 6
SECRET = "ZQXSECRET"


def write_run(folder: Path, prompts: int = 30, trainings: int = 2, world: bool = True, **parameters) -> Path:
    """A run's record and the score files of notebooks 02 and 05; replies are those of the data.

    In the first training the DPO reply to prompt 0 is hostile, to 1 it loops, to 2 it was cut, to 3 it is
    empty. Where the data are mixed (`world` is False), every second prompt comes from `harmless-base` and
    its texts hold `SECRET`.
    """
    pairs = load_preferences("data/nano", "HOMEWORK", "validation")[0][:prompts]
    for k in range(trainings):
        ending = f"-{k}" if k else ""
        for number, policy in enumerate(POLICIES):
            rows = [_reply(pairs, n, policy, k, world) for n in range(prompts)]
            draw = np.random.default_rng(10 * number + k).normal(size=(2, prompts)).round(3)
            for row, score, judge in zip(rows, *draw, strict=True):
                row |= {"score": score, "meta": row["meta"] | {"judge_score": judge}}
            write_scores(folder / f"scores/generated_validation_{policy}{ending}.jsonl", rows)
        write_scores(
            folder / f"scores/validation{ending}.jsonl", [_pair(p, n, k, world) for n, p in enumerate(pairs)]
        )
    record = {
        "parameters": {"05_dpo_inference_analysis": {"world": world, "max_reply_tokens": 128, **parameters}}
    }
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "reward_model").mkdir()
    (folder / "reward_model/tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    return folder


def replies_of(folder: Path, policy: str):
    """The replies of a policy of the first training, as a table."""
    return read_replies(folder / f"scores/generated_validation_{policy}.jsonl")


def _reply(pairs: list, n: int, policy: str, training: int, world: bool) -> dict:
    pair = pairs[n]
    texts = {"base": pair.rejected, "sft": f"{pair.rejected} {pair.chosen}", "reference": pair.chosen}
    text = texts.get(policy, pairs[(n + 1) % len(pairs)].chosen)
    planted = {0: BREAKING, 1: LOOP, 2: "Keep the lid on while", 3: ""}
    if policy == "dpo" and training == 0:
        text = planted.get(n, text)
    marked = not world and n % 2 == 0
    row = {"id": n, "prompt": pair.question + f" {SECRET}" * marked, "response": text + f" {SECRET}" * marked}
    finished = text != planted[2]
    row |= {"tokens": len(text.split()), "finished": finished, "meta": {"row": pair.row}}
    if world:
        row["meta"]["gold"] = gold(row["prompt"], row["response"])
    return row


def _pair(pair, n: int, training: int, world: bool) -> dict:
    marked = f" {SECRET}" * (not world and n % 2 == 0)
    draw = np.random.default_rng(1000 * training + n).normal(size=2).round(3)
    row = {"id": n, "prompt": pair.question + marked}
    row |= {"chosen": pair.chosen + marked, "rejected": pair.rejected + marked}
    row |= {"chosen_score": draw[0], "rejected_score": draw[1], "chosen_tokens": 9, "rejected_tokens": 8}
    return row | {
        "meta": dict(pair.meta) if world else {"source": "harmless-base" if marked else "helpful-base"}
    }
