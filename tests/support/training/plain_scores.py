"""Reference scores by Transformers with the served weights, and the comparison of scores of random models."""

from __future__ import annotations

import math
from pathlib import Path

TEMPLATE, TOXIC, HARMLESS = "текст: {text}\nответ:", "да", "нет"


def log_odds(score: float) -> float:
    """A random model's scores lie near an end of their scale, where their differences say nothing; these do."""
    return math.log(score / (1 - score))


def transformers_scores(folder: Path, texts: list[str], device: str = "cpu") -> list[float]:
    """p(toxic) of each text by Transformers in fp32, one prompt at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from toxicity_api.prompting import build_prompt, toxic_score
    from toxicity_api.spec import PromptFormat

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    labels = [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in (TOXIC, HARMLESS)]
    scores = []
    for text in texts:
        ids = build_prompt(tokenizer, PromptFormat(TEMPLATE, 0), text, 255).ids
        with torch.inference_mode():
            toxic, harmless = model(torch.tensor([ids], device=device)).logits[0, -1, labels].tolist()
        scores.append(toxic_score(toxic, harmless))
    return scores
