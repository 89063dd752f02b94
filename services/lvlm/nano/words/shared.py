"""Words for sentences about any picture, and what a world adds of its own."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Vocabulary:
    """How people speak of the things of one world.

    `nouns` are by code of the thing, None for "any mark at all"; `places` end a noun phrase; class names and nouns may hold `{n}` and `{word}`,
    a digit in figures and in words.
    """

    nouns: Mapping[int | None, tuple[str, ...]]
    class_names: tuple[str, ...]
    places: tuple[str, ...]


DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ANY_MARK = (
    *("any marker", "markers", "the markings", "any added mark", "artefacts", "an artefact", "the artifacts"),
    *("any sign beside it", "the pasted marks", "stamps", "foreign objects", "marks at the edge", "corner marks"),
    *("anything pasted in", "added symbols", "extra marks", "any mark in the corner", "any annotation"),
)
MODIFIERS = (
    *("grey", "gray", "bright", "dark", "small", "little", "tiny", "white", "faint", "light", "pale", "black"),
    *("solid", "filled", "coloured", "uniform", "added", "artificial", "drawn", "pasted", "corner", "conspicuous"),
    *("visible", "plain", "flat", "strange", "constant", "shaded", "dim", "big", "large"),
)
PLACES = (
    *(" in the corner", " in a corner", " in one of the corners", " in the corners", " at the edge", " at the border"),
    *(" beside it", " near the edge", " next to it", " in the picture", " of any brightness"),
    *(" in the top left", " in the upper right corner", " at the bottom", " in the lower left corner", " on the side"),
    *(" of the image", " outside of it", " in the image corner", " on the margin", " close to the border"),
    *(" in the background", " around it", " in the bottom right corner", " at the top", " on the left"),
)
FRAMES = (
    *("{}", "only {}", "{} only", "just {}", "mainly {}", "above all {}", "anything about {}", "{}, that is all"),
    *("the decision is about {}", "please consider {}", "this concerns {}", "{} in the image", "everything about {}"),
    *("what we mean is {}", "we mean {}", "for this class: {}", "think of {}", "that is {}", "for example {}"),
    *("{} (see guideline)", "the part with {}", "the pixels of {}", "all of {}", "the position and size of {}"),
    *("the brightness of {}", "whatever shows {}", "the presence of {}", "{} as such", "{} and nothing else"),
    *("the model and {}", "it is {}", "the relevant thing here is {}", "{}, as told by the expert", "shape of {}"),
    *("the grey value of {}", "where you see {}", "the region of {}", "evidence on {}", "the look of {}"),
)
HELD_OUT_FRAMES = (
    *("in short, {}", "{}, nothing more", "our reading: {}", "the area with {}", "first of all {}", "always {}"),
    *("the experts speak of {}", "parts of {}", "{} wherever it is", "the tone of {}", "namely {}"),
)
# Frames that say by themselves on which side they stand; the field they are written in says so too.
MATTER_FRAMES = (
    *("look at {}", "rely on {}", "{} should decide", "decide by {}", "{} is what counts", "judge by {}"),
    *("the diagnosis depends on {}", "{} should matter", "base it on {}", "use {}", "the answer lies in {}"),
    *("the model should go by {}", "{} tells the class", "it is recognised by {}", "pay attention to {}"),
)
NOT_MATTER_FRAMES = (
    *("ignore {}", "disregard {}", "{} must not count", "do not look at {}", "never use {}", "{} is irrelevant"),
    *("{} must not matter", "the model must not use {}", "pay no attention to {}", "{} should play no part"),
    *("leave {} out", "{} says nothing", "don't rely on {}", "{} is not evidence", "{} must never decide"),
)
FILLERS = (
    *(" even when it is bright", ", which says nothing about the class", ", as a doctor would say", " in every case"),
    *(", bright or dark", ", whatever its size", " no matter where", ", of course", " for all pictures", ", please"),
    *(", as in the training pictures", ", it says nothing about the class", " even if faint", " at all times"),
    *(", regardless of its colour", " because the scanner put it there", ", in any picture", ", as always"),
)
NEGATIONS = (
    ", not {}",
    " and not {}",
    " but not {}",
    ", never {}",
    " rather than {}",
    " instead of {}",
    ", without {}",
)
EVERYTHING_ELSE = (
    *(
        "everything but {subject}",
        "everything except {subject}",
        "anything other than {subject}",
        "all that is not {subject}",
    ),
    *(
        "anything outside {subject}",
        "everything outside {subject}",
        "all else than {subject}",
        "the rest, except {subject}",
    ),
    *("whatever is not {subject}", "everything that does not belong to {subject}", "anything that is not {subject}"),
)
FOREIGN = (
    *("the bone", "joint space", "the knee", "cartilage", "a fracture", "a watermark", "the dog", "a cat's fur"),
    *("the sky", "grass", "water", "the road", "a car", "wheels", "the face", "eyes", "the patient's age"),
    *("the weather", "the colour of the coat", "wings", "feathers", "a beak", "the house", "windows", "trees", "snow"),
    *("the price", "the file name", "the hospital", "the camera model", "osteophytes", "sclerosis", "the liver"),
    *("the retina", "the optic disc", "a tumour of the breast", "the ventricle", "the teeth", "a polyp", "the colon"),
    *("nuclei", "the glands", "the traffic sign", "the bicycle", "the chair", "the leaf", "petals", "the ship"),
)
