"""The user's own folders of files: their classes, their split, and the size of the sensor of recordings."""

import csv
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spiking_lfp.data.recordings import Listing, Sample, read_file, split_every_nth
from spiking_lfp.errors import DataError, UsageError, some
from spiking_lfp.events.files import NO_HINTS, SUFFIXES, Hints, read_with
from spiking_lfp.events.records import EventArray, Recording, Sensor
from spiking_lfp.files import files_in, is_hidden

# the files of DVS128 Gesture: FILE_labels.csv beside FILE.aedat, names of its classes, and which FILE is for what
LABELS = "_labels.csv"
LABEL_COLUMNS = ("class", "startTime_usec", "endTime_usec")
CLASS_NAMES, CLASS_NAME_COLUMNS = "gesture_mapping.csv", ("action", "label")
TRAIN_LIST, TEST_LIST = "trials_to_train.txt", "trials_to_test.txt"
# notes and lists of labels, and recordings where there are no others
TEXT = (".txt", ".csv")
DOCUMENTS = ("readme", "license", "licence", "errata")


@dataclass(frozen=True)
class Kind:
    """A kind of files: what people call them, how their names end, and an example of a name."""

    noun: str
    suffixes: tuple[str, ...]
    example: str


RECORDINGS = Kind("recordings", tuple(SUFFIXES), "NAME.aedat4")
IMAGES = Kind("images", (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm"), "NAME.png")
SIGNALS = Kind("signals", (".wav", ".csv", ".txt", ".npy"), "NAME.wav")
# sessions that are for testing without being named, the first that is there
TEST_SESSIONS = ("test", "testing", "val", "valid", "validation")


@dataclass(frozen=True)
class ReadOwn:
    """Reads the user's recordings.

    Attributes:
        sensor: that of all recordings; None for what each file says or, if it says nothing, the smallest possible.
            Recordings of files that name another one are scaled to this.
        hints: what the files do not say.
    """

    sensor: Sensor | None
    hints: Hints = NO_HINTS

    def __call__(self, sample: Sample) -> Recording:
        """Return the recording."""
        if sample.interval is None:
            return _fitted(sample.path, read_with(sample.path, self.hints), self.sensor)
        recording = _fitted(sample.path, read_file(sample.path, self.hints), self.sensor)
        first, last = np.searchsorted(recording.events["t"], sample.interval)
        if first == last:
            raise DataError(
                f"{_labels_of(sample.path)} names a part of {sample.path.name} from {sample.interval[0]} to "
                f"{sample.interval[1]} us, in which there are no events: give the times of its own clock"
            )
        return replace(recording, events=recording.events[first:last])


def is_folder(name: str) -> bool:
    """Tell whether the name of a data set is a path, of a folder or a file."""
    return "/" in name or "\\" in name or name.startswith("~") or Path(name).is_dir() or name.endswith(".npz")


def kind_of(folder: Path, has_signals: bool) -> Kind:
    """Return what a folder holds.

    Args:
        folder: the folder.
        has_signals: whether files that may be recordings or signals are signals.
    """
    suffixes = {path.suffix.lower() for path in files_in(folder)}
    if has_signals or ".wav" in suffixes:
        return SIGNALS
    if suffixes & {*IMAGES.suffixes} and not suffixes & ({*RECORDINGS.suffixes} - {*TEXT}):
        return IMAGES
    return RECORDINGS


def list_folder(
    folder: Path,
    test_session: str = "",
    sensor: Sensor | None = None,
    hints: Hints = NO_HINTS,
    kind: Kind = RECORDINGS,
    whole: bool = False,
) -> Listing:
    """List the files of the user's own folder.

    A folder or a file is named after the class: `FOLDER/CLASS/NAME.aedat`, or, with sessions,
    `FOLDER/SESSION/CLASS/NAME.aedat` or `FOLDER/SESSION/CLASS.aedat`. If there is a `NAME_labels.csv` beside every
    `NAME.aedat`, as in DVS128 Gesture, its lines `class,startTime_usec,endTime_usec` are recordings, parts of that
    file; `gesture_mapping.csv` in the folder may name the classes.

    Where there are folders of classes, files beside them are left out, with a remark.

    With sessions, the recordings of `test_session` are for testing and all others for training; a session called test,
    or else one of the other `TEST_SESSIONS`, is found without being named. Else `trials_to_train.txt` and
    `trials_to_test.txt` in the folder may list the files for training and for testing; else every 5th file of a class
    is for testing. Text is taken for recordings if there are no other ones.

    Args:
        folder: the folder, of which links are followed; names in it that begin with `.` or `__` are left out.
        test_session: the session for testing, if any.
        sensor: size of all recordings. If None, all sensors must have the same size, see `with_one_sensor`.
        hints: what the files do not say.
        kind: of the files.
        whole: for a network that is trained: take all files for testing if the folder does not say which are, and no
            others; it needs neither a session of that name nor files for training.

    Raises:
        DataError: if the folder has no such files, none for training or for testing, a class without any, or only one
            class to learn.
        UsageError: if there is no such session.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: name one that holds a folder of files for each class")
    paths, others = files_of(folder, kind)
    if not paths:
        found = f": its {len(others):,} files end in {_suffixes(others)}" if others else ""
        raise DataError(
            f"{folder} holds no {kind.noun} such as {folder}/CLASS/{kind.example}{found}; name another folder, or "
            f"convert them: {kind.noun} end in {', '.join(kind.suffixes)}"
        )
    if whole:
        hints = replace(hints, of_others=True)
    else:
        hints.check_used({path.suffix.lower() for path in paths}, str(folder))
    sessions = sorted({_parts(path, folder)[0] for path in paths if len(_parts(path, folder)) > 1})
    by_name = {name.lower(): name for name in sessions}
    if not test_session or (whole and test_session not in sessions):
        test_session = next((by_name[name] for name in TEST_SESSIONS if name in by_name), "")
    if test_session and test_session not in sessions:
        raise UsageError(f"test_session {test_session!r} is not a folder in {folder}: it has {', '.join(sessions)}")
    labelled = [path for path in paths if _labels_of(path).is_file()]
    if labelled:
        class_names, samples = _trials(folder, paths)
        remarks = _left_out(folder, others, kind)
    else:
        paths, loose = _without_loose(folder, paths, bool(test_session), kind)
        class_names, samples, remarks = _by_class(folder, paths, others, bool(test_session), kind)
        remarks += loose
    lists = [name for name in (TRAIN_LIST, TEST_LIST) if (folder / name).is_file()]
    if test_session:
        train, test = _divided(samples, {path for path in paths if _parts(path, folder)[0] == test_session})
        if lists:
            remarks.append(
                f"{some(lists)} in {folder} are not used, since its folder {test_session} is for testing: remove them, "
                "or call the folder otherwise"
            )
    elif lists:
        for_training, for_testing, more = _listed(folder, paths, kind)
        train, test = _divided([sample for sample in samples if sample.path in for_training | for_testing], for_testing)
        remarks += more
    elif whole:
        train, test = (), tuple(samples)
    else:
        train, test = split_every_nth(samples, 5)
    if whole:
        train = test
    if not train or not test:
        has_folders = any(len(_parts(path, folder)) > 1 for path in paths)
        advice = "add some" if has_folders else f"put them into a folder for each class, {folder}/CLASS/{kind.example}"
        raise DataError(f"{folder} has {len(train)} {kind.noun} for training and {len(test)} for testing: {advice}")
    if len(class_names) == 1 and not whole:
        raise DataError(
            f"{folder} has one class, {class_names[0]!r}: {_more_classes(folder, paths, test_session, kind)}"
        )
    if not whole:
        remarks += _check_classes(folder, class_names, train, test, kind)
    return Listing(class_names, sensor, ReadOwn(sensor, hints), tuple(train), tuple(test), tuple(remarks))


def with_one_sensor(listing: Listing) -> Listing:
    """Return a listing of the user's own folder with the size of the sensor, after reading all its files.

    If no file names it, it is the smallest one that holds the events of all files, with a warning.

    Raises:
        DataError: naming two files of different sensors, or one whose events are outside of the sensor of the others.
    """
    assert isinstance(listing.read, ReadOwn)
    hints = listing.read.hints
    named: dict[Sensor, Path] = {}
    smallest: list[Sensor] = []
    for path in sorted({sample.path for sample in (*listing.train, *listing.test)}):
        recording = read_with(path, hints)
        if not recording.guessed:
            named.setdefault(recording.sensor, path)
        elif len(recording.events):
            smallest.append(recording.sensor)
    if len(named) > 1:
        (one, first), (other, second) = list(named.items())[:2]
        raise DataError(
            f"{first} is of a sensor of {_size(one)} pixels, but {second} of {_size(other)}: set sensor=WIDTHxHEIGHT "
            "to scale all recordings to one size, or put them into different folders"
        )
    if not named and not smallest:
        path = listing.train[0].path
        raise DataError(f"{path} and the other recordings have no events, and name no sensor: set sensor=WIDTHxHEIGHT")
    if named:
        sensor = next(iter(named))
    else:
        sensor = (2, max(size[1] for size in smallest), max(size[2] for size in smallest))
        warnings.warn(
            f"no recording like {listing.train[0].path} names the size of its sensor: {_size(sensor)} is the smallest "
            "that holds all events; if the sensor is larger, set sensor=WIDTHxHEIGHT",
            stacklevel=2,
        )
    return replace(listing, sensor=sensor, read=ReadOwn(sensor, hints))


def _fitted(path: Path, recording: Recording, sensor: Sensor | None) -> Recording:
    """Return a recording as one of `sensor`."""
    if sensor is None or recording.sensor == sensor:
        return recording
    _, height, width = recording.sensor
    if not recording.guessed:
        events: EventArray = recording.events.copy()
        events["x"] = events["x"].astype(np.int64) * sensor[2] // width
        events["y"] = events["y"].astype(np.int64) * sensor[1] // height
        return Recording(events, sensor, recording.partial)
    if len(recording.events) and (height > sensor[1] or width > sensor[2]):
        raise DataError(
            f"{path} has events up to x = {width - 1}, y = {height - 1}, outside of a sensor of {_size(sensor)} "
            "pixels: set sensor=WIDTHxHEIGHT to its size, or repair the recording"
        )
    return Recording(recording.events, sensor, recording.partial)


def files_of(folder: Path, kind: Kind) -> tuple[list[Path], list[Path]]:
    """Return the files of a kind below `folder`, and what else is there but labels and documents.

    Text is of that kind where there is nothing else.
    """
    paths: list[Path] = []
    others: list[Path] = []
    for path in files_in(folder):
        if (
            path.stem.lower() in DOCUMENTS
            or path.name.endswith(LABELS)
            or path.name in (CLASS_NAMES, TRAIN_LIST, TEST_LIST)
        ):
            continue
        (paths if path.suffix.lower() in kind.suffixes else others).append(path)
    if any(path.suffix.lower() not in TEXT for path in paths):
        others += [path for path in paths if path.suffix.lower() in TEXT]
        paths = [path for path in paths if path.suffix.lower() not in TEXT]
    # pictures of recordings, notes about them
    companions = {path.with_suffix("") for path in paths}
    return paths, [path for path in others if path.with_suffix("") not in companions]


def _parts(path: Path, folder: Path) -> tuple[str, ...]:
    return path.relative_to(folder).parts


def _without_loose(folder: Path, paths: Sequence[Path], has_sessions: bool, kind: Kind) -> tuple[list[Path], list[str]]:
    """Return the files without those beside folders of classes, and a remark about these."""
    depth = 1 if has_sessions else 0
    parts = {path: _parts(path, folder) for path in paths}
    with_folders = {each[:depth] for each in parts.values() if len(each) > depth + 1}
    loose = [path for path in paths if len(parts[path]) == depth + 1 and parts[path][:depth] in with_folders]
    if not loose:
        return [*paths], []
    remark = (
        f"{len(loose):,} {kind.noun} beside the folders of classes in {folder} are left out: {some(loose)}; put them "
        "into the folder of their class"
    )
    return [path for path in paths if path not in set(loose)], [remark]


def _more_classes(folder: Path, paths: Sequence[Path], test_session: str, kind: Kind) -> str:
    """Return what to do about a folder of one class."""
    depth = 1 if test_session else 0
    inside = {_parts(path, folder)[depth + 1] for path in paths if len(_parts(path, folder)) > depth + 2}
    if len(inside) > 1:
        first = folder.joinpath(*_parts(paths[0], folder)[: depth + 1])
        name = f"move the folders in {first} one up" if test_session else f"name {first}"
        return f"if its classes are {some(sorted(inside))}, {name}"
    return f"add {kind.noun} of another one, {folder}/CLASS/{kind.example}"


def _by_class(
    folder: Path, paths: Sequence[Path], others: Sequence[Path], has_sessions: bool, kind: Kind
) -> tuple[tuple[str, ...], list[Sample], list[str]]:
    """Return classes and samples of a folder in which folders or files are named after classes, and remarks."""
    depth = 1 if has_sessions else 0
    if any(len(_parts(path, folder)) <= depth for path in paths):
        raise DataError(f"{folder} holds {kind.noun} without a class: put them into a folder for each class")

    def class_of(path: Path) -> str:
        parts = _parts(path, folder)
        return parts[depth] if len(parts) > depth + 1 else Path(parts[-1]).stem

    class_names = tuple(sorted({class_of(path) for path in paths}))
    for name in (str(folder.resolve()), *class_names):
        if not _is_text(name):
            raise DataError(
                f"the name {name!r} is no text in UTF-8, which the files of runs hold: rename the folder or file"
            )
    groups = [path for path in folder.glob("*/*" if has_sessions else "*") if path.is_dir()]
    for group in sorted(groups):
        if group.name not in class_names and not any(map(is_hidden, _parts(group, folder))):
            inside = [path for path in others if path.is_relative_to(group)]
            found = f"its {len(inside):,} files are {some(inside)}" if inside else "it is empty"
            raise DataError(
                f"class {group.name!r} has no {kind.noun} in {group}: {found}; {kind.noun} end in "
                f"{', '.join(kind.suffixes)}: add some, or move the folder away"
            )
    remarks = []
    for name in class_names:
        lost = [path for path in others if class_of(path) == name]
        kept = sum(class_of(path) == name for path in paths)
        if lost:
            remarks.append(
                f"class {name!r} has {kept:,} {kind.noun}; {len(lost):,} more files of it are left out, because they "
                f"{_are_none(lost, kind)}: {some(lost)}"
            )
    remarks += _left_out(folder, [path for path in others if class_of(path) not in class_names], kind)
    samples = [Sample(path, class_names.index(class_of(path))) for path in paths]
    return class_names, samples, remarks


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _left_out(folder: Path, others: Sequence[Path], kind: Kind) -> list[str]:
    if not others:
        return []
    return [f"{len(others):,} files in {folder} are left out, because they {_are_none(others, kind)}: {some(others)}"]


def _are_none(others: Sequence[Path], kind: Kind) -> str:
    """Say why files are none of a kind."""
    suffixes = ", ".join(kind.suffixes)
    if any(path.suffix.lower() in kind.suffixes for path in others):
        return f"are text beside other {kind.noun}, or do not end in {suffixes}"
    return f"do not end in {suffixes}"


def _trials(folder: Path, paths: Sequence[Path]) -> tuple[tuple[str, ...], list[Sample]]:
    """Return classes and samples of a folder in which a CSV beside each file names its parts."""
    trials: list[tuple[Path, str, int, tuple[int, int]]] = []
    for path in paths:
        labels = _labels_of(path)
        if not labels.is_file():
            raise DataError(f"there is no {labels}, as there is for other recordings: add it, or move {path.name} away")
        for item, row in enumerate(_rows(labels, LABEL_COLUMNS)):
            try:
                start, end = (int(number) for number in row[1:])
            except ValueError:
                start = end = 0
            if start >= end or not row[0]:
                raise DataError(
                    f"{labels} has the line {','.join(row)!r}, expected class, start and end in us, the end after the "
                    "start: repair it"
                )
            trials.append((path, row[0], item, (start, end)))
    if not trials:
        raise DataError(f"the files *{LABELS} in {folder} have no lines: add classes and times of their recordings")
    found = {name for _, name, _, _ in trials}
    numbers = sorted(found, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
    samples = [Sample(path, numbers.index(name), item, None, interval) for path, name, item, interval in trials]
    mapping = folder / CLASS_NAMES
    names = {label: action for action, label in _rows(mapping, CLASS_NAME_COLUMNS)} if mapping.is_file() else {}
    return tuple(names.get(number, number) for number in numbers), samples


def _labels_of(path: Path) -> Path:
    return path.with_name(path.stem + LABELS)


def _rows(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """Return the cells of some columns of a CSV file, without spaces around them."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file) if any(map(str.strip, line))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}; repair or replace it") from None
    header = [name.lower() for name in lines[0]] if lines else []
    if not {name.lower() for name in columns} <= set(header):
        raise DataError(f"{path} begins with {','.join(header)!r}, expected the columns {','.join(columns)}: repair it")
    for line in lines[1:]:
        if len(line) != len(header):
            raise DataError(f"{path} has the line {','.join(line)!r}, expected {','.join(header)}: repair it")
    return [[line[header.index(name.lower())] for name in columns] for line in lines[1:]]


def _listed(folder: Path, paths: Sequence[Path], kind: Kind) -> tuple[set[Path], set[Path], list[str]]:
    """Return the files for training and for testing, as two lists in the folder say, and remarks."""
    by_name = {path.name: path for path in paths} | {path.relative_to(folder).as_posix(): path for path in paths}
    splits: list[set[Path]] = []
    missing: list[str] = []
    for name in (TRAIN_LIST, TEST_LIST):
        try:
            entries = [line.strip() for line in (folder / name).read_text(encoding="utf-8-sig").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{folder / name} cannot be read: {error}; add it, or remove both lists") from None
        splits.append({by_name[entry] for entry in entries if entry in by_name})
        missing += [entry for entry in entries if entry and entry not in by_name]
    both = splits[0] & splits[1]
    if both:
        raise DataError(f"{min(both).name} is in {TRAIN_LIST} and in {TEST_LIST} of {folder}: remove it from one")
    unlisted = [path for path in paths if path not in splits[0] | splits[1]]
    remarks = []
    if missing:
        remarks.append(f"{len(missing):,} {kind.noun} of the lists in {folder} are not there: {some(missing)}")
    if unlisted:
        remarks.append(f"{len(unlisted):,} {kind.noun} in {folder} are in none of its lists: {some(unlisted)}")
    return splits[0], splits[1], remarks


def _divided(samples: Sequence[Sample], for_testing: set[Path]) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    train = tuple(sample for sample in samples if sample.path not in for_testing)
    return train, tuple(sample for sample in samples if sample.path in for_testing)


def _check_classes(
    folder: Path, class_names: Sequence[str], train: Sequence[Sample], test: Sequence[Sample], kind: Kind
) -> list[str]:
    """Check that there are training samples of each class; return a remark about those without test samples."""
    trained, tested = (Counter(sample.label for sample in samples) for samples in (train, test))
    for label, name in enumerate(class_names):
        if not trained[label]:
            raise DataError(
                f"class {name!r} has {tested[label]} {kind.noun} for testing in {folder} and none for training: add "
                "some"
            )
    untested = [name for label, name in enumerate(class_names) if not tested[label]]
    return [f"there are no test {kind.noun} in {folder} of {some(untested)}"] if untested else []


def _suffixes(paths: Sequence[Path]) -> str:
    return ", ".join(sorted({path.suffix or path.name for path in paths})[:5])


def _size(sensor: Sensor) -> str:
    return f"{sensor[2]}x{sensor[1]}"
