"""The miniature's tokenizers: vocabularies of byte pairs (CLIP) and word pieces (BERT) learned from its captions."""

import json
import re
import string
from collections import Counter
from pathlib import Path

import numpy as np
from tokenizers import pre_tokenizers
from transformers import BertTokenizer, CLIPTokenizer

from workflow.miniature.captions import captions
from workflow.miniature.sizes import CONTEXT
from workflow.miniature.world import scene

START, END = "<|startoftext|>", "<|endoftext|>"
SCENES = 3000
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
RARE_WORD = 300  # fewer mentions than this, and a word is spelled letter by letter
RARE_MERGES = 24  # left out, so that some words are several tokens, as in the real vocabulary


def write_tokenizer(folder: Path, seed: int = 7) -> CLIPTokenizer:
    """Learn the vocabulary and save it as the hub does (vocab.json, merges.txt); any byte can be spelled."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    texts = _texts(seed)
    blank = CLIPTokenizer(vocab={START: 0, END: 1}, merges=[])
    learned = json.loads(
        blank.train_new_from_iterator(texts, vocab_size=2000, initial_alphabet=alphabet).backend_tokenizer.to_str()
    )
    merges = [tuple(pair) for pair in learned["model"]["merges"]][:-RARE_MERGES]
    words = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(pair) for pair in merges), START, END]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT)
    tokenizer.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n")
    (folder / "tokenizer.json").unlink(missing_ok=True)
    return CLIPTokenizer.from_pretrained(folder)


def write_wordpieces(folder: Path, seed: int = 18) -> BertTokenizer:
    """A lower-case vocabulary of letters and whole words, the rare ones left to be spelled; saved as the hub does."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = Counter(word for text in _texts(seed) for word in re.findall(r"[a-z]{2,}", text.lower()))
    words = sorted(word for word, count in counts.items() if count >= RARE_WORD)
    continued = ["##" + letter for letter in string.ascii_lowercase + string.digits]
    single = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *single, *continued, *words]) + "\n")
    config = {"tokenizer_class": "BertTokenizer", "model_max_length": CONTEXT, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return BertTokenizer.from_pretrained(folder)


def _texts(seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [text for _ in range(SCENES) for text in captions(scene(rng, square=True), rng)]
