"""The shelves of the simulated shop: an outdoor store's categories, brands and words, and texts composed from them.

:class:`~llm4rec.training.simulation.world.World` draws an item's attributes and asks here for its title, description
and price. Every attribute that shapes what users like is named in the text, so a model that reads can know it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Category:
    """One kind of product.

    Attributes:
        noun: what one calls it in a title.
        price: typical price in euros.
        materials: what it may be made of.
        followed_by: nouns of the categories that people come back for after buying it.
        leaning: in [-1, 1], which of the two user groups it is shown to, and liked by, more than the other.
    """

    noun: str
    price: float
    materials: tuple[str, ...]
    followed_by: tuple[str, ...]
    leaning: float

    @property
    def piece(self) -> str:
        """What one buys at a time: `tent`, `pair of socks`."""
        return _piece(self.noun)


def _piece(noun: str) -> str:
    return f"pair of {noun}" if noun.endswith("s") else noun


CATEGORIES = {
    "tents": Category("tent", 240, ("ripstop nylon", "polyester", "cotton canvas"), ("sleeping bag", "lantern"), 0.5),
    "sleeping bags": Category(
        "sleeping bag", 130, ("goose down", "polyester", "merino wool"), ("sleeping mat", "pillow"), 0.0
    ),
    "sleeping mats": Category("sleeping mat", 70, ("polyester", "closed-cell foam"), ("pillow", "camp chair"), -0.5),
    "pillows": Category("pillow", 25, ("polyester", "merino wool", "goose down"), ("lantern", "fleece jacket"), -1.0),
    "lanterns": Category("lantern", 40, ("aluminium", "bamboo", "stainless steel"), ("head torch", "tent"), 0.5),
    "head torches": Category("head torch", 45, ("aluminium", "recycled plastic"), ("trekking poles", "stove"), 1.0),
    "stoves": Category("stove", 75, ("titanium", "stainless steel", "aluminium"), ("cook pot", "knife"), 1.0),
    "cook pots": Category("cook pot", 45, ("titanium", "stainless steel", "aluminium"), ("mug", "stove"), -0.5),
    "mugs": Category("mug", 20, ("titanium", "enamelled steel", "bamboo"), ("water bottle", "camp chair"), -1.0),
    "water bottles": Category(
        "water bottle", 28, ("stainless steel", "recycled plastic", "titanium"), ("backpack", "mug"), -0.5
    ),
    "backpacks": Category("backpack", 150, ("ripstop nylon", "cotton canvas"), ("rain jacket", "water bottle"), 0.0),
    "rain jackets": Category("rain jacket", 160, ("ripstop nylon", "waxed cotton"), ("hiking boots", "hat"), 0.0),
    "fleece jackets": Category("fleece jacket", 90, ("polyester", "merino wool"), ("rain jacket", "hat"), -0.5),
    "hiking boots": Category(
        "hiking boots", 170, ("full-grain leather", "polyester"), ("socks", "trekking poles"), 0.5
    ),
    "socks": Category("socks", 18, ("merino wool", "polyester", "bamboo"), ("hiking boots", "fleece jacket"), -0.5),
    "hats": Category("hat", 30, ("merino wool", "cotton canvas", "waxed cotton"), ("socks", "fleece jacket"), -1.0),
    "trekking poles": Category("trekking poles", 80, ("aluminium", "carbon fibre"), ("backpack", "head torch"), 1.0),
    "camp chairs": Category("camp chair", 60, ("aluminium", "cotton canvas", "bamboo"), ("cook pot", "lantern"), 0.0),
    "knives": Category("knife", 50, ("stainless steel", "titanium"), ("stove", "head torch"), 1.0),
    "first-aid kits": Category("first-aid kit", 35, ("ripstop nylon", "recycled plastic"), ("knife", "socks"), 0.0),
}

MATERIALS = tuple(sorted({material for category in CATEGORIES.values() for material in category.materials}))

STYLES = {
    "ultralight": "Every gram has been weighed twice.",
    "rugged": "Double seams and oversized fittings take years of hard use.",
    "classic": "A shape that has hardly changed in fifty years.",
    "minimalist": "Nothing to adjust, nothing to lose.",
    "colourful": "Bright panels make it easy to find in any camp.",
    "compact": "It packs down to the size of a loaf of bread.",
    "eco-friendly": "Made without fluorocarbons and repairable at home.",
    "luxury": "Small comforts that one misses at once on going back.",
}

USES = {
    "alpine climbing": "above the tree line, where weather turns within minutes",
    "family camping": "for weekends with children, dogs and too much luggage",
    "winter tours": "at ten degrees below zero and in deep snow",
    "bikepacking": "strapped to a frame on gravel roads",
    "beach days": "around salt water, sun and sand",
    "trail running": "when you move fast and carry little",
    "canoe trips": "on lakes and slow rivers, and dry afterwards",
    "city travel": "between trains, hostels and museums",
    "bushcraft": "in the forest, beside an open fire",
    "festivals": "for three days of music and one of mud",
}

BRANDS = (
    "Alderwood", "Bivvy & Sons", "Cairnline", "Driftpeak", "Elkstone", "Fjordhem", "Granite Co", "Highmoor",
    "Ironbark", "Juniper Trail", "Kestrel", "Larkfell", "Moss & Main", "Nordlicht", "Oakhaven", "Pinecrest",
    "Quillback", "Ridgeway", "Stormvik", "Tarnbeck",
)  # fmt: skip

SERIES = (
    "Aster", "Birch", "Comet", "Delta", "Ember", "Falcon", "Glacier", "Harrier", "Indigo", "Jackdaw", "Kodiak",
    "Lynx", "Meridian", "Nimbus", "Otter", "Puffin", "Quartz", "Raven", "Sierra", "Thistle", "Umber", "Vega", "Willow",
    "Zephyr",
)  # fmt: skip


def title(category: str, brand: str, material: str, style: str, series: str, number: int) -> str:
    """A title such as `Fjordhem Lynx 3 ultralight tent, ripstop nylon`."""
    return f"{brand} {series} {number} {style} {CATEGORIES[category].noun}, {material}"


def description(category: str, brand: str, material: str, style: str, use: str, price: float) -> str:
    """Four sentences that name category, brand, material, style, use and price class."""
    kind = CATEGORIES[category]
    ratio = price / kind.price
    worth = "A budget choice" if ratio < 0.75 else "At the upper end of the range" if ratio > 1.35 else "Fairly priced"
    article = "An" if style[0] in "aeiou" else "A"
    return (
        f"{article} {style} {kind.piece} by {brand} in {material}, made for {use}: {USES[use]}. {STYLES[style]} "
        f"{worth} among our {category}. Goes well with a {' or a '.join(map(_piece, kind.followed_by))}."
    )
