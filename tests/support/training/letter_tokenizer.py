"""A tokenizer with the interface of the real one and no dependencies: one token per letter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BOS = 1


@dataclass(frozen=True)
class AddedToken:
    content: str
    special: bool = True


class LetterTokenizer:
    """One token per letter, BOS 1; each name in `control` is one token, from 2 on. `shift` offsets the ids."""

    bos_token_id: int | None = BOS

    def __init__(self, control: Sequence[str] = (), shift: int = 0) -> None:
        self._control = {name: number for number, name in enumerate(control, start=BOS + 1)}
        self._shift = shift

    @property
    def added_tokens_decoder(self) -> Mapping[int, AddedToken]:
        return {number: AddedToken(name) for name, number in self._control.items()}

    def __call__(
        self, text: str, *, add_special_tokens: bool, split_special_tokens: bool = False
    ) -> dict[str, list[int]]:
        assert not add_special_tokens, "the prompt places BOS itself; the tokenizer must not add a second one"
        names = {} if split_special_tokens else self._control
        parts = re.findall("|".join([*map(re.escape, names), "."]), text, re.DOTALL)
        return {"input_ids": [names[part] if part in names else ord(part) + self._shift for part in parts]}
