"""Write the text encoder of an open_clip model as transformers has it, for targets of losses (6) and (7).

    python -m workflow.text_tower --open-clip weights/miniature/clip --out results/miniature/weights/scorer

The folder holds `config.json`, open_clip's sizes, and `open_clip.safetensors`, sealed by SHA256SUMS. What is written has
`text_encoder/` and `tokenizer/`, a CLIPTextModelWithProjection and its CLIPTokenizer, and SHA256SUMS, written last.
"""

import json
from pathlib import Path
from typing import Any

from formats.checksums import digests, verify_folder, write_sums
from formats.cli import options, quick_imports, run
from formats.files import InputError, read_json

WEIGHTS, SIZES = "open_clip.safetensors", "config.json"


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--open-clip", type=Path, required=True, help="folder of the model, with its SHA256SUMS")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    verify_folder(arguments.open_clip)
    write_tower(arguments.open_clip, arguments.out)


def write_tower(folder: Path, out: Path) -> None:
    """Raises InputError for a folder that holds no open_clip model with a causal text encoder."""
    with quick_imports():
        import open_clip
        import torch
        from safetensors.torch import load_file
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection
    sizes = read_json(folder / SIZES)
    try:
        model = open_clip.CLIP(**sizes)
        model.load_state_dict(load_file(folder / WEIGHTS))
        state, text = model.state_dict(), sizes["text_cfg"]
        pooled_at_the_end = model.text_pool_type == "argmax" and model.attn_mask is not None
    except (TypeError, KeyError, RuntimeError, FileNotFoundError) as error:
        raise InputError(f"{folder}: not an open_clip model ({str(error).splitlines()[0]})") from None
    if not pooled_at_the_end:
        raise InputError(f"{folder}: its text encoder is not CLIP's, which is causal and read at the end of a text")
    tokens = open_clip.SimpleTokenizer(context_length=text["context_length"])
    quick = isinstance(model.transformer.resblocks[0].mlp.gelu, open_clip.model.QuickGELU)
    config = CLIPTextConfig(
        vocab_size=text["vocab_size"],
        hidden_size=text["width"],
        intermediate_size=model.transformer.resblocks[0].mlp.c_fc.out_features,
        num_hidden_layers=text["layers"],
        num_attention_heads=text["heads"],
        max_position_embeddings=text["context_length"],
        projection_dim=sizes["embed_dim"],
        hidden_act="quick_gelu" if quick else "gelu",
        bos_token_id=tokens.sot_token_id,
        eos_token_id=tokens.eot_token_id,
        pad_token_id=tokens.eot_token_id,
    )
    encoder = CLIPTextModelWithProjection(config)
    encoder.load_state_dict(renamed(state, text["layers"]))
    encoder.to(torch.float32).save_pretrained(out / "text_encoder")
    write_tokenizer(tokens, out / "tokenizer")
    write_sums(out, digests(out))


def renamed(state: dict[str, Any], layers: int) -> dict[str, Any]:
    """transformers' names of open_clip's text encoder; its projections of queries, keys and values are one matrix there."""
    found = {
        "text_projection.weight": state["text_projection"].T.contiguous(),
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
    }
    names = {"text_model.final_layer_norm": "ln_final"}
    parts = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    parts["self_attn.out_proj"] = "attn.out_proj"
    for i in range(layers):
        theirs, ours = f"text_model.encoder.layers.{i}", f"transformer.resblocks.{i}"
        names |= {f"{theirs}.{a}": f"{ours}.{b}" for a, b in parts.items()}
        for kind in ("weight", "bias"):
            thirds = state[f"{ours}.attn.in_proj_{kind}"].chunk(3)
            found |= {
                f"{theirs}.self_attn.{q}_proj.{kind}": one.contiguous() for q, one in zip("qkv", thirds, strict=True)
            }
    return found | {f"{a}.{kind}": state[f"{b}.{kind}"] for a, b in names.items() for kind in ("weight", "bias")}


def write_tokenizer(tokens: Any, folder: Path) -> None:
    """vocab.json, merges.txt and a configuration, as the hub has them; open_clip names the ends of a text otherwise."""
    from transformers import CLIPTokenizer

    merges = [" ".join(pair) for pair in tokens.bpe_ranks]
    named = {tokens.sot_token_id: "<|startoftext|>", tokens.eot_token_id: "<|endoftext|>"}
    vocabulary = {named.get(number, word): number for word, number in tokens.encoder.items()}
    CLIPTokenizer(
        vocab=vocabulary, merges=[tuple(pair) for pair in tokens.bpe_ranks], model_max_length=tokens.context_length
    ).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    (folder / "tokenizer.json").unlink(missing_ok=True)


if __name__ == "__main__":
    run(main)
