"""Tokenizer folders as on the hub: CLIP's real vocabulary, which open_clip ships, and made-up word pieces for BERT's."""

import itertools
import json
import string
from pathlib import Path
from typing import Any

import open_clip

WORD_PIECES = 30_522
# Places in BERT's uncased vocabulary.
SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
ENDS = {1012: ".", 1029: "?"}


def write_tokenizer(folder: Path, config: dict[str, Any]) -> None:
    """Write tokenizer_config.json and the vocabulary of its class."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    if config["tokenizer_class"] == "BertTokenizer":
        (folder / "vocab.txt").write_text("\n".join(word_pieces()) + "\n")
    else:
        _write_byte_pairs(folder)


def _write_byte_pairs(folder: Path) -> None:
    tokenizer = open_clip.SimpleTokenizer()
    words = list(tokenizer.encoder)
    words[-2:] = ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, tokenizer.bpe_ranks)) + "\n")


def word_pieces() -> list[str]:
    """30,522 pieces, BERT's number, that spell any lower-case text; they are not BERT's, whose list is not at hand.

    Single characters first, then all pairs of letters, then triples, each as a beginning and as a continuation; what ends a
    sentence stands where BERT has it, by which networks part phrases.
    """
    unused = (f"[unused{number}]" for number in itertools.count())
    words = [SPECIAL.get(place) or next(unused) for place in range(104)]
    letters = string.ascii_lowercase
    lengths = (map("".join, itertools.product(letters, repeat=length)) for length in (2, 3))
    stems = itertools.chain(letters + string.digits, string.punctuation, *lengths)
    pieces = itertools.chain.from_iterable((stem, f"##{stem}") for stem in stems)
    words += itertools.islice(pieces, WORD_PIECES - len(words))
    for place, sign in ENDS.items():
        here = words.index(sign)
        words[here], words[place] = words[place], sign
    return words
