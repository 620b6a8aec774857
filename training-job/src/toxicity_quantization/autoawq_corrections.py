"""Corrections of AutoAWQ 0.2.9 for CPUs, Gemma 3 and prompts of different lengths; `with_autoawq` uses them.

They use AutoAWQ's extension points, a custom model class and a custom quantizer class. The library is no longer
maintained, so no newer version will make them unnecessary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from toxicity_quantization.calibrate import FLOOR


def gemma3_class() -> Any:
    """AutoAWQ's class for Gemma 2, adapted to Gemma 3; defined here because AutoAWQ imports slowly."""
    from awq.models.gemma2 import Gemma2AWQForCausalLM

    class Gemma3AWQForCausalLM(Gemma2AWQForCausalLM):  # type: ignore[misc]
        @staticmethod
        def get_layers_for_scaling(module: Any, input_feat: Any, module_kwargs: Any) -> list[dict[str, Any]]:
            """Skips the scaling of q, k and v: Gemma 3 normalises their outputs, and scaling is worse than rounding
            (https://github.com/vllm-project/llm-compressor/issues/2522)."""
            layers = Gemma2AWQForCausalLM.get_layers_for_scaling(module, input_feat, module_kwargs)
            return [layer for layer in layers if layer["prev_op"] is not module.input_layernorm]

    return Gemma3AWQForCausalLM


def use_known_norms(model: Any) -> None:
    """Replaces Gemma 3's norms by Gemma 2's with the same weights.

    Both compute the same, but AutoAWQ knows only of Gemma 2's that they multiply by 1 + weight.
    """
    from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm

    for layer in model.model.layers:
        norm = Gemma2RMSNorm(len(layer.pre_feedforward_layernorm.weight), layer.pre_feedforward_layernorm.eps)
        norm.weight = layer.pre_feedforward_layernorm.weight
        layer.pre_feedforward_layernorm = norm


def quantizer_class() -> Any:
    """AutoAWQ's quantizer, changed to process prompts separately; defined here because AutoAWQ imports slowly.

    The original concatenates all prompts and cuts them into equal blocks: texts attend to preceding texts, and most
    blocks lack the BOS token, without which Gemma's activations differ. Here, modules that process tokens one by one
    get all prompts as one row (1, all tokens, width); modules with attention get one prompt at a time.
    """
    import torch
    from awq.quantize.quantizer import AwqQuantizer

    class PromptQuantizer(AwqQuantizer):  # type: ignore[misc]
        inps: Any

        def init_quant(self, n_samples: int = 0, max_seq_len: int = 0) -> tuple[Any, dict[str, Any], Any]:
            """(decoder layers, further arguments of the first layer, its hidden states)."""
            layers = self.awq_model.get_model_layers(self.model)
            hidden, self.arguments = _first_inputs(self.model, layers[0], self.calib_data)
            self.lengths = [states.shape[1] for states in hidden]
            return layers, dict(self.arguments[0]), torch.cat(hidden, dim=1)

        def _module_forward(self, x: Any, module: Any, module_kwargs: Mapping[str, Any]) -> Any:
            """Applies `module` to all tokens (1, all tokens, width), or prompt by prompt if it takes further
            arguments, as modules with attention do."""
            if not module_kwargs:
                return super()._module_forward(x, module, module_kwargs)
            outputs = []
            for prompt, arguments in zip(x.split(self.lengths, dim=1), self.arguments, strict=True):
                own = {name: arguments.get(name) for name in module_kwargs}
                outputs.append(super()._module_forward(prompt, module, own))
            return torch.cat(outputs, dim=1)

        def _get_input_feat(self, layer: Any, named_linears: Mapping[str, Any]) -> dict[str, Any]:
            """The input of each linear layer by name (1, all tokens, width). Advances to the next layer's input."""
            inputs, handles = _collect_inputs(named_linears)
            self.inps = self._module_forward(self.inps, layer, self._sanitize_kwargs(self.module_kwargs, layer))
            for handle in handles:
                handle.remove()
            return {name: torch.cat(parts, dim=1) for name, parts in inputs.items()}

        def _compute_best_scale(self, x: Any, w_mean: Any, x_mean: Any, module2inspect: Any, *rest: Any) -> Any:
            """The best scales, by a search that restores the weights after each trial.

            The original saves them with `v.cpu()`, which on a CPU is no copy, so each trial starts from the last one.
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
    """For each prompt, the hidden states (1, its tokens, width) that enter `layer`, and its further arguments."""
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
    """(inputs by module name, handles); hooks append to the inputs until the handles are removed."""
    inputs: dict[str, list[Any]] = {name: [] for name in named}

    def keep(_: Any, positional: tuple[Any, ...], name: str) -> None:
        inputs[name].append(positional[0])

    handles = [module.register_forward_pre_hook(partial(keep, name=name)) for name, module in named.items()]
    return inputs, handles


def _clone_values(module: Any, state: dict[str, Any], *_: Any) -> None:
    state.update({name: value.clone() for name, value in state.items()})
