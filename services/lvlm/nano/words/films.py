"""How people speak of chest films and of what is written and laid on them."""

from services.lvlm.nano import things
from services.lvlm.nano.words.shared import ANY_MARK, PLACES, Vocabulary

FILMS = Vocabulary(
    class_names=(
        *("NORMAL", "PNEUMONIA", "normal", "pneumonia", "healthy", "bacterial pneumonia", "effusion", "class {n}", "-"),
        *("viral pneumonia", "covid", "no finding", "infiltration"),
    ),
    places=(*PLACES, " on the film", " above the shoulder", " beside the body", " of the radiograph", " on the x-ray"),
    nouns={
        things.LUNG: (
            *("the lung", "the lungs", "the lung fields", "opacity in the lung", "the lung tissue", "consolidation"),
            *("infiltrates in the lung", "the lower lobe", "the upper lobe", "the lung field", "lung opacities"),
            *("the parenchyma", "the lung parenchyma", "white patches in the lung", "the air in the lungs", "pleura"),
            *("the right lung", "the left lung", "both lungs", "the infiltrate", "the lobes of the lung", "nodules"),
            *("the lung markings", "shadows in the lungs", "the lung bases", "the opacity of the lung", "effusion"),
        ),
        things.LETTER: (
            *("letter", "letter marker", "letter R", "letter L", "capital letter", "side marker", "printed letter"),
            *("side letter", "letters", "laterality marker", "L marker", "R marker", "letter tag", "lead letter"),
            *(
                "marker letter",
                "letter mark",
                "white letter",
                "annotation letter",
                "tag",
                "letter on the film",
                "initial",
            ),
        ),
        things.TIME_STAMP: (
            *("time stamp", "timestamp", "date", "date stamp", "clock time", "time of day", "printed date", "numbers"),
            *("printed time", "date and time", "stamped date", "row of digits", "printed numbers", "exposure time"),
            *("time stamps", "printed figures", "acquisition date", "burnt-in date"),
        ),
        things.LEAD: (
            *(
                "lead",
                "wire",
                "ECG lead",
                "cable",
                "electrode",
                "tube",
                "leads",
                "wires",
                "cables",
                "electrodes",
                "line",
            ),
            *("ECG electrode", "monitoring wire", "catheter", "tubing", "central line", "feeding tube", "wire loop"),
            *("monitoring lead", "ECG cable", "tubes", "lead wire", "electrode patch"),
        ),
        things.BODY: (
            *("the body", "the heart", "the ribs", "the bones", "the shoulders", "the spine", "the rest of the chest"),
            *("the heart shadow", "the mediastinum", "the diaphragm", "the abdomen", "the soft tissue", "the rib cage"),
            *("the collar bones", "the clavicles", "the chest wall", "the trachea", "the arms", "the stomach"),
        ),
        things.BACKGROUND: (
            *("the empty background", "the black background", "the air around the patient", "the dark margin"),
            *("the film edge", "the black border", "the area outside the body", "the empty corners", "the collimation"),
            *("the background", "the dark area beside the body", "the black surround", "the margin of the film"),
        ),
        None: (*ANY_MARK, "anything written on the film", "burnt-in text", "devices", "hardware", "hospital markings"),
    },
)
