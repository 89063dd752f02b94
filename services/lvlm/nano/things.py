"""The things `nano` knows, their codes in drawn scenes, and the words it answers with."""

BACKGROUND, DIGIT, SQUARE, CIRCLE, TRIANGLE, BAR, CROSS, LETTER, UNKNOWN = range(9)
LESION, SKIN, STICKER, RULER, INK, HAIR = range(9, 15)
LUNG, BODY, TIME_STAMP, LEAD = range(15, 19)
THING_COUNT = 19

GROUNDS = (BACKGROUND, SKIN, BODY)  # what lies under and around everything else
SUBJECTS = (DIGIT, LESION, LUNG)  # what a decision usually should rest on
SHAPES = (SQUARE, CIRCLE, TRIANGLE, BAR, CROSS, LETTER)  # what may be pasted beside a digit
SKIN_MARKS = (STICKER, RULER, INK, HAIR)
FILM_MARKS = (LETTER, TIME_STAMP, LEAD)
MARKS = (*SHAPES, *SKIN_MARKS, TIME_STAMP, LEAD)  # what does not belong to the subject
KNOWN = tuple(code for code in range(THING_COUNT) if code != UNKNOWN)

# Names as they stand in an answer, article included.
WITH_ARTICLE = {
    BACKGROUND: "the empty background",
    DIGIT: "the digit",
    SQUARE: "the square",
    CIRCLE: "the circle",
    TRIANGLE: "the triangle",
    BAR: "the bar",
    CROSS: "the cross",
    LETTER: "the letter",
    UNKNOWN: "something unknown",
    LESION: "the lesion",
    SKIN: "the skin",
    STICKER: "the sticker",
    RULER: "the ruler",
    INK: "the ink",
    HAIR: "the hair",
    LUNG: "the lung",
    BODY: "the body",
    TIME_STAMP: "the time stamp",
    LEAD: "the lead",
}
SEEN_AS = {thing: name.replace("the ", "a ") for thing, name in WITH_ARTICLE.items()} | {INK: "ink", HAIR: "hair"}

# Concepts as a compiled rule names them, without an article.
CONCEPTS = {code: name.removeprefix("the ").removeprefix("empty ") for code, name in WITH_ARTICLE.items()}
UNKNOWN_CONCEPT = "unknown"
ANY_MARK_CONCEPT = "mark"
