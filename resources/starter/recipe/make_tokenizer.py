"""Trains the two CLIP tokenizers (byte-pair encoding) on our captions and emojibase's words."""

import json
import random

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from common import COLORS, SIZES, WORK, caption, load_sprites

MAX_LENGTH, MERGES = 32, 2500
PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
MORE_WORDS = (
    "a photo of a painting of the sketch of high quality detailed beautiful, simple; bright dark colorful light "
    "cute realistic pixel art watercolor oil portrait landscape"
)


def corpus():
    random.seed(0)
    items, _ = load_sprites()
    lines = [
        caption(i["name"], i["style"], random.choice(list(SIZES)), random.choice([None, *COLORS]))
        for i in items
        for _ in range(120)
    ]
    for e in json.loads((WORK / "node_modules/emojibase-data/en/data.json").read_text()):
        lines += [(e["label"] + " " + " ".join(e.get("tags", []))).lower()] * 2
    return lines + [MORE_WORDS] * 20


def train():
    """Vocabulary and merges in CLIP's order: bytes, bytes at word ends, merges, the two special tokens."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(
            vocab_size=256 + 512 + MERGES,
            initial_alphabet=alphabet,
            end_of_word_suffix="</w>",
            show_progress=False,
        ),
    )
    merges = [
        tuple(m.split(" ")) if isinstance(m, str) else tuple(m)
        for m in json.loads(bpe.to_str())["model"]["merges"]
    ][:MERGES]
    tokens = alphabet + [c + "</w>" for c in alphabet]
    seen = set(tokens)
    tokens += [t for t in dict.fromkeys("".join(m) for m in merges) if t not in seen] + [
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    return {t: i for i, t in enumerate(tokens)}, merges


def write(folder, vocabulary, merges, pad):
    """The classic four files; tokenizer.json is added by transformers."""
    folder.mkdir(parents=True, exist_ok=True)

    def token(content):
        return {
            "content": content,
            "lstrip": False,
            "normalized": True,
            "rstrip": False,
            "single_word": False,
        }

    start, end = "<|startoftext|>", "<|endoftext|>"
    CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        unk_token=end,
        bos_token=start,
        eos_token=end,
        pad_token=pad,
        model_max_length=MAX_LENGTH,
    ).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8"
    )
    (folder / "special_tokens_map.json").write_text(
        json.dumps(
            {"bos_token": token(start), "eos_token": token(end), "pad_token": pad, "unk_token": token(end)},
            indent=2,
        )
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "add_prefix_space": False,
                "bos_token": start,
                "clean_up_tokenization_spaces": False,
                "do_lower_case": True,
                "eos_token": end,
                "errors": "replace",
                "model_max_length": MAX_LENGTH,
                "pad_token": pad,
                "tokenizer_class": "CLIPTokenizer",
                "unk_token": end,
            },
            indent=2,
        )
    )


def main():
    vocabulary, merges = train()
    for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        write(WORK / name, vocabulary, merges, pad)
        t = CLIPTokenizer.from_pretrained(WORK / name)
        text = "a 3d render of a high heeled shoe with heart eyes on an orange background"
        ids = t(text, padding="max_length", truncation=True, max_length=t.model_max_length)["input_ids"]
        print(
            name,
            len(vocabulary),
            t.model_max_length,
            t.pad_token_id,
            t.bos_token_id,
            t.eos_token_id,
            t.convert_ids_to_tokens(ids),
            repr(t.decode(ids, skip_special_tokens=True)),
        )


if __name__ == "__main__":
    main()
