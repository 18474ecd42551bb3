"""Profiles: YAML values, overrides, and names checked against what the notebooks declare."""

import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from rlhf_hw import cli
from rlhf_hw.errors import InputError
from rlhf_hw.experiments.notebook_values import refuse_bad_values
from rlhf_hw.paths import NOTEBOOKS
from rlhf_hw.pipeline.profiles import (
    Profile,
    apply_overrides,
    available_profiles,
    declared_parameters,
    default_values,
    load_profile,
    notebook_name,
    resolve_parameters,
)
from rlhf_hw.pipeline.sizes import SIZES, all_values
from rlhf_hw.pipeline.yaml_values import parse_value
from rlhf_hw.training.config import DPOTraining, RewardTraining

DECLARATIONS = """\
run: str = "smoke"  # name of the run
seed: int = 0  # random numbers
learning_rate: float = 1e-5  # peak
limit: Optional[int] = None  # use at most this many
packed: bool = True  # several in a row
"""


@pytest.fixture
def notebooks(tmp_path: Path) -> list[Path]:
    first = _notebook(tmp_path / "00_first.ipynb", DECLARATIONS)
    second = _notebook(tmp_path / "01_second.ipynb", 'run: str = "smoke"\nseed: int = 1\nbeta: float = 0.1\n')
    return [first, second]


def _notebook(path: Path, parameters: str) -> Path:
    cell = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(new_notebook(cells=[cell], metadata=metadata), path)
    return path


def _profile(**content: object) -> Profile:
    return Profile(name="test", title="A test", **content)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6),  # plain YAML 1.1 makes these four: text, 8, 90 and True
        ("010", 10),
        ("1:30", "1:30"),
        ("yes", "yes"),
        ("1.0e-5", 1e-5),
        ("3", 3),
        ("true", True),
        ("null", None),
        ("2024-01-01", "2024-01-01"),
        ("'5'", "5"),
        ("[1, 2e-3, a]", [1, 0.002, "a"]),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_values_read_as_people_mean_them(text: str, value: object) -> None:
    parsed = parse_value(text)
    assert parsed == value and type(parsed) is type(value)


def test_declared_parameters_have_type_default_and_help(notebooks: list[Path]) -> None:
    declared = declared_parameters(notebooks[0])
    assert list(declared) == ["run", "seed", "learning_rate", "limit", "packed"]
    assert declared["learning_rate"].type == "float"
    assert declared["learning_rate"].default == "1e-5"
    assert declared["learning_rate"].help == "peak"


def test_every_notebook_gets_what_it_declares(notebooks: list[Path]) -> None:
    profile = _profile(parameters={"seed": 3, "beta": 1}, notebooks={"first": {"limit": 5, "seed": 4}})
    assert resolve_parameters(profile, notebooks) == {
        "00_first": {"seed": 4, "limit": 5, "run": "test"},
        "01_second": {"seed": 3, "beta": 1.0, "run": "test"},
    }


def test_a_list_of_one_number_is_a_list_too(tmp_path: Path) -> None:
    path = _notebook(tmp_path / "00_first.ipynb", 'rates: str = "1e-5,2e-5"\nsizes: str = ""\n')
    profile = apply_overrides(_profile(), ["rates=2e-5", "sizes=400"])
    assert resolve_parameters(profile, [path]) == {"00_first": {"rates": "2e-05", "sizes": "400"}}


def test_overrides_apply_in_order_and_a_bare_key_reaches_every_notebook(notebooks: list[Path]) -> None:
    profile = _profile(parameters={"seed": 3}, notebooks={"first": {"seed": 4}})
    changed = apply_overrides(profile, ["seed=7", "second.beta=1e-6", "first.limit=null"])
    assert resolve_parameters(changed, notebooks) == {
        "00_first": {"seed": 7, "limit": None, "run": "test"},
        "01_second": {"seed": 7, "beta": 1e-6, "run": "test"},
    }
    assert profile.notebooks == {"first": {"seed": 4}}  # the original stays


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"parameters": {"sede": 1}}, r"no notebook declares the parameter 'sede' \(did you mean seed\?\)"),
        ({"notebooks": {"frist": {"seed": 1}}}, r"no notebook 'frist' \(did you mean first\?\)"),
        ({"notebooks": {"second": {"betta": 1.0}}}, r"second declares no 'betta' \(did you mean beta\?\)"),
        (
            {"notebooks": {"first": {"learning_rate": "1e-6"}}},
            r"first.learning_rate takes float, not str '1e-6'",
        ),
        ({"notebooks": {"first": {"seed": True}}}, r"first.seed takes int, not bool True"),
        ({"notebooks": {"first": {"limit": "many"}}}, r"first.limit takes int, not str 'many'"),
        ({"notebooks": {"second": {"seed": None}}}, r"second.seed takes int, not NoneType None"),
        ({"parameters": {"run": "other"}}, r"'run' is not to be set"),
    ],
)
def test_mistakes_are_named(notebooks: list[Path], content: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_parameters(_profile(**content), notebooks)


@pytest.mark.parametrize("override", ["seed", "=3", "first.=3", ".seed=3"])
def test_malformed_overrides_are_refused(override: str) -> None:
    with pytest.raises(ValueError, match="write key=value"):
        apply_overrides(_profile(), [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\n", "title: Field required"),
        ("name: a\ntitle: b\nparams: {}\n", "params: Extra inputs"),
        ("name: a\ntitle: b\nname: c\n", "'name' stands there twice"),
        ("name: [a\n", "line 2: not YAML"),
        ("name: ..\ntitle: b\n", "name: .*no path, found '..'"),
        ("name: ../../evil\ntitle: b\n", "name: .*no path, found '../../evil'"),
    ],
)
def test_a_broken_file_is_named_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as raised:
        load_profile(path)
    assert "mine.yaml" in str(raised.value)


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(FileNotFoundError, match="nano"):
        load_profile("nanno")


def test_braces_in_a_path_do_no_harm(tmp_path: Path) -> None:
    folder = tmp_path / "{seed}"
    folder.mkdir()
    assert "seed" in declared_parameters(_notebook(folder / "00_first.ipynb", "seed: int = 0\n"))


@pytest.mark.parametrize("name", available_profiles())
def test_profiles_that_come_with_the_package_fit_the_notebooks(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    resolve_parameters(profile, sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")))


@pytest.mark.parametrize("name", available_profiles())
def test_values_of_the_packages_profiles_are_values(name: str, monkeypatch) -> None:
    monkeypatch.delenv("RLHF_HW_REAL_DATA", raising=False)  # which need not hold every set of the hub
    for size in SIZES:
        refuse_bad_values(all_values(load_profile(name), size))
    numbered = NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")
    refuse_bad_values({notebook_name(path): default_values(path) for path in numbered})


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("seed=-1", r"seed: .* 0, found -1 \(notebooks: base_model, .* more\)"),
        ("seed=4294967295", r"seed: .*, found 4294967295"),  # and no number is left for the next replicate
        ("seed=1e30", r"seed takes int, not float 1e\+30"),
        ("max_eval=-3", r"max_eval: .* found -3 \(notebooks: reward_model_evaluation, hard_pairs\)"),
        ("learning_rate=.nan", "learning_rate: .* finite number, found nan .*dpo_training"),
        ("length_bias.learning_rate=-1", "learning_rate: .* greater than 0, found -1.0"),
        ("dpo_training.sft_epochs=0", "sft_epochs: .* greater than 0"),
        ("temperature=.inf", "temperature: .* finite"),
        ("top_p=1.5", "top_p: .* 1, found 1.5"),
        ("replicates=0", "replicates: .* 1, found 0"),
        ("dtype=fp16", "dtype: .* 'fp32', found 'fp16'"),
        ("loss=hinge", "loss: .* 'orpo', found 'hinge'"),
        ("gamma=2.0", "gamma: the loss 'sigmoid' has no such setting; choose loss simpo"),
        ("betas=0.1,-1", "betas: .* greater than 0, found '0.1,-1'"),
        ("flips=0,x", "flips: .* number, .*, found '0,x'"),
        ("policy_losses=DPO,XX", "policy_losses: no variant 'XX'; choose from DPO"),
        ("train_template=NO", "train_template: .* choose one of .*HOMEWORK"),
        ("mapping=a", "mapping: .* write 'score="),
        ("deepspeed=zero9", "deepspeed: no file 'zero9'; give one"),
        ("learning_curve_pairs=80,x", "learning_curve_pairs: expected numbers"),
        ("dpo_variants.replies=7", "replies: .* multiple of 2"),
        ("scores_base=/no/such.jsonl", "scores_base: no file '/no/such.jsonl': name one"),
        ("prompts=1" + "0" * 20, "prompts: .* less than or equal to 1000000000"),
        ("length_bias.policy_rate=-1", "policy_rate: .* greater than 0"),
        ("policy_batch_size=0", "policy_batch_size: .* 1, found 0"),
        ("ranked_replies=1", "ranked_replies: .* 2, found 1"),
        ("shown=2.0", "shown: expected whole numbers, .* found '2.0'"),
        ("head_pairs=100,25", "head_pairs: expected each number larger than the one before"),
        ("rates=0.1,0.2", "rates: expected 0 as the first"),
        ("flips=0,0.1", "flips: .* go from 0 to 0.5"),
        ("train_dataset=/no/such", "train_dataset: '/no/such' is not there"),
        ("corpus=/no/such base_model=", "corpus: '/no/such' is not there"),
        ("train_split=nosuch", "train_dataset: .*nano: no file for split 'nosuch'; found"),
        ("ood_split=nosuch", "eval_dataset: .*nano: no file for split 'nosuch'; found"),
        ("hard_dataset=/no/such", r"hard_dataset: .*length_bias, .* hard_pairs\)"),
        ("reward_model=/no/such", "reward_model: '/no/such' is not there"),
        ("votes=/no/such", "votes: /no/such is missing"),
        ("recorded=/no/such", "recorded: no folder '/no/such'"),
        ("learning_rate=1e30", r"learning_rate: expected at most 1e\+06, found 1e\+30 .*base_model"),
        ("length_bias.learning_rate=1e30", "learning_rate: .* less than or equal to 1000000"),
        ("num_processes=1000000", "num_processes: .* less than or equal to .* found 1000000"),
        ("hidden_size=1000000 intermediate_size=1000000", "hidden_size: 4 layers .* GiB; take a smaller"),
        ("lora_rank=100000", "lora_rank: .* 65536, found 100000"),
        ("max_new_tokens=1000000000", "max_new_tokens: .* 1000000, found"),
        ("replicates=100000000", "replicates: .* 10000, found"),
    ],
)
def test_a_value_that_is_none_is_refused_before_anything_runs(
    override: str, told: str, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr("rlhf_hw.pipeline.run_folder.RUNS", tmp_path)
    monkeypatch.setattr("rlhf_hw.pipeline.runner.note_in_record", lambda *_, **__: pytest.fail("it runs"))
    assert cli.main(["run", "--set", *override.split()]) == 1
    said = capsys.readouterr().err
    assert re.search(told, said) and re.search("(by|in) --set$", said.strip()), said


@pytest.mark.parametrize(
    "overrides",
    [
        ["temperature=0"],  # the likeliest token
        ["reward_model_training.reward_loss=margin", "reward_model_training.margin=-0.5"],
        ["settings_fixed=true", "learning_rates=", "betas=", "dpo_training.choice_prompts=0"],
        ["learning_rates=1e-4", "betas=0.1", "dpo_training.choice_prompts=0"],  # none is to be chosen
        ["earlier_replies.scores=docs"],  # a folder there, a file elsewhere
        ["scores=data/nano/validation.jsonl.gz"],
        ["replies=40"],
        ["kl_budget=1e30", "max_grad_norm=1e30"],  # no bound
        ["dpo_training.max_train=100000000", "max_prompt_tokens=100000000", "save_steps=100000000"],
        ["policy_rates=", "policy_pairs=0"],
        ["world=false", "hard_dataset=/no/such", "ood_split=", "corpus=/no/such"],  # then it is not read
        ["scores=runs/nano/scores/validation.jsonl", "train_dataset=runs/mine/pairs.jsonl"],  # a run makes it
        ["train_dataset=nobody/at-a-hub", "eval_dataset=nobody/at-a-hub", "base_model=nobody/model"],
    ],
)
def test_values_with_which_notebooks_work_are_not_refused(overrides: list[str]) -> None:
    refuse_bad_values(all_values(apply_overrides(load_profile("nano"), overrides)))


@pytest.mark.parametrize("path", NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"), ids=lambda path: path.stem)
def test_every_number_has_an_end(path: Path) -> None:
    """But for those whose largest value only switches off what they bound."""
    for name, parameter in declared_parameters(path).items():
        if parameter.type in ("int", "float") and name not in ("kl_budget", "max_grad_norm"):
            value = 1e30 if parameter.type == "float" else 10**30
            with pytest.raises(InputError, match=f"(^|; ){name}: "):
                refuse_bad_values({notebook_name(path): default_values(path) | {name: value}})


def test_a_whole_number_may_be_0_where_its_notebook_says_what_that_means() -> None:
    unsaid = {"seed", "examples", "policy_skip", "within_written", "replicate_pairs"}  # that many
    unsaid |= {"prompts", "familiar_pairs"}  # all
    for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"):
        values = default_values(path)
        for name, parameter in declared_parameters(path).items():
            if parameter.type == "int" and not re.search(r"\b0\b", parameter.help) and name not in unsaid:
                with pytest.raises(InputError, match=name):
                    refuse_bad_values({notebook_name(path): values | {name: 0}})


def test_the_homeworks_profile_trains_with_the_homeworks_settings() -> None:
    parameters = resolve_parameters(
        load_profile("qwen2.5-0.5b"), sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    )
    given = {"model": "m", "output_dir": "o"}
    rm = RewardTraining.from_parameters(parameters["01_reward_model_training"], **given)
    dpo = DPOTraining.from_parameters(parameters["04_dpo_training"], **given)
    for config in (rm, dpo):
        assert (config.train_dataset, config.train_template) == (
            "PKU-Alignment/align-anything:text-to-text",
            "HOMEWORK",
        )
        assert (config.lr_scheduler_type, config.warmup_ratio, config.epochs) == ("cosine", 0.03, 1.0)
    assert (rm.learning_rate, rm.reward_regularization) == (2e-5, 0.001)
    assert (dpo.learning_rate, dpo.beta, dpo.loss) == (1e-6, 0.1, "sigmoid")
