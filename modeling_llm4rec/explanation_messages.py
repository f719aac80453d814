"""Messages of explanations in every language; `explanation_text.py` fills them in.

A language is a dictionary with the keys of English. What stands in braces is filled with names and numbers of the
evidence. Add one with `MESSAGES["xx"] = {...}`.
"""

from __future__ import annotations

ENGLISH = {
    # The marks around a name, what joins a list, and a decimal point.
    "quote": "“{name}”",
    "comma": ", ",
    "and": "{first} and {last}",
    "decimal": ".",
    "many": "more than {number}",
    # How sure: twice, 1.25 times, 1.05 times as likely.
    "decisive": "mainly {reasons}",
    "clear": "partly {reasons}",
    "slight": "a little {reasons}",
    # Reasons.
    "history": "because you chose {titles}",
    "attribute": "because it shares {value} ({attribute}) with {titles}",
    "word": "because its {attribute} mentions {value} like {titles}",
    "more_items": "{count} more of your items",
    "one_more_item": "one more of your items",
    "modality_id": "because of the choices of other people",
    "modality": "because of its {modality}",
    "retrieved_transitions": "because it is often chosen after items of your history",
    "retrieved_behaviour": "because people with a history like yours chose it",
    "retrieved_metadata": "because it is described like items of your history",
    "popular": "because it is popular",
    "little_known": "because it is little known and such items are favoured here",
    "new_item": "because it is new and new items are favoured here",
    # What a reason is called.
    "name_history": "{title}",
    "name_attribute": "{value} ({attribute})",
    "name_word": "the word {value} in its {attribute}",
    "name_modality_id": "the choices of other people",
    "name_modality": "its {modality}",
    "name_retrieved_transitions": "what others chose after items of your history",
    "name_retrieved_behaviour": "what people with a history like yours chose",
    "name_retrieved_metadata": "the descriptions of items of your history",
    "name_popularity": "the weight of popularity",
    "name_new_item": "the weight of new items",
    # Sentences.
    "recommended": "{title} is recommended {reasons}.",
    "ranked": "{title} stands at place {rank}, and not lower, {reasons}.",
    "recommended_without_reason": "{title} is recommended, but no single reason stands out.",
    "ranked_without_reason": "{title} stands at place {rank}; no single reason speaks for it.",
    "recommended_to_a_stranger": "{title} is recommended {reasons}; nothing is known of you yet.",
    "recommended_to_a_stranger_without_reason": "{title} is recommended to anybody of whom nothing is known yet.",
    "seen": "{title} is left out because it is in your history already.",
    "denied": "{title} is left out because it was denied.",
    "not allowed": "{title} is left out because it is not among the allowed items.",
    "without": "Without {name} it would be {factor} times less likely and stand at place {rank}.",
    "without_same": "Without {name} it would be {factor} times less likely and still stand at place {rank}.",
    "against": "What counts against it is {name}: without that {title} would be {factor} times as likely.",
    "without_history": "Without your history it would stand at place {rank}.",
    "partial_history": "Of the {items} items of your history, {measured} were examined.",
    "rather": "{title} rather than {other} {reasons}.",
    "rather_without_reason": "{title} rather than {other}, though no single reason tells them apart.",
    "history_contrast": "because you chose {titles}, which counts {factor} times more for it",
    "mostly_popular": "{title} is recommended mostly because it is popular: without the weight of popularity it would "
    "stand at place {rank}.",
    "mostly_new": "{title} is recommended mostly because it is new: without the weight of new items it would stand at "
    "place {rank}.",
    "mostly_impersonal": "{title} has little to do with you: without your history it would stand at place {rank}.",
    "mostly_personal": "{title} depends on your history: without it, it would stand at place {rank}.",
    "strongest_alone": "The strongest single reason, {name}, makes it only {factor} times as likely.",
    "stranger": "{title} is not about you: nothing is known of you yet.",
}

GERMAN = {
    "quote": "„{name}“",
    "comma": ", ",
    "and": "{first} und {last}",
    "decimal": ",",
    "many": "über {number}",
    "decisive": "vor allem {reasons}",
    "clear": "teils {reasons}",
    "slight": "ein wenig auch {reasons}",
    "history": "weil du {titles} gewählt hast",
    "attribute": "weil {value} ({attribute}) auch zu {titles} gehört",
    "word": "weil {value} ({attribute}) auch bei {titles} vorkommt",
    "more_items": "{count} weiteren deiner Artikel",
    "one_more_item": "einem weiteren deiner Artikel",
    "modality_id": "wegen der Wahl anderer Menschen",
    "modality": "wegen der Angabe {modality}",
    "retrieved_transitions": "weil es oft nach Artikeln deines Verlaufs gewählt wird",
    "retrieved_behaviour": "weil Menschen mit einem Verlauf wie deinem es gewählt haben",
    "retrieved_metadata": "weil es wie Artikel deines Verlaufs beschrieben ist",
    "popular": "weil es beliebt ist",
    "little_known": "weil es wenig bekannt ist und hier solche Artikel bevorzugt werden",
    "new_item": "weil es neu ist und hier neue Artikel bevorzugt werden",
    "name_history": "{title}",
    "name_attribute": "{value} ({attribute})",
    "name_word": "das Wort {value} ({attribute})",
    "name_modality_id": "die Wahl anderer Menschen",
    "name_modality": "die Angabe {modality}",
    "name_retrieved_transitions": "das, was andere nach Artikeln deines Verlaufs wählten",
    "name_retrieved_behaviour": "das, was Menschen mit einem Verlauf wie deinem wählten",
    "name_retrieved_metadata": "die Beschreibung der Artikel deines Verlaufs",
    "name_popularity": "das Gewicht der Beliebtheit",
    "name_new_item": "das Gewicht neuer Artikel",
    "recommended": "{title} wird empfohlen, {reasons}.",
    "ranked": "{title} steht auf Platz {rank} und nicht tiefer, {reasons}.",
    "recommended_without_reason": "{title} wird empfohlen, doch kein einzelner Grund ragt heraus.",
    "ranked_without_reason": "{title} steht auf Platz {rank}; kein einzelner Grund spricht dafür.",
    "recommended_to_a_stranger": "{title} wird empfohlen, {reasons}; über dich ist noch nichts bekannt.",
    "recommended_to_a_stranger_without_reason": "{title} wird allen empfohlen, über die noch nichts bekannt ist.",
    "seen": "{title} fehlt, weil es schon in deinem Verlauf steht.",
    "denied": "{title} fehlt, weil es ausgeschlossen wurde.",
    "not allowed": "{title} fehlt, weil es nicht unter den erlaubten Artikeln ist.",
    "without": "Ohne {name} wäre es {factor}-mal weniger wahrscheinlich und stünde auf Platz {rank}.",
    "without_same": "Ohne {name} wäre es {factor}-mal weniger wahrscheinlich und stünde weiter auf Platz {rank}.",
    "against": "Dagegen spricht {name}: ohne dies wäre {title} {factor}-mal so wahrscheinlich.",
    "without_history": "Ohne deinen Verlauf stünde es auf Platz {rank}.",
    "partial_history": "Von den {items} Artikeln deines Verlaufs wurden {measured} geprüft.",
    "rather": "{title} statt {other}, {reasons}.",
    "rather_without_reason": "{title} statt {other}, doch kein einzelner Grund unterscheidet sie.",
    "history_contrast": "weil du {titles} gewählt hast, was {factor}-mal mehr dafür zählt",
    "mostly_popular": "{title} wird vor allem empfohlen, weil es beliebt ist: ohne das Gewicht der Beliebtheit stünde "
    "es auf Platz {rank}.",
    "mostly_new": "{title} wird vor allem empfohlen, weil es neu ist: ohne das Gewicht neuer Artikel stünde es auf "
    "Platz {rank}.",
    "mostly_impersonal": "{title} hat wenig mit dir zu tun: ohne deinen Verlauf stünde es auf Platz {rank}.",
    "mostly_personal": "{title} hängt an deinem Verlauf: ohne ihn stünde es auf Platz {rank}.",
    "strongest_alone": "Der stärkste einzelne Grund, {name}, macht es nur {factor}-mal so wahrscheinlich.",
    "stranger": "{title} hat nichts mit dir zu tun: über dich ist noch nichts bekannt.",
}

MESSAGES: dict[str, dict[str, str]] = {"en": ENGLISH, "de": GERMAN}
"""Messages by language."""

__all__ = ["MESSAGES"]
