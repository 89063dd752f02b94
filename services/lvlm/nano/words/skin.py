"""How people speak of skin lesions and of what lies beside them on a photograph."""

from services.lvlm.nano import things
from services.lvlm.nano.words.shared import ANY_MARK, PLACES, Vocabulary

SKIN = Vocabulary(
    class_names=(
        *("melanoma", "benign", "nevus", "malignant", "naevus", "mole", "seborrheic keratosis", "class {n}", "-"),
        *("benign lesion", "malignant melanoma", "suspicious", "harmless"),
    ),
    places=(
        *PLACES,
        " beside the lesion",
        " next to the lesion",
        " on the skin",
        " outside the lesion",
        " over the lesion",
    ),
    nouns={
        things.LESION: (
            *(
                "the lesion",
                "the mole",
                "the nevus",
                "the naevus",
                "the pigmented lesion",
                "the skin lesion",
                "the spot",
            ),
            *("the lesion itself", "the border of the lesion", "the colour of the lesion", "the pigment network"),
            *("its irregular border", "asymmetry of the lesion", "the shape of the lesion", "the pigmentation"),
            *(
                "the melanoma",
                "the dark spot on the skin",
                "the structure of the lesion",
                "the globules",
                "the streaks",
            ),
            *("the blue-white veil", "the pigmented area", "the edge of the mole", "the brown pigment", "the tumour"),
            *("the dots and globules", "the lesion and its border", "the texture of the lesion", "the brown lesion"),
        ),
        things.STICKER: (
            *("sticker", "coloured sticker", "round sticker", "plaster", "colour patch", "coloured patch", "patch"),
            *("coloured disc", "colour calibration sticker", "band-aid", "blue sticker", "green sticker", "label"),
            *("orange sticker", "round label", "stickers", "coloured circle", "adhesive dot", "calibration patch"),
            *(
                "coloured plaster",
                "yellow sticker",
                "adhesive label",
                "adhesive patch",
                "colour chart",
                "colored sticker",
            ),
        ),
        things.RULER: (
            *("ruler", "scale bar", "scale", "measuring scale", "measuring tape", "ruler marks", "millimetre scale"),
            *("tick marks", "measure", "ruler at the edge", "tape measure", "gauge", "graduation", "length scale"),
            *("rulers", "ruler ticks", "mm scale", "centimetre scale", "measuring stick"),
        ),
        things.INK: (
            *("ink", "pen mark", "ink mark", "surgical marker", "purple ink", "pen marking", "skin marker", "pen line"),
            *("gentian violet", "ink marks", "pen marks", "drawn circle", "blue ink", "surgeon's pen", "marking ink"),
            *("skin marking", "pen strokes of the surgeon", "ink markings", "felt pen"),
        ),
        things.HAIR: (
            *("hair", "hairs", "body hair", "dark hairs", "hair over the lesion", "hair strands", "fine hairs", "fuzz"),
            *("strands of hair", "thick hair", "hairiness", "bristles", "single hairs"),
        ),
        things.SKIN: (
            *("the skin", "the surrounding skin", "the healthy skin", "the normal skin", "the skin around the lesion"),
            *("the colour of the skin", "the skin tone", "the skin texture", "pores", "the surroundings of the lesion"),
            *("healthy skin around it", "the skin background", "the area of skin beside it", "the patient's skin tone"),
        ),
        things.BACKGROUND: (
            *("the black corners", "the dark corners", "the vignette", "the black border", "the black frame"),
            *("the empty background", "the dark edge of the picture", "the black margin", "the dermatoscope's edge"),
            *("the background", "the round frame", "the dark vignette", "the black surround"),
        ),
        None: (*ANY_MARK, "anything put on the skin", "markings of the clinic", "objects that are not skin", "devices"),
    },
)
