"""Scoring pairs and sampling replies: ours, and transformers' own functions on batches as they come."""

import time
from pathlib import Path

import numpy as np
import torch
from measuring import DTYPES

BATCH = 16  # pairs that the plain loop scores at a time
SAMPLED = 64  # replies that both sample at a time


def score(job: dict) -> dict:
    """Score all pairs, tokenization included; returns seconds and the scores, shape (G, 2)."""
    folder = Path(job["folder"])
    run = _score_ours if job["system"] == "ours" else _score_plain
    seconds, scores = run(folder, job)
    return {"seconds": seconds, "scores": np.asarray(scores, dtype=float).tolist()}


def _score_ours(folder: Path, job: dict) -> tuple[float, list]:
    from rlhf_hw.models.scoring import RewardModel
    from rlhf_hw.preferences.reading import load_preferences

    preferences, _ = load_preferences(str(folder / "pairs.jsonl"), "TRL", limit=job["pairs"])
    model = RewardModel(folder / "reward", dtype=job["dtype"], max_prompt_tokens=1024, max_reply_tokens=1024)
    start = time.perf_counter()
    records = model.score_preferences(preferences)
    return time.perf_counter() - start, [[r["chosen_score"], r["rejected_score"]] for r in records]


def _score_plain(folder: Path, job: dict) -> tuple[float, list]:
    from datasets import load_dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    rows = load_dataset("json", data_files=str(folder / "text.jsonl"), split="train").select(
        range(job["pairs"])
    )
    tokenizer = AutoTokenizer.from_pretrained(folder / "reward", padding_side="right")
    model = AutoModelForSequenceClassification.from_pretrained(folder / "reward", dtype=torch.float32)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).eval()
    scores, dtype = [], DTYPES[job["dtype"]]
    start = time.perf_counter()
    with torch.inference_mode(), torch.autocast(device, dtype, enabled=dtype != torch.float32):
        for first in range(0, len(rows), BATCH):
            part = rows[first : first + BATCH]
            columns = zip(part["prompt"], part["chosen"], part["rejected"], strict=True)
            texts = [prompt + reply for prompt, *replies in columns for reply in replies]
            inputs = tokenizer(texts, padding=True, return_tensors="pt").to(device)
            scores += model(**inputs).logits.float().view(-1, 2).tolist()
    return time.perf_counter() - start, scores


def generate(job: dict) -> dict:
    """Sample one reply to each prompt; returns seconds and the replies' lengths in tokens."""
    from rlhf_hw.models.loading import load_policy, pick_device
    from rlhf_hw.models.rendering import Renderer
    from rlhf_hw.preferences.reading import load_preferences

    folder = Path(job["folder"])
    preferences, _ = load_preferences(str(folder / "pairs.jsonl"), "TRL", limit=job["replies"])
    prompts = [p.prompt for p in preferences]
    if job["system"] == "ours":
        from rlhf_hw.models import generation

        model = load_policy(folder / "policy").to(pick_device())
        renderer = Renderer.load(folder / "policy")
        start = time.perf_counter()
        replies = generation.generate(
            model, renderer, prompts, max_new_tokens=job["new_tokens"], batch_size=SAMPLED
        )
        seconds, tokens = time.perf_counter() - start, [len(r.ids) for r in replies]
    else:
        seconds, tokens = _generate_plain(folder, prompts, job["new_tokens"])
    return {"seconds": seconds, "tokens": tokens}


def _generate_plain(folder: Path, prompts: list, new_tokens: int) -> tuple[float, list[int]]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "policy", padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder / "policy", dtype=torch.float32).eval()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    torch.manual_seed(0)
    lengths = []
    start = time.perf_counter()
    for first in range(0, len(prompts), SAMPLED):
        turns = [[m._asdict() for m in prompt] for prompt in prompts[first : first + SAMPLED]]
        inputs = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        ).to(device)
        with torch.inference_mode():
            made = model.generate(
                **inputs,
                do_sample=True,
                top_k=0,
                max_new_tokens=new_tokens,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        replies = made[:, inputs["input_ids"].shape[1] :]
        tokenizer.batch_decode(replies, skip_special_tokens=True)
        lengths += (replies != tokenizer.pad_token_id).sum(1).tolist()
    return time.perf_counter() - start, lengths
