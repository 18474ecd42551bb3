"""Hostile settings of a training run, as flags and in files."""

import json
import random
from functools import cache

import yaml
from safetensors.torch import load_file

from rlhf_hw import cli
from rlhf_hw.paths import NOTEBOOKS
from rlhf_hw.pipeline.profiles import declared_parameters, numbered_notebooks
from rlhf_hw.training.config import SETTINGS, SOURCES
from tests.faults.workshop import Case, Workshop

LEFT_OUT = {
    *SOURCES,
    "output_dir",
    "log_dir",
    "resume",
    "report_to",
    "compile_layers",
}  # compiling takes long
NUMBERS = [
    "nan",
    "inf",
    "-inf",
    "1e30",
    "-1",
    "0",
    "1e-300",
    "x",
    "",
    "1e400",
    "0x10",
    "1,5",
    "2.5",
    "10" * 12,
]
ENDLESS = ["1e30", "-1e30", "1" + 30 * "0", "-1" + 30 * "0", ".inf", "-.inf", ".nan"]
WORDS = ["", "nosuch", "None", "../x", "x" * 300, "tensorboard,nosuch", "{}", "'"]


def hostile_setting(draw: random.Random, shop: Workshop) -> Case:
    """One setting of a training run with a value that is none: refused by its name, or it is kept to."""
    folder, method = shop.case(), draw.choice(["rm", "sft", "dpo"])
    output = folder / "out"
    fields = SETTINGS[method].model_fields
    name = draw.choice([n for n in fields if n not in LEFT_OUT])
    numeric = fields[name].annotation in (int, float, int | None)
    flag = f"--{name.replace('_', '-')}"
    value = draw.choice(NUMBERS if numeric else WORDS)
    given = [flag] if fields[name].annotation is bool else [f"{flag}={value}"]
    in_file = draw.random() < 0.3 and fields[name].annotation is not bool
    if in_file:
        (folder / "settings.yaml").write_text(yaml.safe_dump({name: _as_yaml(value)}))
        given = ["--config", str(folder / "settings.yaml")]
    repeated = {"batch_size", "max_steps", "max_train", "dtype", "report_to"}  # by flags, which win
    repeated = ({*repeated, "max_eval"} if method == "sft" else repeated) & {name}

    def right(_: str) -> bool:
        record = json.loads((output / "training.json").read_text())["config"]
        weights = load_file(output / "model.safetensors").values()
        kept = True
        if numeric and value not in ("", "0") and not (in_file and repeated):
            kept = float(record[name]) == float(value)
        return kept and all(bool(w.isfinite().all()) for w in weights)

    case = Case(f"{method} {given} {value!r}", lambda: shop.train(method, output, *given), (), right)
    case.names = ((name, flag, name.split("_")[-1], "gradient", "loss", "weights", "step"),)
    return case


def _as_yaml(value: str) -> object:
    try:
        return json.loads(value)
    except ValueError:
        return value


def hostile_file_of_settings(draw: random.Random, shop: Workshop) -> Case:
    """A settings file that is none, and sources that lead nowhere."""
    folder = shop.case()
    path = folder / "settings.yaml"
    texts = {
        "list": "- a\n",
        "torn": "model: [",
        "twice": "seed: 1\nseed: 2\n",
        "unknown": "leraning_rate: 1\n",
        "number": "7",
        "code": f"model: !!python/object/apply:os.mkdir [{str(shop.marker)!r}]\n",
        "tab": "model:\tx\n\tseed: 1\n",
        "deep": "a: " + "{a: " * 3000,
        "alias": "a: &a [*a]\nmodel: *a\n",
        "binary": "\0\1\2",
    }
    way = draw.choice([*texts, "missing", "folder", "latin-1", *sorted(SOURCES), "split", "template"])
    if way in texts:
        path.write_text(texts[way])
    elif way == "latin-1":
        path.write_bytes("model: Modèle\n".encode("latin-1"))
    elif way == "folder":
        path.mkdir()
    flags = {"split": ["--train-split", "nosuch"], "template": ["--train-template", "NOSUCH"]}.get(way, [])
    if way in SOURCES:
        flags = [
            f"--{way.replace('_', '-')}",
            draw.choice(["/nowhere/x", "~nobody/x", "a/b/c", "x" * 3000, "a\0b"]),
        ]
    method = "dpo" if way == "reference_model" else draw.choice(["rm", "sft", "dpo"])
    flags = flags or ["--config", str(path)]
    names = (str(path),) if flags[0] == "--config" and way not in ("unknown",) else ()
    return Case(
        f"{method} {way} {flags[-1][:60]!r}", lambda: shop.train(method, folder / "out", *flags), names
    )


@cache
def _numbers() -> list[str]:
    """Parameters of the notebooks that are numbers, but for those whose largest value says: no bound."""
    found = (item for path in numbered_notebooks(NOTEBOOKS) for item in declared_parameters(path).items())
    names = {name for name, parameter in found if parameter.type in ("int", "float")}
    return sorted(names - {"kl_budget", "max_grad_norm"})


def hostile_value(draw: random.Random, shop: Workshop) -> Case:
    """A number of a notebook, by `--set`, with which it cannot work: refused before any notebook runs."""
    name, value = draw.choice(_numbers()), draw.choice(ENDLESS)
    profile = shop.case() / "own.yaml"
    profile.write_text("name: never\ntitle: Never\n")
    call = ["run", "--profile", str(profile), "--set", f"{name}={value}"]
    return Case(f"--set {name}={value}", lambda: cli.main(call), (name,))


KINDS = {"setting": hostile_setting, "settings file": hostile_file_of_settings, "value": hostile_value}
