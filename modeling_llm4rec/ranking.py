"""Ranking: from histories to scores of the whole catalog, and to the best items.

`LLM4RecForCausalLM` inherits :class:`RankingMixin`: encode the history, read the memory, score, correct, rank.
"""

from __future__ import annotations

import torch
from transformers.utils import is_faiss_available

from .configuration_llm4rec import LLM4RecConfig
from .next_item_loss import ItemRows
from .popularity_prior import PopularityBias
from .recommendation import (
    MAX_SCORES_AT_ONCE,
    RecommendOutput,
    candidate_mask,
    exclude,
    exclude_seen,
    mask_rows,
    top_k,
)
from .retrieval import Conditioned

CANDIDATES_PER_ITEM = 10
"""Candidates that the approximate index finds for each item that is asked for."""


class RankingMixin:
    """How a recommender ranks its catalog for histories."""

    config: LLM4RecConfig

    @torch.no_grad()
    def recommend(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        rating_ids: torch.LongTensor | None = None,
        time_gap_ids: torch.LongTensor | None = None,
        seen_items: torch.LongTensor | None = None,
        *,
        k: int = 10,
        filter_seen: bool = True,
        allow: torch.Tensor | None = None,
        deny: torch.Tensor | None = None,
        exact: bool | None = None,
        retrieval: bool = True,
        popularity: float | torch.Tensor | None = None,
        request_time: torch.LongTensor | None = None,
        explain: bool = False,
    ) -> RecommendOutput:
        """The k best items for each history, in one forward pass.

        Args:
            input_ids, attention_mask, rating_ids, time_gap_ids, seen_items: from
                `processor(histories=…, return_tensors="pt")`. `seen_items` (batch, n) item indices, -1 for padding, is
                there when histories were longer than the model reads; by default the items in `input_ids` are seen.
            k: items per user.
            filter_seen: leave out items of the user's history.
            allow, deny: bool masks (items,) or (batch, items): stock, category, region.
            exact: score every item; false: only those that an approximate index finds (`model.item_index()`), whose
                scores are exact all the same. By default the index serves catalogs above `config.max_exact_items`
                where faiss is installed; masks, `filter_seen=False` and `popularity` always score every item.
            retrieval: ask the memory, where the model has one.
            popularity: γ′, weight of log popularity in the scores, a number or (batch,): 0 recommends as if popularity
                had no hand in it, more puts it in, less than 0 goes against it; by default
                `config.popularity.serving_strength`. Needs a model with a popularity prior.
            request_time: (batch,) unix seconds now, for the decay of the memory's entries and for popularity; by
                default unknown, and popularity the latest.
            explain: also say why, see `explain`; costs about as much as a handful of recommendations.

        Returns:
            [`RecommendOutput`] with `items` and `scores`, both (batch, k), and `explanations` if asked for.

        Raises:
            ImportError: with `exact=False` without faiss.
            ValueError: if `k` is not positive, a mask has the wrong shape, `exact=False` is asked for together with
                masks, `filter_seen=False` or `popularity`, or `popularity` of a model without a popularity prior.
        """
        if k < 1:
            raise ValueError(f"recommend got k={k}, expected at least 1.")
        batch = len(input_ids)
        allow = candidate_mask(allow, batch, self.num_items, "allow")
        deny = candidate_mask(deny, batch, self.num_items, "deny")
        seen = self._seen(input_ids, seen_items)
        bias = self._popularity_bias(popularity, request_time, batch)
        every_item_counts = allow is not None or deny is not None or not filter_seen or bias is not None
        if exact is False and every_item_counts:
            raise ValueError(
                "recommend got exact=False with a mask, filter_seen=False or popularity. The index does not know "
                "which items may be recommended or how popular they are; leave `exact` out."
            )
        if exact is None:
            exact = every_item_counts or self.num_items <= self.config.max_exact_items or not is_faiss_available()
        was_training = self.training
        if was_training:
            self.eval()
        table = self.model.item_table()
        states = self.user_states(input_ids, attention_mask, rating_ids, time_gap_ids, item_rows=ItemRows(table))
        context = self.retrieve(states, input_ids, request_time) if retrieval else None
        read = self.condition(states, table, context)
        if exact:
            parts = []
            for rows in torch.arange(batch).split(max(1, MAX_SCORES_AT_ONCE // self.num_items)):
                scores = self._scores(read.rows(rows), table, input_ids[rows])
                if bias is not None:
                    scores = scores + bias.rows(rows)
                scores = exclude(scores, mask_rows(allow, rows), mask_rows(deny, rows))
                if filter_seen:
                    scores = exclude_seen(scores, seen[rows])
                parts.append(top_k(scores, k))
            items, scores = (torch.cat([getattr(part, name) for part in parts]) for name in ("items", "scores"))
            best = RecommendOutput(items, scores, context)
        else:
            found = self.model.item_index().search(read.states, CANDIDATES_PER_ITEM * k + seen.shape[1])
            best = self._best_of(found, read, table, seen, k)
        if explain:
            best.explanations = self.explain(
                input_ids,
                attention_mask,
                rating_ids,
                time_gap_ids,
                seen_items,
                items=best.items,
                filter_seen=filter_seen,
                allow=allow,
                deny=deny,
                retrieval=retrieval,
                popularity=popularity,
                request_time=request_time,
                states=states,
            )
        if was_training:
            self.train()
        return best

    def _seen(self, input_ids: torch.Tensor, seen_items: torch.Tensor | None) -> torch.Tensor:
        """(batch, n) seen items, -1 for none: those that were given, else those that the model reads."""
        return (input_ids - self.config.text_vocab_size).clamp(min=-1) if seen_items is None else seen_items

    def _best_of(
        self, found: torch.Tensor, read: Conditioned, table: torch.Tensor, seen: torch.Tensor, k: int
    ) -> RecommendOutput:
        """The k best unseen items among the candidates `found` (batch, n), -1 for none, and what was retrieved."""
        if read.context is not None:
            retrieved = read.context.items.flatten(1).sort(dim=1).values
            again = torch.zeros_like(retrieved, dtype=torch.bool)
            again[:, 1:] = retrieved[:, 1:] == retrieved[:, :-1]
            again |= (retrieved[:, :, None] == found[:, None, :]).any(-1)
            found = torch.cat([found, retrieved.masked_fill(again, -1)], dim=1)
        states = read.states
        scores = torch.bmm(table[found.clamp(min=0)].to(states.dtype), states.unsqueeze(-1)).squeeze(-1).float()
        scores = self._with_new_item_bonus(read.add_to_candidates(scores, found), found)
        left_out = (found < 0) | (found[:, :, None] == seen[:, None, :]).any(-1)
        best = top_k(scores.masked_fill(left_out, float("-inf")), k)
        items = found.gather(1, best.items.clamp(min=0)).masked_fill(best.items < 0, -1)
        return RecommendOutput(items, best.scores, read.context)

    def user_states(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        rating_ids: torch.LongTensor | None = None,
        time_gap_ids: torch.LongTensor | None = None,
        item_rows: ItemRows | None = None,
    ) -> torch.Tensor:
        """(batch, hidden) state after the last token of each history, wherever the padding stands.

        Args:
            item_rows: item embeddings that are computed already.
        """
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            rating_ids=rating_ids,
            time_gap_ids=time_gap_ids,
            item_rows=item_rows,
            use_cache=False,
        )
        return self.last_states(outputs.last_hidden_state, attention_mask)

    @staticmethod
    def last_states(states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """States (batch, hidden) of the last tokens among states (batch, length, hidden)."""
        if attention_mask is None:
            return states[:, -1]
        positions = torch.arange(states.shape[1], device=states.device)
        last = (attention_mask.long() * positions).argmax(-1)
        return states[torch.arange(len(states), device=states.device), last]

    def score_items(
        self,
        input_ids: torch.LongTensor,
        *,
        retrieval: bool = True,
        popularity: float | torch.Tensor | None = None,
        request_time: torch.LongTensor | None = None,
        **batch: torch.Tensor,
    ) -> torch.Tensor:
        """(batch, items) float32 scores of the whole catalog: `recommend` before any item is left out."""
        batch.pop("seen_items", None)
        bias = self._popularity_bias(popularity, request_time, len(input_ids))
        table = self.model.item_table()
        states = self.user_states(input_ids, item_rows=ItemRows(table), **batch)
        context = self.retrieve(states, input_ids, request_time) if retrieval else None
        scores = self._scores(self.condition(states, table, context), table, input_ids)
        return scores if bias is None else scores + bias.rows(slice(None))

    def _popularity_bias(
        self, popularity: float | torch.Tensor | None, request_time: torch.Tensor | None, batch: int
    ) -> PopularityBias | None:
        """What γ′ adds to the scores of requests at these times; `None` where it is 0.

        Raises:
            ValueError: if `popularity` is not finite, has another length, or the model has no popularity prior.
        """
        prior = self.model.popularity_prior
        if prior is None:
            if popularity is not None:
                raise ValueError(
                    f"popularity={popularity!r} needs a model with a popularity prior. Train one with "
                    "debiasing.popularity=learned."
                )
            return None
        given = self.config.popularity.serving_strength if popularity is None else popularity
        strength = torch.as_tensor(given, dtype=torch.float32, device=self.device)
        if strength.shape not in {(), (batch,)} or not torch.isfinite(strength).all():
            raise ValueError(
                f"popularity={popularity!r}: expected a finite number, or one for each of the {batch} users."
            )
        if not strength.any():
            return None
        periods = prior.latest(batch) if request_time is None else prior.periods_of(request_time.to(self.device))
        return PopularityBias(prior, strength.expand(batch), periods)

    def _with_popularity(self, items: torch.Tensor, request_time: torch.Tensor | None) -> torch.Tensor:
        """Item logits (batch, length, items) with the popularity that serving adds."""
        bias = self._popularity_bias(None, request_time, len(items))
        return items if bias is None else items + bias.rows(slice(None)).unsqueeze(1).to(items.dtype)

    def _scores(
        self, read: Conditioned, table: torch.Tensor, input_ids: torch.Tensor, new_item_bonus: bool = True
    ) -> torch.Tensor:
        """Scores (batch, items) of conditioned user states; of new items with their bonus, unless it is left out."""
        predicts = torch.zeros_like(input_ids, dtype=torch.bool)
        predicts[:, -1] = True  # padding on the right holds no items, so the last place sees the whole history
        own = (read.states @ table.to(read.states.dtype).T).float()
        scores = read.add_to(self._with_repeat_bias(own, input_ids, predicts))
        return self._with_new_item_bonus(scores) if new_item_bonus else scores

    def _with_new_item_bonus(self, scores: torch.Tensor, candidates: torch.Tensor | None = None) -> torch.Tensor:
        """Scores (…, items), or of `candidates` (batch, n), with what `config.new_item_bonus` gives to new items."""
        new = self.model.item_embedding.new_items() if self.config.new_item_bonus else None
        if new is None:
            return scores
        bonus = self.config.new_item_bonus * new.to(scores.dtype)
        return scores + (bonus if candidates is None else bonus[candidates.clamp(min=0)])

    def _with_repeat_bias(self, scores: torch.Tensor, input_ids: torch.Tensor, predicts: torch.Tensor) -> torch.Tensor:
        """Scores (predictions, items) with the bias of items in the history."""
        bias = self._repeat_bias(input_ids, predicts)
        if bias is None:
            return scores
        return scores.index_put((bias.rows, bias.items), bias.values.to(scores.dtype), accumulate=True)


__all__ = ["RankingMixin"]
