"""The judges of the earlier run, from a tiny model: trained once, asked about everything, gone on with."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from rlhf_hw.experiments.earlier_run import judges as command
from rlhf_hw.experiments.earlier_run import planned_judges
from rlhf_hw.experiments.earlier_run.judged_replies import CUT, GENERATED, read_earlier, read_judges
from rlhf_hw.experiments.earlier_run.planned_judges import HH, SOURCES_OF_KIND, StepClock, TimeIsUp
from rlhf_hw.experiments.earlier_run.riddle import solve_riddle
from rlhf_hw.experiments.score_texts import score_texts
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.preferences.score_files import read_pairs, read_replies, write_scores
from rlhf_hw.preferences.templates import Message
from rlhf_hw.training.folders import RECORD

ROWS = {"train": 12, "validation": 7}
TEST_PROMPTS, PAIRS = 6, 5


def small_reply(generator: np.random.Generator, size: int) -> str:
    """Sentences of three words that the tiny tokenizer knows."""
    said = [" ".join(generator.choice(["rice", "the", "lid", "good", "and", "on"], 3)) for _ in range(size)]
    return ". ".join(said) + "."


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder of real data in small: the run's, and pairs of both kinds."""
    folder, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(5)
    for which, prompts in (("test", TEST_PROMPTS), ("train", PAIRS)):
        for policy, longest in (("base", 8), ("dpo", 5)):
            rows = [
                {"prompt": f"{which} {n}?", "response": small_reply(generator, size)}
                for n in range(prompts)
                for size in generator.integers(1, longest, 4)
            ]
            write_scores(folder / f"earlier-run/replies_{which}_{policy}.jsonl.gz", rows)
    pairs = [
        {f"response_{k}": small_reply(generator, 2 + k) for k in (0, 1)}
        | {"prompt": f"train {n}?", "better_response_id": n % 2}
        for n in range(PAIRS)
    ]
    write_scores(folder / "earlier-run/train_pairs.jsonl.gz", pairs)
    for source in [source for sources in SOURCES_OF_KIND.values() for source in sources]:
        for split, count in ROWS.items():
            rows = [hh_row(generator, f"{source} {split} {n}?") for n in range(count)]
            write_scores(folder / HH / source / f"{split}.jsonl.gz", rows)
    return folder


def hh_row(generator: np.random.Generator, asked: str) -> dict[str, str]:
    sides = {"chosen": 3, "rejected": 2}
    return {
        side: f"\n\nHuman: {asked}\n\nAssistant: {small_reply(generator, size)}"
        for side, size in sides.items()
    }


def call(data, out, model, *further, kinds="both", seeds="0") -> int:
    flags = f"--kinds {kinds} --seeds {seeds} --batch-size 4 --accumulation 2 --learning-rate 1e-3".split()
    flags += ["--max-prompt-tokens", "64", "--max-reply-tokens", "96", "--dtype", "fp32"]
    return command.main(["--data", str(data), "--out", str(out), "--model", str(model), *flags, *further])


@pytest.fixture(scope="module")
def made(data, policy_folder, tmp_path_factory) -> Path:
    """All kinds and renderings of one seed."""
    out = tmp_path_factory.mktemp("made")
    assert call(data, out, policy_folder, kinds="harmless helpful both") == 0
    return out


def test_every_judge_scores_what_the_notebook_reads(made, data) -> None:
    replies = read_earlier(data / "earlier-run")
    found = read_judges(made / "scores", replies)
    assert len(found) == 6
    for (_, kind), judged in found.items():
        assert judged.seeds == (0,) and len(judged.replies) == len(replies)
        assert judged.cut.keys() == set(GENERATED)
        wanted = sum(len(names) for k, names in SOURCES_OF_KIND.items() if kind in (k, "both"))
        wanted *= ROWS["validation"]
        assert [len(table) for table in judged.own] == [wanted]
    metrics = solve_riddle(replies, found).metrics
    for key in ("own.accuracy", "own.slope", "run_accuracy", "cut.dpo_base_test", "base_pairs.gap"):
        assert f"earlier.plain.both.{key}" in metrics and f"earlier.chat.helpful.{key}" in metrics


def test_judges_are_trained_as_asked(made, data, policy_folder) -> None:
    for rendering in ("plain", "chat"):
        record = json.loads((made / f"scores/{rendering}/both-0" / RECORD).read_text())
        config = record["config"]
        assert (config["batch_size"], config["gradient_accumulation_steps"], config["seed"]) == (4, 2, 0)
        assert record["metrics"]["pairs"] == 4 * ROWS["train"] and record["metrics"]["steps"] == 6
        learned = [Path(name).name for name in config["train_dataset"].split(",")]
        assert learned == [source for sources in SOURCES_OF_KIND.values() for source in sources]
    model = (made / "models/plain/model.safetensors").read_bytes()
    assert model == (policy_folder / "model.safetensors").read_bytes()


def test_plain_judges_read_the_runs_own_rendering(made) -> None:
    said = [Message("user", "Why?")]
    renderers = {r: Renderer.load(made / f"judges/{r}/both-0") for r in ("plain", "chat")}
    texts = {r: one.tokenizer.decode(one.prompt_ids([said])[0]) for r, one in renderers.items()}
    assert texts["plain"] == "BEGINNING OF CONVERSATION: USER: Why? ASSISTANT:" != texts["chat"]


def test_scores_are_those_of_the_score_command(made, data, tmp_path) -> None:
    judge, scores = made / "judges/chat/harmless-0", made / "scores/chat/harmless-0"
    score_texts(
        [data / "earlier-run/replies_train_dpo.jsonl.gz"], str(judge), tmp_path / "one.jsonl", dtype="fp32"
    )
    alone = read_replies(tmp_path / "one.jsonl")["score"]
    assert alone.to_numpy() == pytest.approx(
        read_replies(scores / "replies_train_dpo.jsonl")["score"].to_numpy()
    )
    held_out = str(data / HH / "harmless-base")
    score_texts([held_out], str(judge), tmp_path / "two.jsonl", "HH", "validation", dtype="fp32")
    alone, there = (read_pairs(p) for p in (tmp_path / "two.jsonl", scores / "validation_harmless.jsonl"))
    assert alone["margin"].to_numpy() == pytest.approx(there["margin"].to_numpy(), abs=1e-5)


def modified(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_a_second_call_makes_only_what_is_missing(made, data, policy_folder, tmp_path, caplog) -> None:
    out = tmp_path / "out"
    shutil.copytree(made, out)
    gone = [out / "scores/plain/both-0/replies_test_dpo.jsonl", out / "scores/plain/both-0" / RECORD]
    before = modified(out)
    for path in gone:
        path.unlink()
    caplog.set_level(logging.INFO)
    assert call(data, out, policy_folder, kinds="harmless helpful both") == 0
    steps = [r.getMessage().split(":")[0] for r in caplog.records if r.name == planned_judges.__name__]
    assert steps == ["plain/both-0 replies_test_dpo"]
    changed = {
        name for name, time in modified(out).items() if before.get(name) != time and "cut/" not in name
    }
    assert changed == {str(path.relative_to(out)) for path in gone}


def test_seeds_come_one_after_the_other_and_weights_go(data, policy_folder, tmp_path, caplog) -> None:
    caplog.set_level(logging.INFO)
    out = tmp_path / "out"
    further = ("--scores-only", "--renderings", "chat")
    assert call(data, out, policy_folder, *further, kinds="harmless helpful", seeds="0 1") == 0
    trained = [r.getMessage().split(" ")[0] for r in caplog.records if " train: " in r.getMessage()]
    assert trained == ["chat/harmless-0", "chat/helpful-0", "chat/harmless-1", "chat/helpful-1"]
    assert not list((out / "judges").rglob("*.safetensors"))
    caplog.clear()
    assert call(data, out, policy_folder, "--renderings", "chat", kinds="harmless helpful", seeds="0 1") == 0
    assert [r.getMessage() for r in caplog.records] == [
        f"4 of 4 judges are complete; their scores: {out / 'scores'}"
    ]
    # a judge without weights that lacks a score is made anew as a whole: no file of another model stays
    lost = out / "scores/chat/harmless-1"
    (lost / "pairs_train.jsonl").unlink()
    (lost / f"{CUT['test base']}.jsonl").write_text("of another model\n")
    assert call(data, out, policy_folder, "--renderings", "chat", kinds="harmless", seeds="1") == 0
    assert len(read_replies(lost / f"{CUT['test base']}.jsonl")) == 4 * TEST_PROMPTS


def test_no_step_is_begun_that_would_end_too_late(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(planned_judges.time, "monotonic", lambda: now[0])
    clock = StepClock(60.0)

    def step(name: str, seconds: float) -> None:
        with clock.step("judge", name) as done:
            now[0] += seconds
            done += [1]

    step("train", 20)
    step("score", 5)
    step("train", 25)  # ends at 50 of 60
    with pytest.raises(TimeIsUp, match="judge train"):
        step("train", 1)
    step("score", 5)
    with pytest.raises(TimeIsUp):
        step("score", 1)  # 5 seconds and something are left for it, and 5 are not enough
    step("new", 4.9)
    now[0] += 1
    with pytest.raises(TimeIsUp):
        step("newer", 1)


def test_time_that_is_up_leaves_a_state_to_go_on_from(
    data, policy_folder, tmp_path, capsys, monkeypatch
) -> None:
    out, begun = tmp_path / "out", []

    def step(clock, judge, name, true_step=StepClock.step):
        if len(begun) == 4:
            raise TimeIsUp(f"{judge} {name}")
        begun.append(name)
        return true_step(clock, judge, name)

    monkeypatch.setattr(StepClock, "step", step)
    assert call(data, out, policy_folder, "--renderings", "chat", "--seconds", "99") == 0
    assert (
        begun == ["train", *list(GENERATED.values())[:3]]
        and not (out / "scores/chat/both-0" / RECORD).exists()
    )
    begun.clear()
    monkeypatch.undo()
    assert call(data, out, policy_folder, "--renderings", "chat") == 0
    assert (out / "scores/chat/both-0" / RECORD).exists()


@pytest.mark.parametrize(
    ("further", "said"),
    [
        (["--learning-rate", "0.5"], "trained with another learning_rate; name another --out"),
        (["--accumulation", "1"], "another batch_size * accumulation"),
        (["--model", "/no/such/model"], "/no/such/model: no folder of a model"),
        (["--data", "/no/such"], "replies_test_base"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(made, data, policy_folder, capsys, further, said) -> None:
    new = ["--seeds", "7"] if "--model" in further or "--data" in further else []
    assert call(data, made, policy_folder, *further, *new) == 1
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("error: ") and said in told


def test_the_folder_of_data_has_to_be_named(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.delenv("RLHF_HW_REAL_DATA", raising=False)
    assert command.main(["--out", str(tmp_path)]) == 1
    assert "RLHF_HW_REAL_DATA" in capsys.readouterr().err


def test_a_reward_model_that_is_there_is_asked_and_stays(made, data, policy_folder, tmp_path, caplog) -> None:
    caplog.set_level(logging.INFO)
    out, model = tmp_path / "out", tmp_path / "reward_model"
    shutil.copytree(made / "judges/chat/helpful-0", model)
    rendering = json.loads((model / "rendering.json").read_text())
    (model / "rendering.json").write_text(json.dumps(rendering | {"max_reply_tokens": 3}))
    further = ("--scores-only", "--renderings", "chat", "--trained", f"chat/helpful-3={model}")
    assert call(data, out, policy_folder, *further, kinds="helpful", seeds="3") == 0
    assert not any(" train: " in record.getMessage() for record in caplog.records)
    for name in GENERATED.values():  # whole replies are scored, also by one that learned from shorter ones
        new, old = (
            folder / f"{name}.jsonl"
            for folder in (out / "scores/chat/helpful-3", made / "scores/chat/helpful-0")
        )
        assert read_replies(new)["score"].to_numpy() == pytest.approx(
            read_replies(old)["score"].to_numpy(), abs=1e-5
        )
    assert (model / "model.safetensors").exists()
    assert len(read_judges(out / "scores", read_earlier(data / "earlier-run"))) == 1


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("chat/helpful-0", "as chat/helpful-0=FOLDER"),
        ("chat/helpful-0={made}/judges/chat/harmless-0", "learned from"),
        ("chat/helpful-0={data}", "no training.json"),
        ("chat/helpful-9={made}/judges/chat/helpful-0", "ask for no such judge"),
        ("plain/helpful-0={made}/judges/chat/both-0", "a judge of this kind from helpful-base"),
        ("plain/helpful-0={made}/judges/chat/helpful-0", "trained in another rendering"),
    ],
)
def test_what_is_no_judge_of_its_kind_is_refused(
    made, data, policy_folder, tmp_path, capsys, named, said
) -> None:
    given = named.format(made=made, data=data)
    assert call(data, tmp_path, policy_folder, "--trained", given, kinds="helpful", seeds="0") == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("lost", [(), (RECORD,), ("replies_test_base.jsonl",)])
def test_scores_of_another_model_are_not_gone_on_with(
    made, data, policy_folder, tmp_path, capsys, lost
) -> None:
    scores = tmp_path / "scores/chat/helpful-0"
    shutil.copytree(made / "scores/chat/harmless-0", scores)
    for name in lost:
        (scores / name).unlink()
    given = f"chat/helpful-0={made}/judges/chat/helpful-0"
    further = ("--renderings", "chat", "--trained", given)
    assert call(data, tmp_path, policy_folder, *further, kinds="helpful") == 1
    assert "scores of another model" in capsys.readouterr().err


def test_a_given_judge_scores_all_with_the_same_limits(made, data, policy_folder, tmp_path, capsys) -> None:
    further = ("--renderings", "chat", "--trained", f"chat/helpful-0={made}/judges/chat/helpful-0")
    assert call(data, tmp_path, policy_folder, *further, kinds="helpful") == 0
    assert call(data, tmp_path, policy_folder, *further, kinds="helpful") == 0
    assert call(data, tmp_path, policy_folder, *further, "--max-reply-tokens", "9", kinds="helpful") == 1
    assert "with other limits" in capsys.readouterr().err
