"""The Free Spoken Digit Dataset: 3,000 recordings of six speakers, 8 kHz (Jakobovski and others; CC BY-SA 4.0)."""

import re
from pathlib import Path

from spiking_lfp.data.folders import ReadOwn
from spiking_lfp.data.recordings import Listing, Sample
from spiking_lfp.errors import DataError, UsageError

NAME, FOLDER = "spoken-digits", "fsdd"
CLASSES = tuple("0123456789")
TRAIN_SIZE, TEST_SIZE = 2700, 300
# the official test set, of each speaker and digit
TEST_TAKES = 5
_FILE = re.compile(r"(?P<digit>\d)_(?P<speaker>\w+)_(?P<take>\d+)\.wav")


def recordings(root: Path) -> list[tuple[Path, int, str, int]]:
    """Return path, digit, speaker and take of each recording, once, in `fsdd` or its folder `recordings`."""
    found = {}
    for folder in (root / FOLDER / "recordings", root / FOLDER):
        for path in sorted(folder.glob("*.wav")):
            name = _FILE.fullmatch(path.name)
            if name is not None:
                found[path.name] = path, int(name["digit"]), name["speaker"], int(name["take"])
    return [found[name] for name in sorted(found)]


def list_spoken_digits(root: Path, speaker: str = "", whole: bool = False) -> Listing:
    """List the recordings: takes 0 to 4 are for testing, or all of one speaker.

    Args:
        root: data root.
        speaker: whose recordings are for testing, the others' for training; the official split if empty.
        whole: for a network that is trained, maybe with a session of other data: take the official split if there is no
            such speaker.

    Raises:
        DataError: if they are not there, or none of them are for training or for testing.
        UsageError: for an unknown speaker.
    """
    found = recordings(root)
    if not found:
        raise DataError(
            f"data set {NAME!r} is not in {root / FOLDER}: put the files DIGIT_SPEAKER_TAKE.wav of the Free Spoken "
            "Digit Dataset there"
        )
    speakers = sorted({name for _, _, name, _ in found})
    if whole and speaker not in speakers:
        speaker = ""
    if speaker and speaker not in speakers:
        raise UsageError(f"test_session {speaker!r} is no speaker of {NAME}: it has {', '.join(speakers)}")
    train: list[Sample] = []
    test: list[Sample] = []
    for path, digit, name, take in found:
        is_test = name == speaker if speaker else take < TEST_TAKES
        (test if is_test else train).append(Sample(path, digit))
    if not train or not test:
        wanted = f"those of {speaker}" if speaker else f"takes 0 to {TEST_TAKES - 1}"
        raise DataError(
            f"{root / FOLDER} has {len(train)} recordings for training and {len(test)} for testing, which are {wanted}"
            ": add some, or set another test_session, a speaker"
        )
    trained = {sample.label for sample in train}
    absent = [name for label, name in enumerate(CLASSES) if label not in trained]
    remark = f"{root / FOLDER} is a part of {NAME}, without training samples of {', '.join(absent)}"
    return Listing(CLASSES, None, ReadOwn(None), tuple(train), tuple(test), (remark,) if absent else ())
