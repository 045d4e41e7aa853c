"""The rows: what each data set is, as its publisher states it."""

from __future__ import annotations

from probe.datasets.row import DatasetRow
from probe.internet import RemoteFile

FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

PATHMNIST_CLASSES = (
    *("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle"),
    *("normal colon mucosa", "cancer-associated stroma", "colorectal adenocarcinoma epithelium"),
)

_ZENODO = "https://zenodo.org/records/10519652"
# Without confirm=t the drive answers a large file with a page that asks whether one means it.
_DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
_CIFAR = "https://www.cs.toronto.edu/~kriz/"
_FASHION = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
_IMAGENET_BIRDS = "some of these photographs are also in ImageNet, on which most backbones were trained"


def _pathmnist(side: int, md5: str, size: int = 0) -> DatasetRow:
    suffix = "" if side == 28 else f"_{side}"
    file = f"pathmnist{suffix}.npz"
    return DatasetRow(
        name=f"pathmnist{suffix.replace('_', '-')}",
        loader="probe.datasets.medmnist:read_medmnist",
        summary=f"107,180 patches of colon tissue, {side}×{side}, 9 classes",
        classes=9,
        images=107_180,
        splits={"train": 89_996, "val": 10_004, "test": 7_180},
        files=(RemoteFile(file, f"{_ZENODO}/files/{file}?download=1", size, md5=md5),),
        class_names=PATHMNIST_CLASSES,
        licence="CC BY 4.0",
        source=_ZENODO,
        facts={"publisher_split": "train, val and test of the file"},
        caveats=() if size else ("the size of the file is not known, its md5 is the publisher's",),
        variant=str(side),
        markers=(file,),
    )


def _dogs(name: str, variant: str = "") -> DatasetRow:
    parts = {"train": 2_000, "val": 1_000, "test": 1_000} if variant else {}
    return DatasetRow(
        name=name,
        loader="probe.datasets.dogs:read_dogs",
        summary="2,000 / 1,000 / 1,000 of dogs-vs-cats" if variant else "25,000 photographs, 2 classes",
        folder="dogs-vs-cats",
        classes=2,
        images=4_000 if variant else 25_000,
        splits=parts,
        files=(
            RemoteFile(
                "kagglecatsanddogs_5340.zip",
                "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/"
                "kagglecatsanddogs_5340.zip",
                824_887_076,
                sha256="b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
            ),
        ),
        class_names=("cat", "dog"),
        licence="Microsoft Research, Asirra: for research",
        source="https://www.microsoft.com/en-us/download/details.aspx?id=54765",
        facts={"publisher_split": "none"}
        | (
            {"subset": "of each class the first 1,000 / 500 / 500 files by number, empty ones passed over"}
            if variant
            else {}
        ),
        caveats=(
            "the hash of the archive is known from one third party only",
            "Kaggle's archive holds a train.zip: unpack that one",
        ),
        variant=variant,
        broken=("Cat/666.jpg", "Dog/11702.jpg"),
        markers=("PetImages", "train/cat.0.jpg", "cat.0.jpg"),
    )


def _cifar100(name: str, variant: str, classes: int, images: tuple[int, int]) -> DatasetRow:
    return DatasetRow(
        name=name,
        loader="probe.datasets.cifar:read_cifar100",
        summary=f"{sum(images):,} pictures, 32×32, {classes} classes",
        folder="cifar100",
        classes=classes,
        images=sum(images),
        splits={"train": images[0], "test": images[1]},
        files=(
            RemoteFile(
                "cifar-100-binary.tar.gz",
                f"{_CIFAR}cifar-100-binary.tar.gz",
                168_513_733,
                sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            ),
        ),
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
        facts={"publisher_split": "train.bin and test.bin"}
        | ({"subset": "the first 25 fine labels by number"} if variant == "25" else {}),
        caveats=("some test pictures have near-duplicates in train (about 10 %)",),
        variant=variant,
        markers=("fine_label_names.txt", "train.bin"),
    )


ROWS = (
    DatasetRow(
        name="fashion-sample",
        loader="probe.datasets.sample:read_sample",
        summary="3,500 pictures of Fashion-MNIST, 28×28 grey, 10 classes; ships with the repository",
        classes=10,
        images=3_500,
        splits={"train": 2_000, "val": 500, "test": 1_000},
        class_names=FASHION_CLASSES,
        licence="MIT",
        source="https://github.com/zalandoresearch/fashion-mnist",
        facts={"publisher_split": "the first images of each class of the training and the test file"},
    ),
    DatasetRow(
        name="cub200",
        loader="probe.datasets.cub:read_2010",
        summary="6,033 photographs of birds, 200 classes: CUB-200 of 2010",
        classes=200,
        images=6_033,
        splits={"train": 3_000, "test": 3_033},
        files=(
            RemoteFile(
                "images.tgz",
                f"{_DRIVE}1GDr1OkoXdhaXWGA8S3MAq3a522Tak-nx",
                679_421_896,
                sha256="2a6d2246bbb9778ca03aa94e2e683ccb4f8821a36b7f235c0822e659d60a803e",
            ),
            RemoteFile(
                "lists.tgz",
                f"{_DRIVE}1vZuZPqha0JjmwkdaS_XtYryE3Jf5Q1AC",
                201_844,
                sha256="aeacbd5e3539ae84ea726e8a266a9a119c18f055cd80f3836d5eb4500b005428",
            ),
        ),
        source="https://www.vision.caltech.edu/datasets/",
        facts={"year": "2010", "publisher_split": "lists/train.txt and lists/test.txt"},
        caveats=(
            "the mirror is a drive: it may refuse a file that many people fetched on the same day",
            "the layout is known from other readers only: images/CLASS/FILE.jpg, lists/{train,test}.txt",
            _IMAGENET_BIRDS,
        ),
        markers=("lists/train.txt",),
    ),
    DatasetRow(
        name="cub200-2011",
        loader="probe.datasets.cub:read_2011",
        summary="11,788 photographs of birds, 200 classes: CUB-200-2011",
        classes=200,
        images=11_788,
        splits={"train": 5_994, "test": 5_794},
        files=(
            RemoteFile(
                "CUB_200_2011.tgz",
                "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
                1_150_585_339,
                sha256="0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
                md5="97eceeb196236b17998738112f37df78",
            ),
        ),
        source="https://data.caltech.edu/records/65de6-vp158",
        facts={"year": "2011", "publisher_split": "train_test_split.txt"},
        caveats=(_IMAGENET_BIRDS,),
        markers=("image_class_labels.txt",),
    ),
    _pathmnist(28, "a8b06965200029087d5bd730944a56c1", 205_615_438),
    _pathmnist(64, "55aa9c1e0525abe5a6b9d8343a507616"),
    _pathmnist(128, "ac42d08fb904d92c244187169d1fd1d9"),
    _pathmnist(224, "2c51a510bcdc9cf8ddb2af93af1eadec"),
    _dogs("dogs-vs-cats"),
    _dogs("dogs-vs-cats-2000", variant="2000"),
    DatasetRow(
        name="cifar10",
        loader="probe.datasets.cifar:read_cifar10",
        summary="60,000 pictures, 32×32, 10 classes",
        classes=10,
        images=60_000,
        splits={"train": 50_000, "test": 10_000},
        files=(
            RemoteFile(
                "cifar-10-binary.tar.gz",
                f"{_CIFAR}cifar-10-binary.tar.gz",
                170_052_171,
                sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            ),
        ),
        class_names=(
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
        facts={"publisher_split": "the data batches and the test batch"},
        caveats=("some test pictures have near-duplicates in train (about 3 %)",),
        markers=("data_batch_1.bin",),
    ),
    _cifar100("cifar100", "", 100, (50_000, 10_000)),
    _cifar100("cifar100-coarse", "coarse", 20, (50_000, 10_000)),
    _cifar100("cifar100-25", "25", 25, (12_500, 2_500)),
    DatasetRow(
        name="fashion-mnist",
        loader="probe.datasets.idx:read_fashion",
        summary="70,000 pictures of clothes, 28×28 grey, 10 classes",
        classes=10,
        images=70_000,
        splits={"train": 60_000, "test": 10_000},
        files=tuple(
            RemoteFile(f"{name}.gz", f"{_FASHION}{name}.gz", md5=md5)
            for name, md5 in (
                ("train-images-idx3-ubyte", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
                ("train-labels-idx1-ubyte", "25c81989df183df01b3e8a0aad5dffbe"),
                ("t10k-images-idx3-ubyte", "bef4ecab320f06d8554ea6380940ec79"),
                ("t10k-labels-idx1-ubyte", "bb300cfdad3c16e7a12a480ee83cd310"),
            )
        ),
        class_names=FASHION_CLASSES,
        licence="MIT",
        source="https://github.com/zalandoresearch/fashion-mnist",
        facts={"publisher_split": "the train and the t10k files"},
        caveats=("Debian's package holds the same pictures, compressed anew: other bytes, other md5",),
        markers=tuple(f"train-images{joint}idx3-ubyte{end}" for joint in ("-", ".") for end in (".gz", "")),
        installed="/usr/share/datasets/fashion-mnist",
    ),
    DatasetRow(
        name="scenes15",
        loader="probe.datasets.scenes:read_scenes",
        summary="4,485 photographs of 15 scenes; bring your own copy",
        classes=15,
        images=4_485,
        source="Lazebnik, Schmid, Ponce 2006; a folder per class",
        any_layout=True,
        facts={"publisher_split": "none"},
        caveats=("copies differ in the names of the class folders and in the format of the images",),
    ),
)
