"""The tokenizer of a loaded model without the parts of Transformers that prompts do not need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toxicity_api.prompting import Tokenizer


class FastTokenizer:
    """Calls the `tokenizers` library that a Transformers tokenizer wraps, and returns the same ids.

    Transformers also computes offsets and masks, which takes as long as the ids. Not thread-safe.
    """

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is a Transformers tokenizer with a `backend_tokenizer`, which must not be used elsewhere."""
        self.bos_token_id: int | None = tokenizer.bos_token_id
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()  # tokenizer.json can have both
        self._backend.no_padding()

    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        found: Mapping[int, Any] = self._tokenizer.added_tokens_decoder
        return found

    def __call__(self, text: str, *, add_special_tokens: bool, split_special_tokens: bool = False) -> Any:
        self._backend.encode_special_tokens = split_special_tokens
        # the only method that computes no offsets
        (encoding,) = self._backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        return {"input_ids": encoding.ids}


def fast_tokenizer(tokenizer: Any) -> Tokenizer:
    """Return a FastTokenizer, or `tokenizer` itself if it is not one of the `tokenizers` library."""
    return FastTokenizer(tokenizer) if hasattr(tokenizer, "backend_tokenizer") else tokenizer
