"""Proof before traffic: known texts are classified through the whole path, and the answers must make sense."""

from __future__ import annotations

import logging
import math

from toxicity_serving.classifier import Classifier

logger = logging.getLogger(__name__)

TOXIC = "ты тупой урод, заткнись и проваливай отсюда, дебил"
HARMLESS = "спасибо за подробный рецепт, вечером обязательно попробую"


class SelfTestError(RuntimeError):
    """The service answers, but not with scores one could use."""


async def run_selftest(classifier: Classifier) -> None:
    """Raises SelfTestError unless both scores lie in [0, 1] and differ; also what `Classifier.scores` raises."""
    toxic, harmless = (score.value for score in await classifier.scores([TOXIC, HARMLESS]))
    if not all(math.isfinite(value) and 0 <= value <= 1 for value in (toxic, harmless)):
        raise SelfTestError(f"self-test scores are no probabilities: toxic {toxic}, harmless {harmless}")
    if toxic == harmless:
        raise SelfTestError(
            f"self-test: a toxic and a harmless text both score {toxic}; the weights do not discriminate"
        )
    level = logging.INFO if toxic > harmless else logging.WARNING
    logger.log(level, "selftest_scores toxic=%.4f harmless=%.4f", toxic, harmless)
