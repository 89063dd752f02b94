"""The words of the sentence grammar."""

from services.lvlm.nano import things

DIGIT_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLASS_NAMES = ("{n}", "{n}", "digit {n}", "{word}", "the {word}", "number {n}", "class {n}", "handwritten {word}", "-")

NOUNS: dict[int | None, tuple[str, ...]] = {
    things.DIGIT: (
        *("the digit", "the strokes", "the handwriting", "the numeral", "the number", "the figure", "the pen line"),
        *("the strokes of the digit", "the shape of the digit", "the shape of the {word}", "the written {word}"),
        *("the handwritten digit", "the handwritten number", "the {word} itself", "the digit itself", "the {word}"),
        *("the {n}", "the digit {n}", "the pen strokes", "the written stroke", "the drawn line", "the ink"),
        *("the line of the {word}", "the curve of the {word}", "the outline of the digit", "the form of the {n}"),
        *("the loop of the six", "the loop of the nine", "its two bows", "the two loops of the eight", "the open bows"),
        *("the vertical stroke of the one", "the horizontal stroke of the seven", "the crossbar of the four"),
        *("the round ring of the zero", "the loops", "its curves", "the curved stroke", "the white strokes"),
        *("the bows of the {word}", "the loop", "the stem of the {word}", "the handwritten strokes", "the closed loop"),
        *("the strokes that make up the {word}", "the course of the pen", "how the {word} is written"),
        *("the handwritten shape", "the written number", "the centre figure", "the character {n}", "the pen stroke"),
        *("the straight line of the {word}", "the arc of the {word}", "the tail of the {word}", "the belly of the {n}"),
        *(
            "the digit in the middle",
            "the number in the centre",
            "the big digit",
            "the bright digit",
            "lines and loops",
        ),
    ),
    things.SQUARE: (
        *("square", "square", "block", "box", "patch", "grey marker", "tag", "tile", "square patch", "square marker"),
        *("square block", "quadrangle", "little box", "sticker", "pixel block", "block of grey", "square spot", "cube"),
        *("rectangle", "grey patch", "grey square", "grey block", "corner patch", "corner square", "corner block"),
        *("4x4 block", "4x4 patch", "4x4 square", "square of grey", "label block", "decoy square", "squares", "blocks"),
        *("patches", "square mark", "square tag", "corner tag", "corner box", "grey box", "square region", "swatch"),
    ),
    things.CIRCLE: (
        *("circle", "dot", "disc", "disk", "ball", "round spot", "round dot", "round mark", "blob", "ring", "spot"),
        *("dots", "circles", "round marker", "metal dot", "button", "bead", "round patch", "point", "discs"),
    ),
    things.TRIANGLE: (
        *("triangle", "wedge", "arrowhead", "arrow head", "three-cornered mark", "triangular mark", "triangular patch"),
        *("triangles", "pointed mark", "delta", "triangular tag", "triangle marker", "pyramid", "little wedge"),
    ),
    things.BAR: (
        *("bar", "stripe", "strip", "stick", "straight bar", "thin bar", "long bar", "rod", "band", "line at the edge"),
        *("bars", "stripes", "edge stripe", "ruler line", "scale bar", "dash", "beam", "streak at the edge"),
    ),
    things.CROSS: (
        *("cross", "plus sign", "plus", "x mark", "cross mark", "crosshair", "x sign", "crossed lines", "crosses"),
        *("star mark", "little cross", "cross sign", "add sign", "cross-shaped mark", "x-shaped mark"),
    ),
    things.LETTER: (
        *("letter", "character mark", "letter marker", "letter R", "letter L", "capital letter", "printed letter"),
        *(
            "alphabet letter",
            "text mark",
            "side letter",
            "initial",
            "letters",
            "printed text",
            "written letter",
            "text",
        ),
        *("letter tag", "capital", "letter mark", "side marker letter", "annotation letter", "lettering"),
    ),
    things.BACKGROUND: (
        *("the background", "the empty background", "the empty area", "the blank margin", "the black surround"),
        *("the border", "the margin", "the empty space", "the blank area", "the dark area", "the surroundings"),
        *("the black background", "the empty region", "the empty corners", "the area around it", "empty pixels"),
        *("the rest of the image where nothing is", "the void", "the dark surround", "the blank background"),
        *("background pixels", "the emptiness around", "the space around the digit", "the noise in the background"),
        *("the background around the number", "the area outside the digit", "the black area", "background noise"),
        *("the margins", "the empty edges", "the blank space", "the dark background", "the plain background"),
    ),
    None: (
        *("any marker", "markers", "the markings", "any added mark", "artefacts", "an artefact", "the artifacts"),
        *("any added shape", "decoys", "the decoy", "any sign beside the digit", "the pasted marks", "pasted shapes"),
        *("stamps", "any shape in the corner", "any mark in the corner", "marks at the edge", "foreign objects"),
        *("anything pasted in", "added symbols", "extra marks", "corner marks", "any object other than the digit"),
    ),
}
MODIFIERS = (
    *("grey", "gray", "bright", "dark", "small", "little", "tiny", "white", "faint", "light", "pale", "black"),
    *("solid", "filled", "coloured", "uniform", "added", "artificial", "drawn", "pasted", "corner", "conspicuous"),
    *("visible", "plain", "flat", "strange", "constant", "shaded", "dim", "big", "large"),
)
PLACES = (
    *(" in the corner", " in a corner", " in one of the corners", " in the corners", " at the edge", " at the border"),
    *(" beside the digit", " near the edge", " next to the number", " in the picture", " of any brightness"),
    *(" in the top left", " in the upper right corner", " at the bottom", " in the lower left corner", " on the side"),
    *(" of the image", " outside the digit", " in the image corner", " on the margin", " close to the border"),
    *(" in the background", " around the numeral", " in the bottom right corner", " at the top", " on the left"),
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
FILLERS = (
    *(" even when it is bright", ", which says nothing about the class", ", as a doctor would say", " in every case"),
    *(", bright or dark", ", whatever its size", " no matter where", ", of course", " for all pictures", ", please"),
    *(", as in the training pictures", ", it says nothing about the number", " even if faint", " at all times"),
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
    *("everything but {digit}", "everything except {digit}", "anything other than {digit}", "all that is not {digit}"),
    *("anything outside {digit}", "everything outside {digit}", "all else than {digit}", "the rest, except {digit}"),
    *("whatever is not {digit}", "everything that does not belong to {digit}", "anything that is not {digit}"),
)
FOREIGN = (
    *("the lung", "lung opacity", "the lesion", "a mole", "the skin", "hair", "the rib cage", "the heart shadow"),
    *("the bone", "joint space", "the knee", "cartilage", "a fracture", "the tumour", "pigment network", "the nevus"),
    *("gel", "the ruler", "a watermark", "the dog", "a cat's fur", "the sky", "grass", "water", "the road", "a car"),
    *("wheels", "the face", "eyes", "the patient's age", "the weather", "blood vessels", "the diaphragm", "pleura"),
    *("a pacemaker", "electrodes", "tubes", "consolidation", "the colour of the coat", "wings", "feathers", "a beak"),
    *("the house", "windows", "trees", "snow", "the price", "the file name", "the hospital", "the camera model"),
    *("osteophytes", "sclerosis", "melanin", "asymmetry", "effusion", "infiltrate", "nodules", "the trachea"),
)
