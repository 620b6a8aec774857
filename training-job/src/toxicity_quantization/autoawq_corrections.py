"""AutoAWQ 0.2.9 put right where it meets a CPU, Gemma 3 and prompts of different lengths; used by `with_autoawq`.

All of it goes through what AutoAWQ leaves open to its users: a model class and a quantizer class of one's own. The
library is no longer maintained, so nothing here waits for a newer version of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

FLOOR = 0.01
"""Least mean activation of a channel, as a share of the mean over all channels. Scales are centred between the largest
and the smallest: a channel that a norm shuts off would else raise those of all others a hundredfold, and what that
leaves of Gemma's 1 + weight is less than bf16 can tell from nothing."""


def gemma3_class() -> Any:
    """AutoAWQ's Gemma 2 for Gemma 3, which it has no class for; built here since AutoAWQ loads slowly."""
    from awq.models.gemma2 import Gemma2AWQForCausalLM

    class Gemma3AWQForCausalLM(Gemma2AWQForCausalLM):  # type: ignore[misc]
        @staticmethod
        def get_layers_for_scaling(module: Any, input_feat: Any, module_kwargs: Any) -> list[dict[str, Any]]:
            """Without the scaling of q, k and v, whose outputs Gemma 3 normalises: it does worse than rounding
            (https://github.com/vllm-project/llm-compressor/issues/2522)."""
            layers = Gemma2AWQForCausalLM.get_layers_for_scaling(module, input_feat, module_kwargs)
            return [layer for layer in layers if layer["prev_op"] is not module.input_layernorm]

    return Gemma3AWQForCausalLM


def use_known_norms(model: Any) -> None:
    """Puts Gemma 2's norms in place of a Gemma 3's, of the same weights: they are one and the same by two names, and
    only of the first does AutoAWQ know that they multiply by 1 + weight."""
    from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm

    for layer in model.model.layers:
        norm = Gemma2RMSNorm(len(layer.pre_feedforward_layernorm.weight), layer.pre_feedforward_layernorm.eps)
        norm.weight = layer.pre_feedforward_layernorm.weight
        layer.pre_feedforward_layernorm = norm


def quantizer_class() -> Any:
    """AutoAWQ's quantizer on one prompt after another; built here since AutoAWQ loads slowly.

    As it comes, it strings all prompts together and cuts the string into equal blocks: texts see those before them, and
    most blocks lack the BOS without which Gemma's activations are of another kind. Here the prompts are one row of
    tokens (1, all tokens, width) for whatever looks at tokens one by one, and are taken apart for attention.
    """
    import torch
    from awq.quantize.quantizer import AwqQuantizer

    class PromptQuantizer(AwqQuantizer):  # type: ignore[misc]
        inps: Any

        def init_quant(self, n_samples: int = 0, max_seq_len: int = 0) -> tuple[Any, dict[str, Any], Any]:
            """The decoder layers, the arguments that the first one gets beside the hidden states, and those."""
            layers = self.awq_model.get_model_layers(self.model)
            hidden, self.arguments = _first_inputs(self.model, layers[0], self.calib_data)
            self.lengths = [states.shape[1] for states in hidden]
            return layers, dict(self.arguments[0]), torch.cat(hidden, dim=1)

        def _module_forward(self, x: Any, module: Any, module_kwargs: Mapping[str, Any]) -> Any:
            """`module` on all tokens (1, all tokens, width); one prompt at a time if it has attention, as those that
            take arguments do."""
            if not module_kwargs:
                return super()._module_forward(x, module, module_kwargs)
            outputs = []
            for prompt, arguments in zip(x.split(self.lengths, dim=1), self.arguments, strict=True):
                own = {name: arguments.get(name) for name in module_kwargs}
                outputs.append(super()._module_forward(prompt, module, own))
            return torch.cat(outputs, dim=1)

        def _get_input_feat(self, layer: Any, named_linears: Mapping[str, Any]) -> dict[str, Any]:
            """What goes into each linear layer: name to (1, all tokens, width). Moves on to the next layer's input."""
            inputs, handles = _collect_inputs(named_linears)
            self.inps = self._module_forward(self.inps, layer, self._sanitize_kwargs(self.module_kwargs, layer))
            for handle in handles:
                handle.remove()
            return {name: torch.cat(parts, dim=1) for name, parts in inputs.items()}

        def _compute_best_scale(self, x: Any, w_mean: Any, x_mean: Any, module2inspect: Any, *rest: Any) -> Any:
            """The best scales by a search that puts the weights back after each try.

            As it comes it keeps them by `v.cpu()`, on a CPU the weights themselves, and each try starts from the last.
            """
            handle = module2inspect.register_state_dict_post_hook(_clone_values)
            try:
                floor = FLOOR * float(x_mean.mean())
                return super()._compute_best_scale(x, w_mean, x_mean.clamp(min=floor), module2inspect, *rest)
            finally:
                handle.remove()

    return PromptQuantizer


def _first_inputs(
    model: Any, layer: Any, prompts: Sequence[Sequence[int]]
) -> tuple[list[Any], list[dict[str, Any]]]:
    """Of each prompt the hidden states (1, its tokens, width) that come into `layer`, and the arguments beside them."""
    import torch

    seen: list[tuple[Any, dict[str, Any]]] = []

    def keep(_: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.append((positional[0], named))

    handle = layer.register_forward_pre_hook(keep, with_kwargs=True)
    with torch.no_grad():
        for prompt in prompts:
            model.model(torch.tensor([prompt], device=model.device), use_cache=False)
    handle.remove()
    return [hidden for hidden, _ in seen], [named for _, named in seen]


def _collect_inputs(named: Mapping[str, Any]) -> tuple[dict[str, list[Any]], list[Any]]:
    """Lists that fill with what goes into each module, by its name, until the handles are removed."""
    inputs: dict[str, list[Any]] = {name: [] for name in named}

    def keep(_: Any, positional: tuple[Any, ...], name: str) -> None:
        inputs[name].append(positional[0])

    handles = [module.register_forward_pre_hook(partial(keep, name=name)) for name, module in named.items()]
    return inputs, handles


def _clone_values(module: Any, state: dict[str, Any], *_: Any) -> None:
    state.update({name: value.clone() for name, value in state.items()})
