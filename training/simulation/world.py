r"""A built-in world whose truth is known: what users were shown, with which probability, and what they like.

It makes the data of the quickstart and of tests, and is the truth against which debiasing is measured: real logs never
tell the propensity and the preference behind them.

The generative model. An item i has attributes (category, material, style, use, brand, price), and

.. math:: q_i = \sum_a w_a v_{a, \mathrm{value}_a(i)} + w_\mathrm{id} \, \varepsilon_i

is its place in taste space: one standard normal vector v for every attribute value, the weights `TASTE_WEIGHTS` with
squares that sum to 1, and a part :math:`\varepsilon_i` that no attribute tells. A user u visits the shop in sessions
s = 1, 2, …; its taste drifts between them and stays standard normal,

.. math:: p_{u,s+1} = \sqrt{1 - d^2} \, p_{u,s} + d \, \xi_{u,s}

with d = `taste_drift`. In a session the shop fills the slots of a slate, each independently of all others, with item i
with probability

.. math:: e_{ui} = \frac{\mathrm{pop}_i^{\gamma} \exp(\delta g_u l_i)}
                        {\sum_j \mathrm{pop}_j^{\gamma} \exp(\delta g_u l_j)}

the **propensity**: :math:`\mathrm{pop}_i` = rank^(-`popularity_exponent`) is the item's popularity, γ =
`popularity_confounding`, :math:`g_u = \pm 1` the user's group, :math:`l_i` the leaning of the item's category and δ =
`demographic_confounding`. With `popularity_drift` the ranks move from one of
`popularity_periods` stretches of the log to the next, while what people like stays: fashions of the shop. A slot that
draws an item before its release stays empty. The user looks at the slots one after another and takes item i with
probability

.. math:: r_{ui} = \sigma(b + \tau \langle p_{u,s}, q_i \rangle / \sqrt{D} - c_u z_i + \eta y_i + \lambda g_u l_i
                          + \beta \, [\mathrm{cat}(i) \text{ follows } \mathrm{cat}(\mathrm{last}_u)])

the **relevance**; it is 0 for items that the user already has (unless `buys_again`) and for items not yet released. z
is the standardised log price, c the user's price sensitivity, y the item's quality, which also raises its popularity
rank (so popularity confounds), and "follows" the complement relation of the shop: after a tent, a sleeping bag. The
first item taken ends the session (the cascade model of Craswell et al., WSDM 2008). Hence, exactly:

- a slot that was looked at shows i with probability :math:`e_{ui}`, and is taken with :math:`e_{ui} r_{ui}`;
- the item of the user's next interaction is i with probability :math:`e_{ui} r_{ui} / \sum_j e_{uj} r_{uj}`.

A taken item is rated: with x the argument of σ above and standard normal noise n,

.. math:: \mathrm{rating} = \min(5, \max(1, \mathrm{round}(4 + 0.4 x + 0.5 n)))
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import expit, logit, ndtr

from ...configuration.schema import DataSchema, InteractionSchema, ItemSchema, ModalitySchema, UserSchema
from ..data.prepared import Interactions, PreparedData, write_prepared
from . import item_texts
from .checks import check_ranges, events_about_to_happen

TASTE_WEIGHTS = {"category": 0.6, "style": 0.45, "use": 0.45, "brand": 0.35, "material": 0.25, "id": 0.2345}
"""Share of each attribute in an item's taste vector, `id` for what no attribute tells; the squares sum to 1."""

GROUPS = ("A", "B")
AGE_GROUPS = ("18-29", "30-44", "45-64", "65+")
AGE_PRICE_SENSITIVITY = (1.0, 0.6, 0.3, 0.6)

START = 1_704_067_200
"""First moment of the log, 2024-01-01 in unix seconds."""

RATING_CENTRE, RATING_SLOPE, RATING_NOISE = 4.0, 0.4, 0.5


@dataclass(frozen=True)
class WorldConfig:
    """What a world is made of. The same configuration gives the same world, byte for byte.

    Args:
        users: number of users.
        items: number of items.
        sessions: mean number of sessions of a user; about two of three end with an interaction.
        slate_size: slots per session.
        days: length of the log.
        new_items: share of items released at uniformly random times of the log; the others are there at its start.
        popularity_confounding: γ, exponent of popularity in the exposure; 0 shows all items alike.
        popularity_exponent: decay of popularity with rank; 1 is Zipf's law.
        popularity_periods: stretches of equal length into which the log is cut.
        popularity_drift: d in [0, 1], share of a new score behind the popularity rank in every further period.
        popularity_from_quality: correlation, in [-1, 1], of quality with the score that sets the popularity rank.
        demographic_confounding: δ, how strongly the group steers what is shown; 0 shows both groups the same.
        demographic_preference: λ, how strongly the groups really differ in what they like.
        base_logit: b, relevance of an average item as a logit.
        taste_dimensions: D, dimensions of taste space.
        taste_strength: τ, standard deviation of the logit over items that taste causes.
        taste_drift: d in [0, 1], share of a new taste in every session; 0 keeps tastes fixed.
        quality_strength: η, effect of one standard deviation of quality on the logit.
        complement_strength: β, what following on the last item adds to the logit; 0 makes order meaningless.
        buys_again: whether a user may take an item twice. With `taste_drift=0, complement_strength=0` and this true,
            relevance is one fixed number per user and item.
        seed: of everything random.

    Raises:
        ValueError: if a value is outside its range.
    """

    users: int = 2_000
    items: int = 600
    sessions: float = 32.0
    slate_size: int = 40
    days: int = 730
    new_items: float = 0.1
    popularity_confounding: float = 0.5
    popularity_exponent: float = 0.8
    popularity_periods: int = 1
    popularity_drift: float = 0.0
    popularity_from_quality: float = 0.3
    demographic_confounding: float = 0.5
    demographic_preference: float = 0.3
    base_logit: float = -7.0
    taste_dimensions: int = 12
    taste_strength: float = 3.0
    taste_drift: float = 0.15
    quality_strength: float = 0.3
    complement_strength: float = 4.0
    buys_again: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "users": (1, np.inf), "items": (2, np.inf), "sessions": (1, np.inf), "slate_size": (1, np.inf),
            "days": (1, np.inf), "new_items": (0, 1), "popularity_confounding": (0, np.inf),
            "popularity_exponent": (0, np.inf), "popularity_from_quality": (-1, 1),
            "popularity_periods": (1, np.inf), "popularity_drift": (0, 1),
            "taste_dimensions": (1, np.inf), "taste_drift": (0, 1), "seed": (0, np.inf),
        }  # fmt: skip
        everything = {field.name: (-np.inf, np.inf) for field in fields(self)}
        check_ranges(self, everything | ranges)


@dataclass
class ExposureLog:
    """Slots that users looked at, one row a slot.

    Shape (all (rows,)):
        - users, items: int32 indices
        - timestamps: int64 unix seconds
        - taken: bool
        - ratings: float32, NaN where not taken
        - propensity: float64, true probability that this slot showed this item
        - relevance: float64, true probability that the user takes the item once shown
    """

    users: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray
    taken: np.ndarray
    ratings: np.ndarray
    propensity: np.ndarray
    relevance: np.ndarray

    def __len__(self) -> int:
        return len(self.users)


class World:
    """A shop, its visitors and everything that happened between them, made when the object is.

    Memory and time grow with users × items (one byte each while it is made) and with sessions × slate_size.

    Args:
        config: what to make; the defaults give about 40,000 interactions.

    Attributes:
        items: the catalog: `item_id title description category brand price` and what the data does not tell a model:
            `material style use popularity quality released_at`.
        users: `user_id age_group group`, and `price_sensitivity`, which the data does not tell.
        interactions: what users took, the log that a recommender learns from.
        popularity: (periods, items) float64, pop of each item in each period; the catalog holds that of the last.
        period_starts: (periods,) int64 unix seconds.
        exposures: every slot that was looked at, by user and then time, with true propensity and relevance.
    """

    def __init__(self, config: WorldConfig | None = None) -> None:
        self.config = config = config or WorldConfig()
        for_items, for_users, for_log, for_fashions = np.random.default_rng(config.seed).spawn(4)
        self._make_items(for_items, for_fashions)
        self._make_users(for_users)
        self._make_log(for_log)

    def propensity(self, users: np.ndarray | int, timestamps: np.ndarray | int | None = None) -> np.ndarray:
        """e: probability that a slot shown to the user draws each item.

        It is the same in all sessions of a period. Items not yet released keep theirs: the slot stays empty.

        Args:
            users: (n,) user indices, or one.
            timestamps: (n,) unix seconds, or one; by default the end of the log.

        Shape:
            - returns: (n, items) float64, rows sum to 1; (items,) for one user
        """
        periods = -1 if timestamps is None else self.period_of(timestamps)
        return self._propensity[periods, self._group[users]]

    def period_of(self, timestamps: np.ndarray | int) -> np.ndarray:
        """Which period each time (unix seconds) lies in, the same shape."""
        return np.maximum(np.searchsorted(self.period_starts, timestamps, side="right") - 1, 0)

    @property
    def propensities(self) -> np.ndarray:
        """(users, items) float64, :meth:`propensity` of all users at the end of the log."""
        return self.propensity(np.arange(self.config.users))

    def relevance(self, users: np.ndarray | int, events: np.ndarray | int | None = None) -> np.ndarray:
        """r: probability that the user takes each item when shown it, at one moment of its history.

        Args:
            users: (n,) user indices, or one.
            events: (n,) which interaction (0-based) is about to happen; as many as the user has, or `None`: now, at
                the end of the log, with the taste of the last session. Items that the user already has at that
                moment (unless `buys_again`), or that are not yet released, have relevance 0.

        Shape:
            - returns: (n, items) float64 in [0, 1); (items,) for one user

        Raises:
            IndexError: if a user has fewer interactions than asked for.
        """
        rows, events = events_about_to_happen(self.interactions, users, events)
        lengths = self.interactions.lengths[rows]
        first = self.interactions.offsets[rows]
        sessions = self._session_offsets[rows + 1] - 1
        sessions[events < lengths] = self._event_sessions[(first + events)[events < lengths]]
        last = np.full(len(rows), -1)
        last[events > 0] = self.interactions.items[(first + events - 1)[events > 0]]
        moments = np.where(events < lengths, self._session_times[sessions], self._end)
        available = self._released_at <= moments[:, None]
        if not self.config.buys_again:
            owned = self.interactions.take(rows, first=events)
            available[np.repeat(np.arange(len(rows)), owned.lengths), owned.items] = False
        every_item = np.broadcast_to(np.arange(self.config.items), available.shape)
        relevance = expit(self._logits(rows, self._session_tastes[sessions], last, every_item)) * available
        return relevance if np.ndim(users) else relevance[0]

    def expected_rating(self, relevance: np.ndarray) -> np.ndarray:
        """Mean rating of a taken item whose relevance was this; same shape as `relevance`, in [1, 5]."""
        centre = RATING_CENTRE + RATING_SLOPE * logit(relevance)
        return 1 + sum(ndtr((centre - threshold) / RATING_NOISE) for threshold in (1.5, 2.5, 3.5, 4.5))

    def random_exposure(self, n: int, seed: int = 0) -> ExposureLog:
        """An unbiased log: uniformly random items shown to uniformly random users, now, one after another.

        Nothing that is taken here changes a user: every row meets the state at the end of the log.

        Args:
            n: number of rows.
            seed: of the draw; together with the world's own.
        """
        generator = np.random.default_rng([self.config.seed, 1, seed])
        users = generator.integers(self.config.users, size=n)
        items = generator.integers(self.config.items, size=n)
        relevance = np.empty(n)
        for block in np.array_split(np.argsort(users, kind="stable"), max(1, n // 2_000)):
            distinct, place = np.unique(users[block], return_inverse=True)
            relevance[block] = self.relevance(distinct)[place, items[block]]
        taken = generator.random(n) < relevance
        return ExposureLog(
            users=users.astype(np.int32),
            items=items.astype(np.int32),
            timestamps=self._end + np.arange(n),
            taken=taken,
            ratings=_rate(relevance, taken, generator),
            propensity=np.full(n, 1 / self.config.items),
            relevance=relevance,
        )

    def prepared(self, folder: str | Path, overwrite: bool = False, with_propensities: bool = False) -> PreparedData:
        """Write the world's log as a prepared data set and load it; ground truth stays behind.

        Row numbers of the catalog and of the users are the world's indices.

        Args:
            with_propensities: the shop logged with which probability a slot showed the item that was taken.

        Raises:
            FileExistsError: if `folder` exists and `overwrite` is false.
        """
        log = self.interactions
        users = np.repeat(np.arange(log.num_users), log.lengths)
        interactions = pl.DataFrame(
            {
                "user_id": self.users["user_id"].gather(users),
                "item_id": self.items["item_id"].gather(log.items),
                "position": (np.arange(len(users)) - log.offsets[users]).astype(np.int32),
                "timestamp": log.timestamps,
                "rating": log.ratings,
            }
        )
        if with_propensities:
            interactions = interactions.with_columns(
                propensity=pl.Series(self.exposures.propensity[self.exposures.taken])
            )
        items = self.items.select(
            "item_id", "title", "description", pl.concat_list("category"), pl.concat_list("brand"), "price"
        )
        kinds = {"title": "text", "description": "text", "category": "categorical", "brand": "categorical"}
        schema = DataSchema(
            interactions=InteractionSchema(
                time="timestamp", rating="rating", propensity="propensity" if with_propensities else None
            ),
            items=ItemSchema(
                title="title",
                modalities={name: ModalitySchema(kind) for name, kind in {**kinds, "price": "numerical"}.items()},
            ),
            users=UserSchema(path="users.parquet", attributes=["age_group"], sensitive=["group"]),
            source="simulation",
        )
        stats = {
            "source": "simulation",
            "seed": self.config.seed,
            "users": log.num_users,
            "items": log.num_items,
            "interactions": len(users),
            "exposures": len(self.exposures),
        }
        people = self.users.select("user_id", "age_group", "group")
        write_prepared(folder, interactions, items, people, schema, stats, overwrite)
        return PreparedData.load(folder)

    def _make_items(self, generator: np.random.Generator, for_fashions: np.random.Generator) -> None:
        config, n = self.config, self.config.items
        names = list(item_texts.CATEGORIES)
        kinds = list(item_texts.CATEGORIES.values())
        category = generator.permutation(np.arange(n) % len(names))
        style = generator.integers(len(item_texts.STYLES), size=n)
        use = generator.integers(len(item_texts.USES), size=n)
        brand = generator.integers(len(item_texts.BRANDS), size=n)
        material = np.array(
            [item_texts.MATERIALS.index(str(generator.choice(kinds[kind].materials))) for kind in category]
        )
        series = generator.integers(len(item_texts.SERIES), size=n)
        number = generator.integers(1, 10, size=n)

        brand_level = generator.normal(0, 0.25, size=len(item_texts.BRANDS))
        typical = np.array([kind.price for kind in kinds])[category]
        price = np.round(typical * np.exp(brand_level[brand] + generator.normal(0, 0.25, size=n)), 2)
        self._price = _standardised(np.log(price))

        self._quality = generator.normal(size=n)
        rho = config.popularity_from_quality
        fashion = generator.normal(size=n)
        self.popularity = np.empty((config.popularity_periods, n))
        for period in range(config.popularity_periods):
            if period:
                drift = config.popularity_drift
                fashion = np.sqrt(1 - drift**2) * fashion + drift * for_fashions.normal(size=n)
            rank = np.argsort(np.argsort(-(rho * self._quality + np.sqrt(1 - rho**2) * fashion))) + 1
            self.popularity[period] = rank ** -float(config.popularity_exponent)
        new = generator.random(n) < config.new_items
        self._end = START + config.days * 86_400
        self.period_starts = np.linspace(START, self._end, config.popularity_periods, endpoint=False).astype(np.int64)
        self._released_at = np.where(new, generator.integers(START, self._end, size=n), START - 86_400)

        values = {"category": category, "style": style, "use": use, "brand": brand, "material": material}
        size = (n, config.taste_dimensions)
        self._item_tastes = TASTE_WEIGHTS["id"] * generator.normal(size=size)
        for attribute, value in values.items():
            vectors = generator.normal(size=(value.max() + 1, config.taste_dimensions))
            self._item_tastes += TASTE_WEIGHTS[attribute] * vectors[value]

        self._category = category
        self._leaning = np.array([kind.leaning for kind in kinds])[category]
        self._follows = np.array([[after.noun in kind.followed_by for after in kinds] for kind in kinds])
        leaning = np.exp(config.demographic_confounding * np.array([[-1.0], [1.0]]) * self._leaning)
        weights = self.popularity[:, None, :] ** config.popularity_confounding * leaning
        self._propensity = weights / weights.sum(axis=2, keepdims=True)

        words = [
            {
                "category": names[category[i]],
                "brand": item_texts.BRANDS[brand[i]],
                "material": item_texts.MATERIALS[material[i]],
                "style": list(item_texts.STYLES)[style[i]],
                "use": list(item_texts.USES)[use[i]],
            }
            for i in range(n)
        ]
        shown = [{key: word[key] for key in ("category", "brand", "material", "style")} for word in words]
        self.items = pl.DataFrame(
            {
                "item_id": [f"item-{i:0{max(4, len(str(n - 1)))}d}" for i in range(n)],
                "title": [
                    item_texts.title(**shown[i], series=item_texts.SERIES[series[i]], number=int(number[i]))
                    for i in range(n)
                ],
                "description": [item_texts.description(**words[i], price=float(price[i])) for i in range(n)],
                **{key: [word[key] for word in words] for key in ("category", "brand")},
                "price": price,
                **{key: [word[key] for word in words] for key in ("material", "style", "use")},
                "popularity": self.popularity[-1],
                "quality": self._quality,
                "released_at": self._released_at,
            }
        )

    def _make_users(self, generator: np.random.Generator) -> None:
        n = self.config.users
        self._group = generator.integers(2, size=n)
        age = generator.integers(len(AGE_GROUPS), size=n)
        self._price_sensitivity = np.array(AGE_PRICE_SENSITIVITY)[age] + generator.normal(0, 0.3, size=n)
        self.users = pl.DataFrame(
            {
                "user_id": [f"user-{u:0{max(4, len(str(n - 1)))}d}" for u in range(n)],
                "age_group": [AGE_GROUPS[a] for a in age],
                "group": [GROUPS[g] for g in self._group],
                "price_sensitivity": self._price_sensitivity,
            }
        )

    def _make_log(self, generator: np.random.Generator) -> None:
        """Play all sessions: the s-th session of all users who have one, at once, for s = 0, 1, …"""
        config = self.config
        counts = 1 + np.floor(generator.gamma(2.0, (config.sessions - 1) / 2.0, size=config.users)).astype(np.int64)
        self._session_offsets = np.concatenate([[0], np.cumsum(counts)])
        self._session_times = self._draw_times(counts, generator)
        self._session_tastes = np.empty((self._session_offsets[-1], config.taste_dimensions))

        taste = generator.normal(size=(config.users, config.taste_dimensions))
        last = np.full(config.users, -1)
        owned = np.zeros((config.users, config.items), dtype=bool)
        cumulative = np.cumsum(self._propensity, axis=2)
        cumulative[:, :, -1] = 1.0
        parts = []
        for step in range(counts.max()):
            users = np.flatnonzero(counts > step)
            sessions = self._session_offsets[users] + step
            drift = config.taste_drift if step else 0.0
            novelty = generator.normal(size=(len(users), config.taste_dimensions))
            taste[users] = np.sqrt(1 - drift**2) * taste[users] + drift * novelty
            self._session_tastes[sessions] = taste[users]

            laws = len(GROUPS) * self.period_of(self._session_times[sessions]) + self._group[users]
            slate = _draw_items(cumulative.reshape(-1, config.items), laws, config.slate_size, generator)
            relevance = expit(self._logits(users, taste[users], last[users], slate))
            shown = self._released_at[slate] <= self._session_times[sessions][:, None]
            if not config.buys_again:
                relevance *= ~owned[users[:, None], slate]
            taken = shown & (generator.random(slate.shape) < relevance)
            looked_at = shown & (np.cumsum(taken, axis=1) - taken == 0)
            taken &= looked_at

            row, slot = np.nonzero(looked_at)
            parts.append((sessions[row], users[row], slate[row, slot], taken[row, slot], relevance[row, slot]))
            buyers, slot = np.nonzero(taken)
            last[users[buyers]] = slate[buyers, slot]
            owned[users[buyers], slate[buyers, slot]] = True

        sessions, users, items, taken, relevance = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.argsort(sessions, kind="stable")
        sessions, users, items, taken, relevance = (x[order] for x in (sessions, users, items, taken, relevance))
        self.exposures = ExposureLog(
            users=users.astype(np.int32),
            items=items.astype(np.int32),
            timestamps=self._session_times[sessions],
            taken=taken,
            ratings=_rate(relevance, taken, generator),
            propensity=self._propensity[self.period_of(self._session_times[sessions]), self._group[users], items],
            relevance=relevance,
        )
        self._event_sessions = sessions[taken]
        events_per_user = np.bincount(users[taken], minlength=config.users)
        self.interactions = Interactions(
            offsets=np.concatenate([[0], np.cumsum(events_per_user)]).astype(np.int64),
            items=self.exposures.items[taken],
            num_items=config.items,
            ratings=self.exposures.ratings[taken],
            timestamps=self.exposures.timestamps[taken],
        )

    def _draw_times(self, counts: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """(sessions,) int64: a user's sessions are spread uniformly from its first day to the end of the log."""
        length = self._end - START
        joined = np.repeat(generator.random(len(counts)) * 0.6, counts)
        users = np.repeat(np.arange(len(counts)), counts)
        place = joined + (1 - joined) * generator.random(len(users))
        return START + (place[np.lexsort((place, users))] * (length - 1)).astype(np.int64)

    def _logits(self, users: np.ndarray, tastes: np.ndarray, last: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Argument of σ in the relevance, (n, slots), for items (n, slots) and users in the given states."""
        config = self.config
        affinity = np.einsum("nd,nsd->ns", tastes, self._item_tastes[items]) / np.sqrt(config.taste_dimensions)
        follows = self._follows[self._category[last]][np.arange(len(last))[:, None], self._category[items]]
        side = 2.0 * self._group[users, None] - 1
        return (
            config.base_logit
            + config.taste_strength * affinity
            - self._price_sensitivity[users, None] * self._price[items]
            + config.quality_strength * self._quality[items]
            + config.demographic_preference * side * self._leaning[items]
            + config.complement_strength * (follows & (last >= 0)[:, None])
        )


def _draw_items(cumulative: np.ndarray, laws: np.ndarray, slots: int, generator: np.random.Generator) -> np.ndarray:
    """(n, slots) items drawn independently with the cumulative probabilities (laws, items) of each row's law."""
    uniform = generator.random((len(laws), slots))
    slate = np.empty(uniform.shape, dtype=np.int64)
    for law, bounds in enumerate(cumulative):
        slate[laws == law] = np.searchsorted(bounds, uniform[laws == law], side="right")
    return slate


def _rate(relevance: np.ndarray, taken: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(rows,) float32 ratings of the rows that were taken, NaN elsewhere."""
    noise = generator.normal(size=len(relevance))
    exact = RATING_CENTRE + RATING_SLOPE * logit(relevance[taken]) + RATING_NOISE * noise[taken]
    ratings = np.full(len(relevance), np.nan, dtype=np.float32)
    ratings[taken] = np.clip(np.round(exact), 1, 5)
    return ratings


def _standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / max(values.std(), 1e-12)
