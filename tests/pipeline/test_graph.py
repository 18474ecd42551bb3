"""The declaration against the notebooks: what they read, make and draw stands in it, and nothing else."""

import ast
import shutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import nbformat
import pytest

from rlhf_hw.paths import NOTEBOOKS
from rlhf_hw.pipeline.graph import STAGES, Stage, drawn_by, maker_of, missing, parted, replica
from rlhf_hw.pipeline.stamps import is_current, notebook_stamp, write_stamp

PATHS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def _texts(tree: ast.AST) -> Iterator[str]:
    """Every text in a piece of code; a placeholder of an f-string is `*`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(v.value if isinstance(v, ast.Constant) else "*" for v in node.values)


def _mentioned(path: Path) -> dict[str, set[str]]:
    """What a notebook gives to `need`, `scores`, `record`, `show...` and `save...`, and all its texts."""
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    tree = ast.parse("\n".join(cells))
    found: dict[str, set[str]] = {name: set() for name in ("need", "scores", "record", "show", "save")}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", "")).partition("_")[0]
        literal = [node for node in call.args if isinstance(node, ast.Constant | ast.JoinedStr)]
        if name in found:
            found[name] |= {text for node in literal for text in list(_texts(node))[:1]}
    texts = {text for text in _texts(tree) if text.strip("*")}
    return found | {"texts": texts | {f"scores/{name}.jsonl" for name in found["scores"]}}


def _covers(patterns: set[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def test_every_notebook_is_declared() -> None:
    assert [path.stem for path in PATHS] == list(STAGES)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_declaration_says_what_the_notebook_does(path: Path) -> None:
    stage, found = STAGES[path.stem], _mentioned(path)
    reads = [*stage.needs, *stage.replicated, *stage.uses]
    for pattern in found["need"]:
        assert any(fnmatchcase(name, pattern) for name in reads), f"needs {pattern}, undeclared"
    for pattern in found["show"] | found["save"]:
        assert any(fnmatchcase(name, pattern) for name in stage.figures), f"draws {pattern}, undeclared"
    assert [name for name in [*reads, *stage.figures] if not _covers(found["texts"], name)] == []
    recorded = {name for name in stage.makes if name.startswith("metrics/")}
    assert recorded == {f"metrics/{number}.json" for number in found["record"]}


def test_makers_come_before_those_who_need_what_they_make() -> None:
    for stem, stage in STAGES.items():
        for artefact in [*stage.needs, *stage.replicated, *stage.uses]:
            assert maker_of(artefact) < stem


def test_no_two_notebooks_make_or_draw_the_same() -> None:
    files = [name for stage in STAGES.values() for name in stage.files()]
    assert len(set(files)) == len(files)
    assert drawn_by("learning_curve") == ["02_reward_model_evaluation"]
    assert drawn_by("rlhf_pipeline") == []


def test_a_parameter_can_stand_in_for_a_need() -> None:
    stage = Stage(needs={"reward_model": ("scores", "reward_model"), "base": ("scores",)})
    assert stage.needed({"scores": "", "reward_model": ""}) == ["reward_model", "base"]
    assert stage.needed({"scores": "", "reward_model": "org/model"}) == ["base"]
    assert stage.needed({"scores": "pairs.jsonl"}) == []


def test_an_artefact_that_nobody_makes_is_named() -> None:
    assert maker_of("scores/generated_ood_dpo.jsonl") == "05_dpo_inference_analysis"
    with pytest.raises(ValueError, match="no notebook makes 'critic'"):
        maker_of("critic")


def test_what_is_replicated_is_needed_once_for_each_replicate() -> None:
    stage = Stage(needs={"base": ()}, replicated={"dpo": ("scores",)})
    assert stage.needed({"replicates": 3}) == ["base", "dpo", "dpo-1", "dpo-2"]
    assert stage.needed({}) == ["base", "dpo"]
    assert stage.needed({"replicates": 3, "scores": "mine.jsonl"}) == ["base"]
    assert [replica("scores/ood.jsonl", k) for k in (0, 2)] == ["scores/ood.jsonl", "scores/ood-2.jsonl"]


def test_where_each_part_has_models_those_of_all_parts_are_needed() -> None:
    stage = STAGES["02_reward_model_evaluation"]
    asked = {"replicates": 2, "parts": "helpful, harmless"}
    assert stage.needed(asked) == ["base", "reward_model", "reward_model-1"]
    assert stage.needed(asked | {"own_models": True}) == [
        "base",
        *("reward_model", "reward_model-1"),
        *("reward_model-of-harmless", "reward_model-of-harmless-1"),
    ]
    assert stage.needed(asked | {"own_models": True, "reward_model": "org/model"}) == ["base"]
    assert maker_of("reward_model-of-harmless-1") == "01_reward_model_training"
    assert parted("rm", "") == {"": "rm"}
    assert parted("rm", "1, 2") == {"1": "rm", "2": "rm-of-2"}  # whatever it is called, it is no replicate


def test_models_of_parts_are_missed_and_made_again_as_others_are(tmp_path: Path) -> None:
    maker, judge = PATHS[1:3]
    asked = {"replicates": 1, "parts": "a, b"}
    ways = [asked | {"own_models": own} for own in (True, False)]
    lacking = [missing(judge, way, tmp_path, STAGES) for way in ways]
    assert set(lacking[0]) - set(lacking[1]) == {"reward_model-of-b"}
    model = tmp_path / "reward_model-of-b"
    model.mkdir()
    (model / "model.safetensors").write_text("weights")
    before = [notebook_stamp(judge, way, tmp_path) for way in ways]
    executed = tmp_path / "notebooks" / maker.name
    executed.parent.mkdir()
    executed.write_text("executed")
    write_stamp(executed, "stamp", {}, tmp_path)
    assert is_current(executed, "stamp", tmp_path)
    (model / "model.safetensors").write_text("other weights")
    after = [notebook_stamp(judge, way, tmp_path) for way in ways]
    assert before[0] != after[0] and before[1] == after[1], "of whom nothing is asked"
    assert not is_current(executed, "stamp", tmp_path)
    shutil.rmtree(model)
    assert not is_current(executed, "stamp", tmp_path)
    makers = [notebook_stamp(maker, way, tmp_path) for way in ways]
    assert makers[0] != makers[1], "the models are others where each part has its own"
