"""Rows in TRL's format: prompts and replies as texts, messages or conversations, and what contradicts."""

import pytest

from rlhf_hw.preferences.labels import Contradiction, MoreConversation, OtherPrompt, Tie
from rlhf_hw.preferences.templates import TEMPLATES, Message
from tests.preferences.test_templates import TURNS, dicts, texts


def test_trl_plain_and_conversational() -> None:
    read = TEMPLATES["TRL"]
    plain = {"prompt": "Q?", "chosen": "good", "rejected": "bad"}
    user, good, bad = (
        {"role": r, "content": c} for r, c in (("user", "Q?"), ("assistant", "good"), ("assistant", "bad"))
    )
    expected = ("Q?", "good", "bad")
    assert texts(read(plain)) == expected
    assert texts(read({"prompt": [user], "chosen": [good], "rejected": [bad]})) == expected
    assert texts(read({"chosen": [user, good], "rejected": [user, bad]})) == expected
    assert texts(read({"prompt": "Q?", "chosen": [user, good], "rejected": [user, bad]})) == expected


def test_trl_conversations_begin_with_the_prompt() -> None:
    row = {"chosen": dicts(*TURNS, Message("assistant", "Yes."))}
    row["rejected"] = dicts(*TURNS, Message("assistant", "No."))
    read = TEMPLATES["TRL"](row)
    assert read.prompt == TURNS and texts(read) == ("Tea?", "Yes.", "No.")


def test_ultrafeedback_binarized() -> None:
    user, good, bad = (
        Message(*turn) for turn in (("user", "Tea?"), ("assistant", "Yes."), ("assistant", "No."))
    )
    row = {"prompt": "Tea?", "prompt_id": "4f", "chosen": dicts(user, good), "rejected": dicts(user, bad)}
    row |= {"messages": row["chosen"], "score_chosen": 8.5, "score_rejected": 7.0}
    read = TEMPLATES["TRL"](row)
    assert read.prompt == (user,) and texts(read) == ("Tea?", "Yes.", "No.")
    assert read.meta == {"score_chosen": 8.5, "score_rejected": 7.0}
    with pytest.raises(Tie):
        TEMPLATES["TRL"](row | {"score_rejected": 8.5})


def test_trl_replies_of_several_turns_keep_the_prompt() -> None:
    turns = [("user", "Q?"), ("assistant", "a"), ("user", "more"), ("assistant", "good")]
    prompt, *reply = ({"role": r, "content": c} for r, c in turns)
    rejected = [*reply[:-1], {"role": "assistant", "content": "bad"}]
    read = TEMPLATES["TRL"]({"prompt": [prompt], "chosen": reply, "rejected": rejected})
    assert [m.content for m in read.prompt] == ["Q?", "a", "more"]
    assert texts(read) == ("more", "good", "bad")


def test_trl_ties_and_errors() -> None:
    read, row = TEMPLATES["TRL"], {"prompt": "Q?", "chosen": "good", "rejected": "bad"}
    assert read(row | {"score_chosen": 2.0, "score_rejected": 1.0}).meta["score_chosen"] == 2.0
    assert read(row | {"score_chosen": None, "score_rejected": None}).chosen == "good"
    with pytest.raises(Tie):
        read(row | {"score_chosen": 1.0, "score_rejected": 1.0})
    with pytest.raises(Contradiction, match="'score_chosen': 1.0 is below 'score_rejected', 2"):
        read(row | {"score_chosen": 1.0, "score_rejected": 2})
    assert read(row | {"score_chosen": float("nan"), "score_rejected": 2.0}).chosen == "good"
    for wrong in ("8", True, float("inf"), 10**400, [1]):
        with pytest.raises(ValueError, match="expected numbers, found"):
            read(row | {"score_chosen": wrong, "score_rejected": 2.0})
    with pytest.raises(KeyError, match="prompt"):
        read({"chosen": "good", "rejected": "bad"})
    with pytest.raises(ValueError, match="both be text or both"):
        read(row | {"rejected": [{"role": "assistant", "content": "bad"}]})
    with pytest.raises(ValueError, match="'chosen'"):
        read(row | {"chosen": None, "rejected": None})
    one = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    other = [{"role": "user", "content": "other"}, {"role": "assistant", "content": "b"}]
    with pytest.raises(ValueError, match="must share all turns"):
        read({"chosen": one, "rejected": other})


def test_trl_replies_are_the_assistants_and_text() -> None:
    read, row = TEMPLATES["TRL"], {"prompt": "Q?", "chosen": "good", "rejected": "bad"}
    for side in ("chosen", "rejected"):
        of_user = {
            key: dicts(Message("user" if key == side else "assistant", key)) for key in row if key != "prompt"
        }
        with pytest.raises(
            ValueError, match=f"'{side}': a reply is the assistant's, found role 'user'; write"
        ):
            read(row | of_user)
    calls = [{"function": {"name": "search"}}]
    sides = {
        side: dicts(Message("user", "Q?"), Message("assistant", side)) for side in ("chosen", "rejected")
    }
    assert texts(read(sides)) == ("Q?", "chosen", "rejected")
    sides["chosen"][1] |= {"tool_calls": None, "name": "bot"}  # as tables fill what other rows have
    assert texts(read(sides)) == ("Q?", "chosen", "rejected")
    for key in ("tool_calls", "images"):
        more = [sides["chosen"][0], sides["chosen"][1] | {key: calls}]
        with pytest.raises(ValueError, match=f"'chosen': a message has '{key}', and only text is read"):
            read(sides | {"chosen": more})


def test_trl_prompts_that_contradict_the_conversations_are_dropped() -> None:
    read = TEMPLATES["TRL"]
    sides = {
        side: dicts(*TURNS, Message("assistant", text)) for side, text in (("chosen", "Y"), ("rejected", "N"))
    }
    for fitting in ("Hi", " Tea?\n", dicts(*TURNS), dicts(*TURNS[:2]), None, ""):
        assert read(sides | {"prompt": fitting}).prompt == TURNS
    for other in ("Coffee?", "Hello.", "Be brief.", dicts(*TURNS[1:]), dicts(Message("user", "Coffee?"))):
        with pytest.raises(OtherPrompt, match="'prompt': is not what 'chosen' and 'rejected' begin with"):
            read(sides | {"prompt": other})


def test_a_transcript_in_a_prompt_is_not_one_turn() -> None:
    row = {"chosen": "good", "rejected": "bad"}
    for prompt in ("\n\nHuman: Hi\n\nAssistant:", "Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: "):
        with pytest.raises(MoreConversation, match="a transcript .* in one text; .* template HH"):
            TEMPLATES["TRL"](row | {"prompt": prompt})
    for prompt in ("Human: a word for people", "What do 'Human:' and\n\nAssistant: mean?"):
        assert TEMPLATES["TRL"](row | {"prompt": prompt}).question == prompt
