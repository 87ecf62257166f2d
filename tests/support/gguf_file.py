"""Writes a small Llama model with a SentencePiece tokenizer as a GGUF file, as other programs' converters do."""

import json
from pathlib import Path

import gguf
import numpy as np
from safetensors.numpy import load_file
from sentencepiece import SentencePieceProcessor


def write_gguf(model: Path, target: Path) -> None:
    """Write the Hugging Face folder `model` to the file `target`."""
    config = json.loads((model / "config.json").read_text())
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_vocab_size(config["vocab_size"])
    _add_tokenizer(writer, SentencePieceProcessor(str(model / "tokenizer.model")))
    _add_tensors(writer, config, load_file(model / "model.safetensors"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, pieces: SentencePieceProcessor) -> None:
    ids = range(pieces.get_piece_size())
    kinds = [
        gguf.TokenType.UNKNOWN
        if pieces.is_unknown(token_id)
        else gguf.TokenType.CONTROL
        if pieces.is_control(token_id)
        else gguf.TokenType.BYTE
        if pieces.is_byte(token_id)
        else gguf.TokenType.NORMAL
        for token_id in ids
    ]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([pieces.id_to_piece(token_id) for token_id in ids])
    writer.add_token_scores([pieces.get_score(token_id) for token_id in ids])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(pieces.bos_id())
    writer.add_eos_token_id(pieces.eos_id())
    writer.add_unk_token_id(pieces.unk_id())


def _add_tensors(writer: gguf.GGUFWriter, config: dict[str, int], tensors: dict[str, np.ndarray]) -> None:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, tensor in tensors.items():
        written = names.get_name(name, (".weight",))
        if written is None:
            raise ValueError(f"{name} has no name in a GGUF file")
        count = next((count for projection, count in heads.items() if projection in name), None)
        writer.add_tensor(written, tensor if count is None else _pairs_side_by_side(tensor, count))


def _pairs_side_by_side(projection: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp keeps the two halves of a rotary pair in neighbouring rows."""
    rows = projection.shape[0]
    return projection.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2).reshape(rows, -1)
