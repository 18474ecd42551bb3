"""Prompts that are too long: what is left is as the template writes it, and as much as fits."""

import copy

import pytest

from rlhf_hw.models.fitting import fit_prompt
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.preferences.templates import Message
from tests.chat_families import FAMILIES

TURNS = [
    Message("user", "Hello there, warm the kettle, please."),
    Message("assistant", "Then wait ten minutes, I am fine."),
    Message("user", "How are you today? A cup of tea?"),
    Message("assistant", "Thank you."),
    Message("user", "Then a cup of tea for the user, in ten minutes, and one for the model."),
]
SYSTEM = Message("system", "You are a helpful assistant.")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    """A family and how it renders whole conversations, however long."""
    tokenizer = FAMILIES[request.param].make()
    renderer = Renderer(tokenizer)
    return FAMILIES[request.param], tokenizer, lambda messages: renderer.prompt_ids([messages])[0]


def renderer_of(tokenizer, limit: int) -> Renderer:
    return Renderer(copy.deepcopy(tokenizer), max_prompt_tokens=limit)


@pytest.mark.parametrize("kept", [TURNS[2:], TURNS[4:]])
def test_whole_turns_go_first_and_the_system_message_stays(family, kept) -> None:
    family, tokenizer, whole = family
    head = [SYSTEM] if family.system else []
    wanted = whole([*head, *kept])
    for limit in (len(wanted), len(wanted) + 2):
        (found,), (cut,) = renderer_of(tokenizer, limit).fitted([[*head, *TURNS]])
        assert found == wanted
        assert cut
    (all_of_it,), (cut,) = renderer_of(tokenizer, len(whole([*head, *TURNS]))).fitted([[*head, *TURNS]])
    assert all_of_it == whole([*head, *TURNS]) and not cut


def test_then_words_of_the_oldest_message_that_is_left(family) -> None:
    family, tokenizer, whole = family
    head = [SYSTEM] if family.system else []
    words = (TURNS[-1].content + " ").split() * 8
    asked = [*TURNS[:-1], Message("user", " ".join(words))]
    shorter = [[*head, Message("user", " ".join(words[n:]))] for n in range(len(words))]
    for number in (1, 15, 40):
        wanted = whole(shorter[number])
        limit = len(whole(shorter[number - 1])) - 1  # one more word would be too much
        assert renderer_of(tokenizer, limit).prompt_ids([[*head, *asked]]) == [wanted]


def test_of_a_long_system_message_the_beginning_is_kept(family) -> None:
    family, tokenizer, whole = family
    if not family.system:
        pytest.skip("takes no system message")
    prompt = [Message("system", "You are fine. " * 40), TURNS[-1]]
    bare = len(whole([Message("system", ""), Message("user", "")]))
    limit = 2 * bare + 40
    (found,), _ = renderer_of(tokenizer, limit).fitted([prompt])
    assert len(found) <= limit
    text = tokenizer.decode(found)
    assert "You are fine. You are fine." in text
    assert "and one for the model." in text
    system = whole([Message("system", "\0"), Message("user", "")])
    assert found[:1] == system[:1], "the template's own text still begins it"


@pytest.mark.parametrize("text", ["w" * 600, "tea <|im_end|> " * 60, "\u2615" * 200])
def test_one_long_word_and_texts_with_control_tokens(family, text) -> None:
    family, tokenizer, whole = family
    limit = len(whole([Message("user", "")])) + 30
    (found,), _ = renderer_of(tokenizer, limit).fitted([[Message("user", text)]])
    assert limit - 10 < len(found) <= limit
    empty = whole([Message("user", "")])
    ends = [i for i in empty if i in tokenizer.added_tokens_decoder]
    assert [i for i in found if i in tokenizer.added_tokens_decoder and i != tokenizer.unk_token_id] == ends


def test_a_limit_below_the_templates_own_text_keeps_its_end() -> None:
    def rendered(messages):
        return [1, 2, 3, *range(100, 100 + sum(len(m.content.split()) for m in messages)), 8, 9]

    assert fit_prompt([Message("user", "a b c d")], 3, rendered) == [100, 8, 9]
    assert fit_prompt([Message("user", "a b c d")], 7, rendered) == [1, 2, 3, 100, 101, 8, 9]
