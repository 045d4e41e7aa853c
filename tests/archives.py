"""Small archives with exactly the layout that each publisher ships, from real small images."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile

import numpy as np
from PIL import Image


def jpeg(seed, size=(24, 18)):
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)).resize(size)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def text(*lines):
    return ("\n".join(lines) + "\n").encode()


def write_tar(path, files, mode="w:gz"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_zip(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_files(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")


def cub_2011(per_class=20):
    names = [f"{bird}/{bird[4:]}_{i:04}_{i}.jpg" for bird in BIRDS for i in range(per_class)]
    number = range(1, len(names) + 1)
    top = "CUB_200_2011"
    return {
        f"{top}/README": b"text",
        f"{top}/images.txt": text(*(f"{n} {name}" for n, name in zip(number, names, strict=True))),
        f"{top}/image_class_labels.txt": text(
            *(f"{n} {int(name[:3])}" for n, name in zip(number, names, strict=True))
        ),
        f"{top}/classes.txt": text(*(f"{int(bird[:3])} {bird}" for bird in BIRDS)),
        f"{top}/train_test_split.txt": text(*(f"{n} {n % 2}" for n in number)),
        f"{top}/bounding_boxes.txt": text(*(f"{n} 1.0 1.0 9.0 9.0" for n in number)),
        "attributes.txt": text("1 has_bill_shape::curved"),
    } | {f"{top}/images/{name}": jpeg(seed) for seed, name in enumerate(names)}


def cub_2010(per_class=20):
    """The images and the lists, as in the two archives."""
    names = [f"{bird}/{bird[4:]}_{i:04}_{29501 + i}.jpg" for bird in BIRDS for i in range(per_class)]
    images = {f"images/{name}": jpeg(seed) for seed, name in enumerate(names)}
    images |= {f"images/{BIRDS[0]}/._{names[0].split('/')[1]}": b"\0\5\x16\7"}
    lists = {
        "lists/train.txt": text(*names[0::2]),
        "lists/test.txt": text(*names[1::2]),
        "lists/classes.txt": text(*BIRDS),
        "lists/files.txt": text(*names),
    }
    return images, lists


def dogs(count=12):
    """Microsoft's archive, its known-bad files among the good ones."""
    files = {"readme[1].txt": b"text", "MSR-LA - 3467.docx": b"PK"}
    for offset, kind in enumerate(("Cat", "Dog")):
        files |= {f"PetImages/{kind}/{i}.jpg": jpeg(1000 * offset + i) for i in range(count)}
        files[f"PetImages/{kind}/Thumbs.db"] = b"\xd0\xcf\x11\xe0"
    return files | {"PetImages/Cat/666.jpg": b"", "PetImages/Dog/11702.jpg": b""}


def kaggle_dogs(count=12):
    pairs = [(kind, i) for kind in ("cat", "dog") for i in range(count)]
    return {f"train/{kind}.{i}.jpg": jpeg(1000 * (kind == "dog") + i) for kind, i in pairs}


def planes(label_bytes, seed):
    rng = np.random.default_rng(seed)
    return bytes(label_bytes) + rng.integers(0, 256, 3072, dtype=np.uint8).tobytes()


CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def cifar10(per_batch=20):
    files = {"batches.meta.txt": text(*CIFAR10, ""), "readme.html": b"<html>"}
    for place, name in enumerate([f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin"]):
        records = [planes([i % 10], place * per_batch + i) for i in range(per_batch)]
        files[name] = b"".join(records)
    return {f"cifar-10-batches-bin/{name}": content for name, content in files.items()}


def cifar100(train=200, test=100):
    files = {
        "fine_label_names.txt": text(*(f"fine{n}" for n in range(100))),
        "coarse_label_names.txt": text(*(f"coarse{n}" for n in range(20))),
        "train.bin": b"".join(planes([i % 100 // 5, i % 100], i) for i in range(train)),
        "test.bin": b"".join(planes([i % 100 // 5, i % 100], 9000 + i) for i in range(test)),
    }
    return {f"cifar-100-binary/{name}": content for name, content in files.items()}


def fashion(train=60, test=30):
    files = {}
    for part, count, seed in (("train", train, 0), ("t10k", test, 1)):
        pixels = np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        images = struct.pack(">BBBBIII", 0, 0, 8, 3, count, 28, 28) + pixels.tobytes()
        labels = struct.pack(">BBBBI", 0, 0, 8, 1, count) + bytes(i % 10 for i in range(count))
        files |= {f"{part}-images-idx3-ubyte.gz": gzip.compress(images)}
        files |= {f"{part}-labels-idx1-ubyte.gz": gzip.compress(labels)}
    return files


def medmnist(side=28, counts=(("train", 27), ("val", 9), ("test", 18))):
    arrays = {}
    for seed, (split, count) in enumerate(counts):
        rng = np.random.default_rng(seed)
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 9)[:, None].astype(np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def scenes(per_class=4):
    return {f"15-Scene/{c:02}/{i}.jpg": jpeg(100 * c + i) for c in range(15) for i in range(per_class)}
