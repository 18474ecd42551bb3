"""Damaged and hostile model folders, and what scoring and training make of them.

What is loaded must give the scores of the undamaged model, or the folder is refused by name.
"""

import json
import os
import random
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from rlhf_hw import cli
from tests.faults.workshop import Case, Workshop

EVIL = "import os\nos.mkdir({marker!r})\nraise SystemExit\n"
FILES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "rendering.json"]
# in a config: other sizes than the weights have, or none that a model can have
SIZES = [0, -1, 1, 3, "32", None, 2.5, 10**12, True, []]
CONFIG = {
    "hidden_size": SIZES,
    "num_hidden_layers": [0, 1, 3, "2", None, -2],
    "num_attention_heads": [0, 3, 8, "4"],
    "num_key_value_heads": [0, 3, 8],
    "vocab_size": [10, 319, 321, 0, -5, "320"],
    "intermediate_size": [1, 65, 0],
    "model_type": ["nosuch", None, 7, "bert", "mamba"],
    "architectures": [None, [], ["Evil"], "Qwen2ForCausalLM", 7],
    "num_labels": [0, 2, -1, "x"],
    "id2label": [{"0": "A", "1": "B"}, {}, 3],
    "hidden_act": ["nosuch", 7],
    "rms_norm_eps": ["x", -1e9],
    "dtype": ["float99", 3],
    "pad_token_id": [10**6, -7, "x"],
    "max_position_embeddings": [0, "x", -1],
    "quantization_config": [{"quant_method": "nosuch"}, 3],
    "rope_parameters": [{"rope_type": "nosuch"}, 3, {"rope_theta": "x"}],
}
TOKENIZER = {
    "chat_template": ["{{", "{% for m in messages %}{{ m.content }}{% endfor %}", "{{ 1/0 }}", "", 7, None],
    "tokenizer_class": ["NoSuchTokenizer", 7, None, "GPT2Tokenizer"],
    "eos_token": ["<nosuch>", 7, {"content": "x"}],
    "pad_token": ["<nosuch>", 7, None],
    "model_max_length": ["x", -1, 1],
    "added_tokens_decoder": [{"x": {}}, {"5": {"content": "evil", "special": True}}, 3],
}
RENDERING = [
    '{"reads_at": "nowhere", "fingerprint": "0"}',
    "[]",
    "7",
    "{}",
    '{"reads_at": 7}',
    '{"fingerprint": 3}',
]


def _scores(shop: Workshop, model: Path, output: Path) -> int:
    return cli.main(["score", str(shop.replies), "--model", str(model), "--output", str(output)])


@cache
def _expected(folder: Path) -> list[float]:
    """The scores of the undamaged model."""
    shop = Workshop(folder)
    output = folder / "expected.jsonl"
    assert _scores(shop, shop.reward, output) == 0
    scores = _read(output)
    output.unlink()
    return scores


def _read(output: Path) -> list[float]:
    return [json.loads(line)["score"] for line in output.read_text().splitlines()]


def damaged_model(draw: random.Random, shop: Workshop) -> Case:
    """A reward model with one damaged file or setting."""
    folder = shop.case()
    model = shutil.copytree(shop.reward, folder / "model")
    ways = [_damaged_file, _damaged_setting, _damaged_weights, _damaged_tokenizer, _damaged_rendering]
    about = draw.choice(ways)(draw, model)
    output = folder / "scores.jsonl"
    expected = _expected(shop.folder)

    def right(_: str) -> bool:
        return torch.allclose(torch.tensor(_read(output)), torch.tensor(expected), atol=1e-4)

    return Case(about, lambda: _scores(shop, model, output), (("model", str(model)),), right)


def _damaged_file(draw: random.Random, model: Path) -> str:
    path = model / draw.choice(FILES)
    whole = path.read_bytes()
    at = draw.randrange(len(whole))
    ways: dict[str, Callable] = {
        "missing": path.unlink,
        "empty": lambda: path.write_bytes(b""),
        "cut": lambda: path.write_bytes(whole[:at]),
        "zeros": lambda: path.write_bytes(b"\0" * len(whole)),
        "garbage": lambda: path.write_bytes(draw.randbytes(200)),
        "null": lambda: path.write_bytes(b"null"),
        "list": lambda: path.write_bytes(b"[1, 2]"),
        "a folder": lambda: (path.unlink(), path.mkdir()),
        "lfs": lambda: path.write_bytes(
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
        ),
        "link to nowhere": lambda: (path.unlink(), os.symlink("/nowhere", path)),
        "utf-16": lambda: path.write_bytes(whole.decode("latin-1").encode("utf-16")),
        "link to itself": lambda: (path.unlink(), os.symlink(path, path)),
    }
    way = draw.choice(list(ways))
    ways[way]()
    return f"{path.name} {way} {at}"


def _set(path: Path, key: str, value: object) -> None:
    values = json.loads(path.read_text())
    values[key] = value
    path.write_text(json.dumps(values))


def _damaged_setting(draw: random.Random, model: Path) -> str:
    key = draw.choice(list(CONFIG))
    value = draw.choice(CONFIG[key])
    _set(model / "config.json", key, value)
    return f"config.json {key} = {value}"


def _damaged_weights(draw: random.Random, model: Path) -> str:
    path = model / "model.safetensors"
    weights = load_file(path)
    name = draw.choice(list(weights))
    way = draw.choice(
        ["missing", "renamed", "shape", "nan", "inf", "integers", "more", "head", "outside", "index"]
    )
    tensor = weights[name]
    if way in ("missing", "renamed"):
        weights.pop(name)
    if way == "renamed":
        weights[f"module.{name}"] = tensor
    if way == "shape":
        weights[name] = torch.zeros(tensor.numel() + 1)
    if way in ("nan", "inf"):
        weights[name] = torch.full_like(tensor, float(way))
    if way == "integers":
        weights[name] = tensor.to(torch.int8)
    if way == "more":
        weights["model.layers.7.mlp.up_proj.weight"] = torch.zeros(64, 32)
    if way == "head" and "score.weight" in weights:
        weights[draw.choice(["value_head.weight", "v_head.weight", "reward.weight"])] = weights.pop(
            "score.weight"
        )
        _set(model / "config.json", "architectures", draw.choice([None, ["Qwen2ForCausalLM"], ["Theirs"]]))
    save_file(weights, path, metadata={"format": "pt"})
    if way in ("outside", "index"):
        listed = {
            n: "../../secret.safetensors" if way == "outside" else "nosuch.safetensors" for n in weights
        }
        path.unlink()
        (model / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": listed})
        )
    return f"weights {way} {name}"


def _damaged_tokenizer(draw: random.Random, model: Path) -> str:
    if draw.random() < 0.3:  # a token that the model has no embedding for
        path = model / "tokenizer.json"
        values = json.loads(path.read_text())
        values["added_tokens"].append({**values["added_tokens"][0], "id": 5000, "content": "Good"})
        path.write_text(json.dumps(values))
        return "tokenizer.json: a token beyond the embeddings"
    key = draw.choice(list(TOKENIZER))
    value = draw.choice(TOKENIZER[key])
    if key == "chat_template":
        (model / "chat_template.jinja").write_text(str(value))
    else:
        _set(model / "tokenizer_config.json", key, value)
    return f"tokenizer {key} = {value!r}"


def _damaged_rendering(draw: random.Random, model: Path) -> str:
    text = draw.choice(RENDERING)
    (model / "rendering.json").write_text(text)
    return f"rendering.json {text}"


def no_reward_model(draw: random.Random, shop: Workshop) -> Case:
    """A plain language model, an empty folder or a name for nothing, asked for scores."""
    folder = shop.case()
    (folder / "empty").mkdir()
    stopped = shutil.copytree(shop.reward, folder / "run" / "checkpoint-3")
    for file in stopped.glob("tokenizer*"):
        file.unlink()
    (stopped / "trainer_state.json").write_text("{}")
    ways = {
        "to go on from": str(stopped),
        "policy": str(shop.policy),
        "empty": str(folder / "empty"),
        "file": str(shop.pairs),
        "nothing": "",
        "nowhere": str(folder / "nowhere"),
        "hub": "nosuchowner/nosuchmodel",
        "dots": "..",
        "long": "x" * 4000,
        "odd": "a b\nc",
        "zero byte": "a\0b",
        "nobody": "~nosuchuser/model",
    }
    way = draw.choice(list(ways))
    output = folder / "scores.jsonl"
    call = ["score", str(shop.replies), "--model", ways[way], "--output", str(output)]
    limits = draw.choice([[], ["--limit", "0"], ["--limit", "-1"], ["--reads-at", "template_end"]])
    names = ("resumable checkpoint", str(stopped.parent)) if way == "to go on from" and not limits else ()
    return Case(f"{way} {limits}", lambda: cli.main([*call, *limits]), names)


def hostile_start(draw: random.Random, shop: Workshop) -> Case:
    """Training from a damaged folder: refused, and no checkpoint is left."""
    folder = shop.case()
    model = shutil.copytree(shop.policy, folder / "model")
    method = draw.choice(["rm", "sft", "dpo"])
    about = draw.choice([_damaged_file, _damaged_setting, _damaged_weights, _damaged_tokenizer])(draw, model)
    output = folder / "out"

    def right(_: str) -> bool:
        """As from the undamaged folder: the fault concerned nothing that is read."""
        whole = folder / "whole"
        assert shop.train(method, whole, "--learning-rate", "1e-5") == 0
        ours, theirs = (load_file(place / "model.safetensors") for place in (output, whole))
        return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)

    def call() -> int:
        return shop.train(method, output, "--learning-rate", "1e-5", model=model)

    return Case(f"{method}: {about}", call, (("model", str(model)),), right)


def foreign_code(draw: random.Random, shop: Workshop) -> Case:
    """A checkpoint that brings code: it never runs, whatever asks for it."""
    folder = shop.case()
    start = draw.choice([shop.reward, shop.policy])
    model = shutil.copytree(start, folder / "model")
    (model / "evil.py").write_text(EVIL.format(marker=str(shop.marker)))
    way = draw.choice(["config", "tokenizer", "model", "pickle", "template", "import"])
    if way == "pickle":
        (model / "model.safetensors").unlink()
        torch.save({"lm_head.weight": _Caller(shop.marker)}, model / "pytorch_model.bin")
    elif way == "template":
        text = (
            "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ cycler.__init__.__globals__.os.mkdir('%s') }}"
        )
        (model / "chat_template.jinja").write_text(text % shop.marker)
    elif way == "tokenizer":
        _set(model / "tokenizer_config.json", "auto_map", {"AutoTokenizer": ["evil.C", None]})
    elif way == "import":
        _set(model / "config.json", "architectures", ["os.system"])
        _set(model / "config.json", "model_type", "evil.C")
    else:
        kinds = (
            ["AutoConfig"]
            if way == "config"
            else ["AutoModelForSequenceClassification", "AutoModelForCausalLM"]
        )
        _set(model / "config.json", "auto_map", {kind: "evil.C" for kind in kinds})
        _set(model / "config.json", "model_type", "evil")
    scores = start == shop.reward
    calls = [lambda: shop.train(draw.choice(["rm", "dpo", "sft"]), folder / "out", model=model)]
    calls += [lambda: _scores(shop, model, folder / "scores.jsonl")] if scores else []
    right = (lambda _: True) if way == "tokenizer" else None  # its own class is known without that code
    return Case(f"{way} {start.name}", draw.choice(calls), (str(model),), right)


class _Caller:
    """What an attacker would put into a pickle."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


KINDS = {
    "model to score with": damaged_model,
    "no reward model": no_reward_model,
    "model to train": hostile_start,
    "foreign code": foreign_code,
}
