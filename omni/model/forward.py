"""The model: embed -> encode -> project -> scatter -> decode -> loss."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.auto import modeling_auto
from transformers.utils.generic import can_return_tuple

from ..features.cache import FeatureCache
from ..weights import resolve
from .attach import Attaches
from .attention import PACKED_SDPA, documents, packed_mask, restarts, without_mask
from .auto import MODELS, SavesCode
from .card import card, write_card
from .config import OmniConfig
from .embeds import Embeds, trains
from .generates import Generates
from .head import decoder_of, find_labels, logits_at, router_loss, token_losses
from .isolation import one_by_one
from .llm import packing


@dataclass
class OmniOutput(CausalLMOutputWithPast):
    """As transformers', and with labels the loss of each of them in reading order, (N,).

    They have a gradient of their own, for objectives that weigh or compare them.
    """

    token_losses: torch.Tensor | None = None
    aux_loss: torch.Tensor | None = None  # what the LLM's routers add, its coefficient within


class OmniForConditionalGeneration(SavesCode, Embeds, Generates, Attaches, GenerationMixin):
    """A text LLM plus a dictionary of modalities, each an encoder and a projector, and of heads.

    Media tensors are keyword arguments named by the encoders (`pixel_values`,
    `input_features` + `audio_frames`), all items of the batch in reading order.
    """

    config_class = OmniConfig
    config: OmniConfig
    main_input_name = "input_ids"
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    supports_gradient_checkpointing = True

    def __init__(self, config: OmniConfig):
        wanted = config._attn_implementation_internal
        super().__init__(config)
        self.language_model = self._build_llm(config)
        self.encoders = nn.ModuleDict()
        self.projectors = nn.ModuleDict()
        self._computed: dict[str, torch.Tensor] = {}  # buffers to be kept while weights are loaded
        for name, spec in config.modalities.items():
            self.encoders[name], self.projectors[name] = self._build(name, spec)
        self.heads = nn.ModuleDict()
        for name, spec in config.heads.items():
            self.heads[name] = self._build_head(name, spec)
        if wanted in ("eager", "sdpa"):  # others are for packed rows, which encoders have not
            for part in self.encoders.modules():
                if isinstance(part, PreTrainedModel):
                    part.set_attn_implementation(wanted)
        self.feature_cache: FeatureCache | None = None  # set it to run frozen encoders once
        self.post_init()

    def _build_llm(self, config: OmniConfig) -> Any:
        return packing(AutoModelForCausalLM.from_config(config.text_config))

    def _init_weights(self, module: nn.Module) -> None:
        """Keep the initialisation that every part's own constructor chose."""

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """Fill what `from_pretrained` has emptied as no file holds it, at its end."""
        super().initialize_weights()
        for name, value in self._computed.items():
            self.get_buffer(name).copy_(value)
        self._computed = {}

    def _complete(self, folder: Path) -> None:
        """Add the model card."""
        super()._complete(folder)
        own = self.config
        write_card(
            folder, card({"parts": own.parts, "modalities": own.modalities, "heads": own.heads})
        )

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.language_model.set_output_embeddings(new_embeddings)

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Module:  # type: ignore[override]
        """Resize the LLM's table and head; placeholders need no row in either."""
        table = self.language_model.resize_token_embeddings(*args, **kwargs)
        self.config.get_text_config().vocab_size = self.vocab_size = table.num_embeddings
        return table

    @property
    def base_model(self) -> Any:
        """Return what runs the model without its head, as TRL does, media included."""
        return _Headless(self)

    def get_decoder(self) -> nn.Module:
        return decoder_of(self.language_model)

    def train(self, mode: bool = True) -> "OmniForConditionalGeneration":
        """Switch the mode; frozen parts stay in evaluation mode (their batch norms are frozen)."""
        super().train(mode)
        parts = (self.encoders, self.projectors, self.heads)
        for part in (self.language_model, *(m for kind in parts for m in kind.values())):
            part.train(mode and trains(part))
        return self

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        label_positions: torch.Tensor | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Run the model.

        Args:
            input_ids: (B, T); placeholders mark where media features go.
            attention_mask: (B, T); leave it out for packed rows.
            position_ids: (B, T); restarting positions isolate packed documents.
            past_key_values: the cache of what came before.
            inputs_embeds: (B, T, D), instead of `input_ids` and media: text, or what `embed` makes.
            labels: (B, T), `IGNORE_INDEX` where there is none.
            label_positions: (N,) or (1, N), those in the flattened labels before a label. With
                them the result has the losses and no logits, which never exist all at once.
            num_items_in_batch: divides the summed loss; default: the labels of this batch.
            logits_to_keep: without labels: how many last positions (0: all), or which ones.
            kwargs: media tensors, and `NAME_positions` (M,) or (1, M), those of a modality's
                placeholders in the flattened ids, by default found; `NAME_features`, likewise,
                which feature each of them gets, by default in order; all else goes to the LLM.

        Raises:
            PlaceholderError: placeholder count differs from feature count.
            ValueError: not either ids or embeddings; or a row has both padding and documents.
        """
        embeds = self._inputs(input_ids, inputs_embeds, kwargs)  # (B, T, D)
        if past_key_values is not None:
            kwargs["past_key_values"] = past_key_values
        else:
            attention_mask = without_mask(attention_mask, position_ids)
        if labels is not None:
            decoded = self.decode(embeds, attention_mask, position_ids, **kwargs)
            return self._losses(
                decoded, labels, label_positions, num_items_in_batch, attention_mask
            )
        if attention_mask is None and past_key_values is None:
            # an empty cache would keep transformers from isolating packed documents
            kwargs.setdefault("use_cache", position_ids is None)
            if position_ids is not None and not kwargs["use_cache"]:
                return self._logits(embeds, position_ids, logits_to_keep, kwargs)
        return self.language_model(
            inputs_embeds=embeds, attention_mask=attention_mask, position_ids=position_ids,
            logits_to_keep=logits_to_keep, **kwargs,
        )  # fmt: skip

    def _inputs(
        self, ids: torch.Tensor | None, embeds: torch.Tensor | None, inputs: dict[str, Any]
    ) -> torch.Tensor:
        """Return the embeddings that the LLM gets; media are taken out of `inputs`."""
        if (ids is None) == (embeds is None):
            raise ValueError("pass either input_ids or inputs_embeds")
        if ids is not None:
            return self.embed(ids, inputs)
        if given := [n for n in self.media_inputs() if inputs.pop(n, None) is not None]:
            raise ValueError(
                f"inputs_embeds do not say where {', '.join(given)} go: pass input_ids, or the "
                "inputs_embeds that model.embed(input_ids, {...}) makes of them"
            )
        return sum((self.zero_touch(name) for name in self.config.modalities), embeds)  # type: ignore[arg-type]

    def headless(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the model without its head and cache; takes what `forward` takes.

        Returns:
            Its decoder's output, with `last_hidden_state` (B, T, D).
        """
        embeds = self._inputs(input_ids, inputs_embeds, kwargs)
        attention_mask = without_mask(attention_mask, position_ids)
        return self.decode(embeds, attention_mask, position_ids, **kwargs)

    def decode(
        self,
        embeds: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Run the LLM without its head and cache: (B, T, D) -> its decoder's output."""
        kwargs.pop("use_cache", None)
        config = self.language_model.config
        if getattr(config, "output_router_logits", False):
            kwargs.setdefault("output_router_logits", True)  # not every decoder looks there itself
        if attention_mask is None and not self.config.isolates and restarts(position_ids):
            return one_by_one(self.get_decoder(), embeds, position_ids, **kwargs)  # type: ignore[arg-type]
        if attention_mask is None and config._attn_implementation == PACKED_SDPA:
            kwargs["documents"] = documents(position_ids)
            attention_mask = packed_mask(self.language_model.config, position_ids)
        return self.get_decoder()(
            inputs_embeds=embeds, attention_mask=attention_mask, position_ids=position_ids,
            use_cache=False, **kwargs,
        )  # fmt: skip

    def _losses(
        self, decoded: Any, labels: torch.Tensor, where: torch.Tensor | None, count: Any, mask: Any
    ) -> OmniOutput:
        """Return the loss of each label, their sum over `count`, and logits unless `where` is."""
        logits, places = None, find_labels(labels) if where is None else where.flatten()
        targets = labels.flatten().index_select(0, places + 1)  # each predicts the token after it
        if where is None:
            hidden = decoded.last_hidden_state
            logits = logits_at(self.language_model, decoded, hidden.flatten(0, 1))
            losses = F.cross_entropy(logits[places].float(), targets, reduction="none")
            logits = logits.unflatten(0, hidden.shape[:2])
        else:
            losses = token_losses(self.language_model, decoded, places, targets)
        count = len(places) if count is None else count
        loss = losses.sum() / count
        aux_loss = router_loss(self.language_model, decoded, mask)
        if aux_loss is not None:  # it counts as much as the batch's share of the step's labels
            loss = loss + aux_loss * len(places) / count
        return OmniOutput(
            loss=loss, logits=logits,
            hidden_states=decoded.get("hidden_states"), attentions=decoded.get("attentions"),
            token_losses=losses, aux_loss=aux_loss,
        )  # fmt: skip

    def _logits(
        self, embeds: torch.Tensor, position_ids: torch.Tensor, keep: Any, kwargs: dict[str, Any]
    ) -> OmniOutput:
        """Return packed rows' logits: not every LLM hands positions on to its decoder."""
        decoded = self.decode(embeds, position_ids=position_ids, **kwargs)
        keep = slice(-keep, None) if isinstance(keep, int) else keep
        hidden = decoded.last_hidden_state[:, keep]
        logits = logits_at(self.language_model, decoded, hidden.flatten(0, 1))
        return OmniOutput(
            logits=logits.unflatten(0, hidden.shape[:2]),
            hidden_states=decoded.get("hidden_states"), attentions=decoded.get("attentions"),
        )  # fmt: skip


class _Headless:
    """Takes what the model takes, and returns its decoder's output: `last_hidden_state`."""

    def __init__(self, model: OmniForConditionalGeneration):
        self._whole = model
        self._tp_plan, self._pp_plan = model._tp_plan, model._pp_plan

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._whole.headless(*args, **kwargs)


for _name in MODELS:
    getattr(modeling_auto, _name).register(OmniConfig, OmniForConditionalGeneration)


def load_text_tokenizer(spec: str) -> Any:
    """Load the tokenizer that belongs to a text LLM given as in `omni.weights.resolve`."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(Path(resolve(spec, weights=False).folder))
