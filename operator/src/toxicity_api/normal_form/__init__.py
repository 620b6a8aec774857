"""The normal form of texts: the same prompt for every way to write what a reader sees as the same text.

Training, quantization, evaluation, serving and the load test share it. `form` is the entry. `characters` and `words`
have the rules, `reading_order` the order of text under bidirectional controls. A model records the version that it was
trained with, so a version's rules never change. Ordinary Russian, English, Ukrainian, emoji, links, code and numbers
are in normal form already.
"""

NORMAL_FORM_VERSION = 1
"""The newest version. A training uses it unless `training.normalForm` is set. 0 leaves texts as they are."""
