"""The things `nano` knows, their codes in drawn scenes, and the words it answers with."""

BACKGROUND, DIGIT, SQUARE, CIRCLE, TRIANGLE, BAR, CROSS, LETTER, UNKNOWN = range(9)
THING_COUNT = 9
SHAPES = (SQUARE, CIRCLE, TRIANGLE, BAR, CROSS, LETTER)  # what may be pasted beside a digit

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
}
SEEN_AS = {thing: name.replace("the ", "a ") for thing, name in WITH_ARTICLE.items()}
