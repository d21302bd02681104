"""The miniature's CLIP tokenizer: a byte-pair vocabulary learned from the drawn world's captions."""

import json
from pathlib import Path

import numpy as np
from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from workflow.scripts.miniature.captions import captions
from workflow.scripts.miniature.sizes import CONTEXT
from workflow.scripts.miniature.world import scene

START, END = "<|startoftext|>", "<|endoftext|>"
SCENES = 3000
RARE_MERGES = 24  # left out, so that some words are several tokens, as in the real vocabulary


def write_tokenizer(folder: Path, seed: int = 7) -> CLIPTokenizer:
    """Learn the vocabulary and save it as the hub does (vocab.json, merges.txt); any byte can be spelled."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    rng = np.random.default_rng(seed)
    texts = [text for _ in range(SCENES) for text in captions(scene(rng, square=True), rng)]
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
