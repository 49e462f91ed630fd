"""A tiny base model on disk: a random Llama and a real tokenizer, as AutoModel loads them."""

from __future__ import annotations

import random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

SUBJECTS = {
    "prose": "The old house by the river was quiet in the morning and the garden smelled of rain",
    "law": "The court of appeal held that the contract was void and the tenant owed no rent",
    "medicine": "A fever with a rash may show an infection of the skin that the doctor must treat",
    "minerals": "Quartz is a hard crystal of silica with a glassy lustre and no cleavage at all",
}
"""Words of each subject; its sentences are drawn from them."""


def sentences(subject, num, *, seed=0, num_words=12):
    """Return sentences of a subject, all different."""
    words = SUBJECTS[subject].lower().split()
    generator = random.Random(f"{subject} {seed}")
    return [" ".join(generator.choices(words, k=num_words)).capitalize() + "." for _ in range(num)]


def make_tiny_base(folder, *, seed=0, context=None):
    """Write a base model of 4 layers and width 32 into a folder and return it.

    Args:
        folder: where.
        seed: of the weights; the tokenizer is always the same.
        context: make a GPT-2 that has learned positions for so many tokens; default: a Llama.
    """
    texts = [text for subject in SUBJECTS for text in sentences(subject, 20)]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|endoftext|>", bos_token="<|endoftext|>"
    )
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _llama(len(tokenizer)) if context is None else _gpt2(len(tokenizer), context)
    model.save_pretrained(folder)
    return folder


def _llama(num_words):
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=num_words,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            bos_token_id=0,
            eos_token_id=0,
            tie_word_embeddings=True,
        )
    )


def _gpt2(num_words, context):
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=num_words,
            n_embd=32,
            n_layer=4,
            n_head=4,
            n_positions=context,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def write_corpus(path, subject, num=24, *, seed=1):
    """Write a jsonl corpus of a subject, two sentences a document, and return its path."""
    drawn = sentences(subject, 2 * num, seed=seed)
    lines = [f'{{"text": "{a} {b}"}}' for a, b in zip(drawn[::2], drawn[1::2], strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def background(num=24):
    """Return background texts for `init`."""
    drawn = sentences("prose", 2 * num, seed=7)
    return [f"{a} {b}" for a, b in zip(drawn[::2], drawn[1::2], strict=True)]
