"""Samples: the images a model is measured on, with their names and labels.

They come from a NumPy archive (keys ``image`` or ``x``, and ``label`` if known) or from a
folder of image files with a CSV of labels beside it.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from accel.errors import ImageError, InputError
from accel.images import ImageChain, image_files, read_folder

MAX_ARRAY_BYTES = 4 << 30
FILE_COLUMNS = ("file", "name", "image")
LABEL_COLUMNS = ("class_index", "label", "class")
IMAGE_KEYS = ("image", "x")
LABEL_KEYS = ("label", "y")


@dataclass(frozen=True)
class Samples:
    """Rows for a model.

    Attributes
    ----------
    x : (N, ...) the inputs; images are (N, H, W, C) uint8
    names : N names, for reports
    labels : (N,) int64 class indices, or None where they are not known
    errors : name to error of each image file that could not be used; these are not in `x`
    """

    x: npt.NDArray[np.generic]
    names: tuple[str, ...]
    labels: npt.NDArray[np.int64] | None = None
    errors: dict[str, ImageError] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x)


def load_input(
    path: str | Path,
    *,
    labels: str | Path | None = None,
    chain: ImageChain | None = None,
    limit: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Samples:
    """Load an .npz archive or a folder of images.

    Parameters
    ----------
    path : archive with ``image`` or ``x`` (and ``label``), or folder of image files
    labels : CSV with a header: a column ``file`` and a column ``class_index`` or ``label``
    chain : steps applied to each image; must leave all of them with one size
    limit : use the first `limit` rows only
    progress : called with (files done, files in all) while a folder is read

    Raises
    ------
    InputError
        If nothing usable is there, sizes differ, or a label is missing.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, not {limit}")
    source = Path(path)
    if source.is_dir():
        samples = _load_folder(source, chain or ImageChain(), limit, progress)
    elif source.suffix == ".npz" and source.is_file():
        samples = _load_archive(source, chain, limit)
    else:
        raise InputError(f"no input at {source}: give an .npz file or a folder of images")
    if labels is None:
        return samples
    known = _labels_of(samples.names, read_labels(labels), Path(labels))
    return Samples(samples.x, samples.names, known, samples.errors)


def read_labels(path: str | Path) -> dict[str, int]:
    """Read a CSV of labels: file name to class index.

    Raises
    ------
    InputError
        If the file or a column is missing, or a label is not a whole number.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read labels from {path}: {error}") from error
    columns = tuple(rows[0]) if rows else ()
    file = next((c for c in FILE_COLUMNS if c in columns), None)
    label = next((c for c in LABEL_COLUMNS if c in columns), None)
    if file is None or label is None:
        raise InputError(
            f"{path} has columns {columns}; expected one of {FILE_COLUMNS} for the file and "
            f"one of {LABEL_COLUMNS} for its class"
        )
    return {row[file]: _label(row[label], path) for row in rows}


def _label(text: str | None, path: str | Path) -> int:
    try:
        return int(text or "")
    except ValueError as error:
        raise InputError(f"{path}: label {text!r} is not a whole number") from error


def _labels_of(names: tuple[str, ...], known: dict[str, int], path: Path) -> npt.NDArray[np.int64]:
    missing = [name for name in names if name not in known]
    if missing:
        raise InputError(f"{path} has no label for {missing[0]} ({len(missing)} missing)")
    return np.array([known[name] for name in names], np.int64)


def _load_folder(
    folder: Path,
    chain: ImageChain,
    limit: int | None,
    progress: Callable[[int, int], object] | None,
) -> Samples:
    total = len(image_files(folder)[:limit])
    images: dict[str, npt.NDArray[np.uint8]] = {}
    errors: dict[str, ImageError] = {}
    for done, (name, image) in enumerate(read_folder(folder), start=1):
        try:
            if isinstance(image, ImageError):
                raise image
            images[name] = chain(image)
        except ImageError as error:
            errors[name] = error
        if progress is not None:
            progress(done, total)
        if done == limit:
            break
    return Samples(_stack(folder, images, errors), tuple(images), None, errors)


def _stack(
    folder: Path, images: dict[str, npt.NDArray[np.uint8]], errors: dict[str, ImageError]
) -> npt.NDArray[np.uint8]:
    if not images:
        reason = f"; the first error: {next(iter(errors.values()))}" if errors else ""
        raise InputError(f"no usable image in {folder}{reason}")
    sizes = {image.shape[:2] for image in images.values()}
    if len(sizes) > 1:
        message = f"images in {folder} have {len(sizes)} different sizes after resize and crop"
        raise InputError(f"{message}; give resize, crop or both so that they end up equal")
    return np.stack(list(images.values()))


def _load_archive(path: Path, chain: ImageChain | None, limit: int | None) -> Samples:
    arrays = _read_archive(path)
    key = next(k for k in IMAGE_KEYS if k in arrays)
    if arrays[key].shape[:1] in ((), (0,)):
        given = f"shape {arrays[key].shape}"
        raise InputError(f"{path}: {key!r} has {given}; expected at least one row")
    x = arrays[key][:limit]
    if chain is not None and chain != ImageChain():
        x = np.stack([chain(image) for image in x])
    label = next((k for k in LABEL_KEYS if k in arrays), None)
    labels = None if label is None else _archive_labels(path, arrays[label][:limit], len(x))
    return Samples(x, tuple(str(i) for i in range(len(x))), labels)


def _archive_labels(path: Path, labels: npt.NDArray[np.generic], n: int) -> npt.NDArray[np.int64]:
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        given = f"shape {labels.shape} of {labels.dtype}"
        raise InputError(f"{path}: labels have {given}; expected ({n},) of whole numbers")
    return labels.astype(np.int64)


def _read_archive(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Arrays of an .npz that are of use here; the sizes it claims are checked before reading."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {m.filename.removesuffix(".npy"): m.file_size for m in archive.infolist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a readable .npz archive: {error}") from error
    keys = [k for k in sizes if k in IMAGE_KEYS + LABEL_KEYS]
    if not set(keys) & set(IMAGE_KEYS):
        raise InputError(f"{path} holds {sorted(sizes)}; expected one of {IMAGE_KEYS}")
    claimed = sum(sizes[k] for k in keys)
    if claimed > MAX_ARRAY_BYTES:
        raise InputError(f"{path} unpacks to {claimed} bytes, more than {MAX_ARRAY_BYTES}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {k: archive[k] for k in keys}
    except Exception as error:  # zip, zlib and npy readers each have their own
        raise InputError(f"{path} is not a readable .npz archive: {error}") from error
