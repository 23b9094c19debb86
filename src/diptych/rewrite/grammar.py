"""Parse a description: one walk from left to right over its words, which never backs up.

Its time is linear in the text, whatever the text is.
"""

from __future__ import annotations

from functools import lru_cache

from . import inflection, words
from .scene import SLOTS, Noun, Phrase, Scene, colour_phrase, preposition_at, style_noun, tokenize


@lru_cache(maxsize=128)
def parse(text: str) -> Scene:
    """Parse a description; every text has a parse, at worst one without a subject."""
    return _Walk(text).scene()


class _Walk:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokenize(text)
        self.keys = [token.key for token in self.tokens]
        self.size = len(self.tokens)

    def scene(self) -> Scene:
        phrases: list[Phrase] = []
        i = self.style_prefix()
        if i:
            phrases.append(Phrase("style", 0, i))
        if self.keys[i : i + 1] == ["there"]:
            i = min(i + 2, self.size)
        while i < self.size:
            if not self.tokens[i].is_word or self.keys[i] in words.CONJUNCTIONS:
                i += 1
                continue
            phrase = self.phrase(i, phrases)
            previous = phrases[-1] if phrases else None
            if phrase.kind == "frame" and previous and previous.kind == "relation":
                previous.end = phrase.end
            else:
                if phrase.kind == "frame":
                    phrase.kind = "relation"
                phrases.append(phrase)
            i = phrase.end
        return Scene(self.text, self.tokens, phrases)

    def style_prefix(self) -> int:
        """The number of tokens in an opening like "a loose watercolor of"."""
        if "of" not in self.keys[1:10]:
            return 0
        for i in range(min(self.size, 10)):
            k = self.keys[i]
            if not self.tokens[i].is_word or (i and k in words.DETERMINERS):
                return 0
            if k != "of" and (self.preposition(i) or self.verb(i, 0)):
                return 0
            if k == "of":
                named = style_noun(self.keys[:i]) or self.keys[i - 1] in words.NEUTRAL
                return i + 1 if i and named else 0
        return 0

    def phrase(self, i: int, before: list[Phrase]) -> Phrase:
        lead = self.preposition(i)
        if lead:
            return self.after_preposition(i, lead)
        if self.keys[i] in words.RENDERED and (
            self.preposition(i + 1) and self.after_preposition(i + 1, 1).kind == "style"
        ):
            return Phrase("style", i, self.after_preposition(i + 1, 1).end)
        has_subject = any(phrase.kind == "subject" for phrase in before)
        if self.keys[i] in words.RELATIVES or (has_subject and self.verb(i, i)):
            return self.after_verb(i)
        end, nouns = self.nouns(i)
        if end == i:
            end = i + 1
            while end < self.size and self.keys[end] in words.DETERMINERS:
                end += 1
            return Phrase("tag", i, end)
        keys = self.keys[nouns[0].core : nouns[0].end]
        if not has_subject:
            # "Pixel art, a fox": the tag comes first
            leads = end + 1 < self.size and self.keys[end] in (",", ":") and style_noun(keys)
            return Phrase("style" if leads else "subject", i, end, nouns)
        if style_noun(keys) or keys[-1] in words.STYLE_ADJECTIVES:
            return Phrase("style", i, end, nouns)
        listed = before[-1].kind == "subject" and nouns[0].core > nouns[0].start
        return Phrase("subject" if listed else "tag", i, end, nouns)

    def preposition(self, i: int) -> int:
        return preposition_at(self.keys, i)

    def after_preposition(self, i: int, lead: int) -> Phrase:
        named = self.keys[i : i + 4]
        if named[:1] == ["in"] and named[1:2] != ["a"] and named[2:] == ["style", "of"]:
            return Phrase("style", i, self.clause_end(i))
        if self.keys[i] == "by" and self.capital(i + 1):
            return Phrase("style", i, self.clause_end(i))
        second = self.preposition(i + lead)  # "out from under", "up on"
        if second:
            lead += second
        end, nouns = self.nouns(i + lead)
        end = max(end, i + lead)
        kind = self.kind_of(i, lead, nouns[0]) if nouns else "relation"
        if kind in SLOTS or kind in ("style", "frame"):
            nouns, end = nouns[:1], self.of_tail(nouns[0], end)
        return Phrase(kind, i, end, nouns)

    def of_tail(self, noun: Noun, end: int) -> int:
        """Where a one-noun phrase ends: before "and ...", after "of ..."."""
        for i in range(noun.end, end):
            if self.keys[i] != "of" and self.keys[i] in words.CONJUNCTIONS:
                return i
        return end

    def kind_of(self, i: int, lead: int, noun: Noun) -> str:
        """What a preposition and its noun say: style, a slot, a frame, or just a relation."""
        preposition = self.keys[i]
        head = self.keys[noun.end - 1]
        core = self.keys[noun.core : noun.end]
        determined = noun.core > noun.start
        if preposition in ("in", "as", "like") and lead == 1 and style_noun(core):
            styled = preposition == "as" or core[-1] == "style"
            if styled or (preposition == "in" and not determined):
                return "style"
        if head in words.BACKDROPS and preposition in ("on", "against", "with", "over", "in"):
            return "frame" if preposition == "in" and core == [head] else "backdrop"
        if determined and self.keys[noun.start] in words.OWNERS and head not in words.PLACES:
            return "frame" if preposition in ("in", "on") else "relation"
        if preposition in words.WHEN and lead == 1:
            if head in words.TIMES or core[-2:] == ["golden", "hour"]:
                return "time"
            if head in words.WEATHER:
                return "weather"
            if head in words.FRAME and head != "sky" and core == [head]:
                return "frame"
        return self.place_kind(i, lead, noun)

    def place_kind(self, i: int, lead: int, noun: Noun) -> str:
        preposition, head = self.keys[i], self.keys[noun.end - 1]
        if self.keys[i : i + lead] == ["in", "front", "of"]:
            return "place"
        if head in words.PLACES and preposition in words.WHERE:
            return "place"
        if head in ("stars", "moon") and preposition in ("under", "beneath"):
            return "time"
        if preposition in ("in", "at", "inside") and lead == 1:
            named = noun.core > noun.start or self.capital(noun.start)
            hue = colour_phrase(self.keys[noun.core : noun.end])
            if named and not hue and head not in words.NOT_PLACES and head not in words.WORN:
                return "place"
        return "relation"

    def after_verb(self, i: int) -> Phrase:
        """A verb with its objects: "reading a book", "sitting on a log", "is asleep"."""
        end = i + 1
        while (
            end < self.size
            and self.tokens[end].is_word
            and (self.keys[end] in words.AUXILIARIES or self.adverb(end) or self.verb(end, i))
        ):
            end += 1
        governing = any(k in words.GOVERNING for k in self.keys[i:end])
        lead = self.preposition(end)
        if lead:
            following = self.after_preposition(end, lead)
            if following.kind == "relation" or (governing and following.kind != "style"):
                return Phrase("relation", i, following.end, following.nouns)
            return Phrase("relation", i, end)
        object_end, nouns = self.nouns(end)
        return Phrase("relation", i, max(end, object_end), nouns)

    def nouns(self, i: int) -> tuple[int, list[Noun]]:
        """Noun phrases joined by "of", "and", "or" from `i`; where they end, and what they are."""
        found: list[Noun] = []
        end = i
        while (
            noun := self.noun(i, i > 0 and bool(found) and self.keys[i - 1] == "of")
        ) is not None:
            found.append(noun)
            end = noun.end
            if end < self.size and self.keys[end] in ("of", "and", "or", "&"):
                i = end + 1
                if self.keys[end] != "of" and self.verb(i, i):
                    break
            else:
                break
        return end, found

    def noun(self, i: int, after_of: bool) -> Noun | None:
        core = i
        while core < self.size and self.keys[core] in words.DETERMINERS:
            core += 1
        end = core
        while end < self.size and not self.boundary(end, i, core):
            end += 1
            # "a black and white cat" is one noun phrase
            colours = end + 1 < self.size and self.keys[end] == "and"
            if colours and {self.keys[end - 1], self.keys[end + 1]} <= words.COLOURS:
                end += 2
        return Noun(i, core, end, after_of) if end > core else None

    def boundary(self, i: int, start: int, core: int) -> bool:
        k = self.keys[i]
        if not self.tokens[i].is_word or k in words.DETERMINERS or k in words.CONJUNCTIONS:
            return True
        if k in words.RELATIVES or k in words.AUXILIARIES or k == "of":
            return True
        if self.preposition(i):
            return True
        if i == core:
            return self.adverb(i)
        return self.adverb(i) or self.verb(i, start)

    def adverb(self, i: int) -> bool:
        k = self.keys[i]
        ends = i + 1 == self.size or not self.tokens[i + 1].is_word or bool(self.preposition(i + 1))
        manner = len(k) > 4 and k.endswith("ly") and k not in words.LY_NOUNS
        return k in words.ADVERBS or (manner and ends and i > 0)

    def verb(self, i: int, start: int) -> bool:
        """Whether the word at `i` is a verb, given that its phrase began at `start`."""
        if i >= self.size:
            return False
        k = self.keys[i]
        if k in words.AUXILIARIES:
            return True
        first = i == start
        before = "" if first else self.keys[i - 1]
        if before in words.DETERMINERS:
            return False
        following = self.keys[i + 1] if i + 1 < self.size else ""
        closed = (
            not following
            or not self.tokens[i + 1].is_word
            or following in words.DETERMINERS
            or following in words.CONJUNCTIONS
            or bool(self.preposition(i + 1))
            or self.adverb(i + 1)
        )
        if len(k) > 4 and k.endswith("ing"):
            if k in words.ING_NOUNS:
                return following in words.DETERMINERS and k in inflection.GERUNDS
            return closed or not inflection.adjective(before)
        if k.endswith("ed") and len(k) > 4 and k not in words.ED_NOUNS:
            return closed
        if k in ("made", "seen", "lit", "worn", "held", "drawn", "built"):
            return bool(self.preposition(i + 1))
        one = first or self.keys[start] not in words.PLURALS
        if k in inflection.FINITE:
            return closed and one and not inflection.plural(before)
        if k in words.VERBS:
            return not first and closed and inflection.plural(before)
        # "a fox leaps over": after "a" a noun does not end in s
        singular = not first and self.keys[start] in words.ARTICLES
        return singular and closed and inflection.plural(k) and i > start + 1

    def clause_end(self, i: int) -> int:
        while i < self.size and self.text[self.tokens[i].start] not in ",;.":
            i += 1
        return i

    def capital(self, i: int) -> bool:
        return i < self.size and self.text[self.tokens[i].start].isupper()
