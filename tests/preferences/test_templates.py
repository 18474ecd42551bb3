import pytest

from rlhf_hw.preferences import templates
from rlhf_hw.preferences.labels import (
    Label0,
    NoLabel,
    Tie,
    UnknownLabel,
)
from rlhf_hw.preferences.templates import TEMPLATES, Message, Preference, get_template, parse_transcript

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
    + [(label, UnknownLabel) for label in ("A", "1", True, False, 1.5, 1e20, [1], {})]
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
        ({"question": [{"text": "x"}]}, "'question': expected a message"),
        ({"question": [{"role": "user", "content": None}]}, "'question': content must be text"),
        ({"question": [{"role": ["user"], "content": "x"}]}, "'question': role"),
        ({"response_1": [{"role": "user", "content": "x"}]}, "'response_1': a reply is the assistant's"),
        ({"response_1": []}, "'response_1': expected a string or one message"),
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


def test_nan_in_what_goes_with_a_pair_is_nothing() -> None:
    """A score file could not hold it."""
    nan = float("nan")
    row = {"prompt": "Q?", "chosen": "good", "rejected": "bad", "score_chosen": nan, "margin": 1.0}
    assert TEMPLATES["TRL"](row).meta == {"margin": 1.0}
    read = TEMPLATES["HOMEWORK"](HOMEWORK | {"metadata": {"gold_1": nan, "gold_2": 1.0}})
    assert read.meta == {"gold_2": 1.0, "chosen_index": 2}


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
    assert texts(read(row | {key: 2.0})) == ("Q?", "two", "one")  # as tables with gaps hold whole numbers
    for label in (99, -3.5, 0.5, 4, 1e20, float("inf"), 10**400, True, "much", [1], {}):
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


def test_the_homework_is_read_in_both_editions() -> None:
    assert texts(TEMPLATES["HOMEWORK"](PKU)) == texts(TEMPLATES["PKUSafeRLHF"](PKU)) == ("Q?", "one", "zero")
    assert texts(TEMPLATES["HOMEWORK"]({**PKU, "better_response_id": 0})) == ("Q?", "zero", "one")
    with pytest.raises(ValueError, match="labels of both editions"):
        TEMPLATES["HOMEWORK"]({**PKU, "overall_response": 1})
    with pytest.raises(KeyError, match="question"):
        TEMPLATES["HOMEWORK"]({"prompt": "Q?", "response_1": "a", "response_2": "b"})
