import pytest

from rlhf_hw.preferences import templates
from rlhf_hw.preferences.templates import (
    TEMPLATES,
    Contradiction,
    Label0,
    Message,
    NoLabel,
    Preference,
    Tie,
    UnknownLabel,
    get_template,
    parse_transcript,
)

HOMEWORK = {"question": "Q?", "response_1": "one", "response_2": "two", "overall_response": 2}
PKU = {
    "prompt": "Q?",
    "response_0": "zero",
    "response_1": "one",
    "is_response_0_safe": True,
    "is_response_1_safe": False,
    "better_response_id": 1,
    "safer_response_id": 0,
}


# a system message and earlier turns
TURNS = (
    Message("system", "Be brief."),
    Message("user", "Hi"),
    Message("assistant", "Hello."),
    Message("user", "Tea?"),
)


def texts(preference: Preference) -> tuple:
    return preference.question, preference.chosen, preference.rejected


def dicts(*messages: Message) -> list[dict]:
    return [message._asdict() for message in messages]


@pytest.mark.parametrize(
    ("name", "prompt_key", "reply_keys", "label"),
    [
        ("HOMEWORK", "question", ("response_1", "response_2"), {"overall_response": 1}),
        ("PKUSafeRLHF", "prompt", ("response_0", "response_1"), {"better_response_id": 0}),
        ("PKUSafeRLHF_safer", "prompt", ("response_0", "response_1"), {"safer_response_id": 0}),
        ("TRL", "prompt", ("chosen", "rejected"), {}),
        ("HELPSTEER", "prompt", ("response_1", "response_2"), {"preference_strength": -1}),
        ("HELPSTEER", "context", ("response1", "response2"), {"overall_preference": -1}),
    ],
)
def test_prompts_and_replies_are_texts_or_messages(name, prompt_key, reply_keys, label) -> None:
    replies = dict(zip(reply_keys, ("Yes.", "No."), strict=True))
    of_messages = {key: dicts(Message("assistant", text)) for key, text in replies.items()}
    for given in (replies, of_messages):
        plain = TEMPLATES[name]({prompt_key: "Tea?", **given, **label})
        assert plain.prompt == (Message("user", "Tea?"),) and texts(plain) == ("Tea?", "Yes.", "No.")
        whole = TEMPLATES[name]({prompt_key: dicts(*TURNS), **given, **label})
        assert whole.prompt == TURNS and texts(whole) == ("Tea?", "Yes.", "No.")


def test_homework() -> None:
    read = TEMPLATES["HOMEWORK"]
    assert texts(read(HOMEWORK)) == ("Q?", "two", "one")
    assert texts(read(HOMEWORK | {"overall_response": 1})) == ("Q?", "one", "two")
    assert read(HOMEWORK).meta == {"chosen_index": 2}
    assert read(HOMEWORK | {"metadata": {"gold_1": 0.5}}).meta == {"gold_1": 0.5, "chosen_index": 2}
    assert read(HOMEWORK | {"metadata": "a note"}).meta == {"chosen_index": 2}


NOTHING = [None, "", float("nan")]


@pytest.mark.parametrize(
    ("label", "reason"),
    [(label, Tie) for label in ("tie", 3, -1)]
    + [(label, NoLabel) for label in NOTHING]
    + [(label, UnknownLabel) for label in ("A", True, False, 1.5, 1e20)]
    + [(0, Label0)],
)
def test_homework_rows_without_an_order(label, reason) -> None:
    with pytest.raises(reason) as error:
        TEMPLATES["HOMEWORK"](HOMEWORK | {"overall_response": label})
    assert type(error.value) is reason


@pytest.mark.parametrize("key", ["question", "response_1", "response_2", "overall_response"])
def test_homework_names_the_missing_key(key) -> None:
    row = {k: v for k, v in HOMEWORK.items() if k != key}
    with pytest.raises(KeyError, match=key):
        TEMPLATES["HOMEWORK"](row)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"overall_response": "A"}, "'overall_response': expected 1 or 2, found 'A'"),
        ({"response_1": 7}, "'response_1'.*found int"),
        ({"question": None}, "'question'.*found NoneType"),
        ({"question": []}, "'question'"),
        ({"question": [{"role": "human", "content": "x"}]}, "'question': role 'human'"),
        ({"question": [{"text": "x"}]}, "'question': a message needs"),
        ({"question": [{"role": "user", "content": None}]}, "'question': content must be text"),
    ],
)
def test_homework_says_which_value_is_wrong(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        TEMPLATES["HOMEWORK"](HOMEWORK | change)


def test_pku_has_two_labels() -> None:
    assert texts(TEMPLATES["PKUSafeRLHF"](PKU)) == ("Q?", "one", "zero")
    assert texts(TEMPLATES["PKUSafeRLHF_safer"](PKU)) == ("Q?", "zero", "one")
    assert TEMPLATES["PKUSafeRLHF"](PKU).meta == {"is_response_0_safe": True, "is_response_1_safe": False}
    for label in (1.0, True):  # what other writers make of an integer column
        assert texts(TEMPLATES["PKUSafeRLHF"](PKU | {"better_response_id": label})) == ("Q?", "one", "zero")
    with pytest.raises(Tie):
        TEMPLATES["PKUSafeRLHF"](PKU | {"better_response_id": -1})
    for label in NOTHING:
        with pytest.raises(NoLabel):
            TEMPLATES["PKUSafeRLHF"](PKU | {"better_response_id": label})
    with pytest.raises(ValueError, match="'better_response_id': expected 0 or 1, found 2"):
        TEMPLATES["PKUSafeRLHF"](PKU | {"better_response_id": 2})


def test_hh() -> None:
    start = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Tea?\n\nAssistant:"
    read = TEMPLATES["HH"]({"chosen": f"{start} Yes.", "rejected": f"{start} No."})
    assert read.prompt == (Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Tea?"))
    assert texts(read) == ("Tea?", "Yes.", "No.")
    with pytest.raises(ValueError, match="'rejected': its turns before"):
        TEMPLATES["HH"]({"chosen": f"{start} Yes.", "rejected": "\n\nHuman: Hi\n\nAssistant: No."})
    with pytest.raises(KeyError, match="rejected"):
        TEMPLATES["HH"]({"chosen": start})


@pytest.mark.parametrize(
    ("text", "contents"),
    [
        ("Human: a\n\nAssistant: b", ["a", "b"]),  # no blank line before the first turn
        ("\n\nHuman: say Human: x\nAssistant: y\n\nAssistant: b", ["say Human: x\nAssistant: y", "b"]),
        ("\n\nHuman: a\n\nmore\n\n\nand more\n\nAssistant: b\n\nc", ["a\n\nmore\n\n\nand more", "b\n\nc"]),
        ("\n\nHuman: a\n\n\nAssistant: b", ["a", "b"]),  # three newlines
        ("\n\nHuman: a\n\nAssistant:", ["a", ""]),
    ],
)
def test_transcripts(text, contents) -> None:
    assert [m.content for m in parse_transcript(text, "chosen")] == contents


@pytest.mark.parametrize(
    "text", ["hello", "\n\nAssistant: b", "\n\nHuman: a", "x\n\nHuman: a\n\nAssistant: b", None]
)
def test_bad_transcripts(text) -> None:
    with pytest.raises(ValueError, match="key 'chosen'"):
        parse_transcript(text, "chosen")


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
    for wrong in ("8", True):
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


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q?", "response_1": "one", "response_2": "two", "preference_strength": -2},
        {
            "context": [{"role": "user", "content": "Q?"}],
            "response1": "one",
            "response2": "two",
            "overall_preference": -2,
        },
    ],
)
def test_helpsteer(row) -> None:
    key = "preference_strength" if "preference_strength" in row else "overall_preference"
    read = TEMPLATES["HELPSTEER"]
    assert texts(read(row)) == ("Q?", "one", "two")  # negative prefers the first
    assert read(row).meta == {"strength": 2.0}
    assert texts(read(row | {key: 1})) == ("Q?", "two", "one")
    with pytest.raises(Tie):
        read(row | {key: 0})
    for label in NOTHING:
        with pytest.raises(NoLabel):
            read(row | {key: label})
    for label in (99, -3.5, 1e20, float("inf"), True, "much"):
        with pytest.raises(UnknownLabel, match=key):
            read(row | {key: label})


def test_unknown_template_lists_the_known_ones() -> None:
    with pytest.raises(KeyError, match="'None' is not known; choose one of HELPSTEER, HH, HOMEWORK"):
        get_template("None")


def test_another_layout_is_a_registered_function(monkeypatch) -> None:
    monkeypatch.setattr(templates, "TEMPLATES", dict(TEMPLATES))

    @templates.template("MINE")
    def mine(row):
        return Preference((Message("user", row["q"]),), *row["ranked"])

    assert texts(get_template("MINE")({"q": "Q?", "ranked": ["good", "bad"]})) == ("Q?", "good", "bad")
    assert "MINE" not in TEMPLATES
