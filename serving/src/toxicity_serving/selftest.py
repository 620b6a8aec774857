"""Self-test before readiness: classify two known texts and check their scores."""

from __future__ import annotations

import logging
import math

from toxicity_serving.classifier import Classifier

logger = logging.getLogger(__name__)

TOXIC = "ты тупой урод, заткнись и проваливай отсюда, дебил"
HARMLESS = "спасибо за подробный рецепт, вечером обязательно попробую"


class SelfTestError(RuntimeError):
    """The scores of the self-test are unusable."""


async def run_selftest(classifier: Classifier) -> None:
    """Classify a toxic and a harmless text. Raises SelfTestError unless both scores are in [0, 1] and differ.

    Also raises the errors of `Classifier.scores`.
    """
    toxic, harmless = (score.value for score in await classifier.scores([TOXIC, HARMLESS]))
    if not all(math.isfinite(value) and 0 <= value <= 1 for value in (toxic, harmless)):
        raise SelfTestError(f"self-test scores are not probabilities: toxic {toxic}, harmless {harmless}")
    if toxic == harmless:
        raise SelfTestError(
            f"self-test: a toxic and a harmless text both score {toxic}; the weights do not discriminate"
        )
    level = logging.INFO if toxic > harmless else logging.WARNING
    logger.log(level, "selftest_scores toxic=%.4f harmless=%.4f", toxic, harmless)
