"""Which names of folders are names of splits, in the spellings that data sets are published with."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from probe.datasets.dataset import NO_SPLIT, TEST, TRAIN, VAL

_EVALUATION = ("eval", "evaluation")

SPLIT_FOLDERS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training", "trn"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "devel", "development"), VAL),
    **dict.fromkeys(("test", "testing", "tst", "holdout", *_EVALUATION), TEST),
}
"""The words themselves, in lower case."""

PICTURES = frozenset(
    (
        *("images", "image", "imgs", "img", "pictures", "picture", "pics", "pic", "photos", "photo"),
        *("jpegimages", "jpegs", "jpeg", "jpg", "png", "pngs", "data", "dataset"),
    )
)
"""Folders called so hold pictures, and say nothing about what is on them."""

BESIDE_PICTURES = frozenset(
    (
        *("labels", "label", "masks", "mask", "annotations", "annotation", "annots", "gt"),
        *("segmentation", "segmentations", "segmentationclass", "segmentationobject"),
        *("groundtruth", "ground_truth", "ground-truth"),
    )
)
"""Folders called so hold something about the pictures of the folder beside them."""

UNLABELLED_FOLDERS = frozenset(("unlabelled", "unlabeled"))
"""Folders called so are no classes, wherever they lie."""

WITHOUT_LABELS = UNLABELLED_FOLDERS | frozenset(("pred", "predict", "prediction", "submission"))

_COMPANIONS = PICTURES | {"set", "split", "part", "folder", "dir", "x"}
_GLUED = re.compile(rf"^({'|'.join(SPLIT_FOLDERS)})(set|images|imgs|data|img)$")


def split_folders(names: Iterable[str]) -> dict[str, str]:
    """Those of the folders lying side by side that are named after a split, and the split of each.

    A name is that of a split when it is one of the words, in any case, alone or beside numbers and words
    that only say that there are pictures (``test1``, ``images_train``, ``Training Set``, ``train2017``). With
    another word it is one when the same name with the word of another split lies beside it
    (``seg_train`` and ``seg_test``). ``eval`` is test, and validation where there is another test.
    Folders for pictures without labels get ``""`` when they share the frame of such names.
    """
    read = {name: found for name in names if (found := _split_word(name)) is not None}
    frames: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for word, frame in read.values():
        if word in SPLIT_FOLDERS:
            frames[frame].add(SPLIT_FOLDERS[word])
    known = {
        name: word
        for name, (word, frame) in read.items()
        if (not frame or len(frames[frame]) > 1) and (word in SPLIT_FOLDERS or frames[frame])
    }
    splits = {name: SPLIT_FOLDERS.get(word, NO_SPLIT) for name, word in known.items()}
    other_test = any(split == TEST and known[name] not in _EVALUATION for name, split in splits.items())
    if other_test and VAL not in splits.values():
        splits |= {name: VAL for name, word in known.items() if word in _EVALUATION}
    return splits


def _split_word(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The one word of a split in `name`, and the words beside it that are no companions; None without it."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    words = re.sub(r"hold[^a-z]+out", "holdout", apart)
    parts = [piece for word in re.findall(r"[a-z]+", words) for piece in _GLUED.sub(r"\1 \2", word).split()]
    own = [word for word in parts if word in SPLIT_FOLDERS or word in WITHOUT_LABELS]
    if len(own) != 1:
        return None
    return own[0], tuple(word for word in parts if word != own[0] and word not in _COMPANIONS)
