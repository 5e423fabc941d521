"""The data sets minidl knows: what they hold, what their files are called, where their publishers keep them.

Every download is pinned by size and sha256.  The sums of MNIST and Fashion-MNIST were taken of files whose md5 equal
the ones their publishers print; those of the CIFAR archives and of SVHN are the ones several public data libraries
pin for the same addresses.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Remote:
    """A file at its publisher: addresses in the order they are tried, size in bytes, sha256."""

    name: str
    urls: tuple[str, ...]
    size: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """The files of a training or test set, each a tuple of files read together, and the official number of images."""

    files: tuple[tuple[str, ...], ...]
    count: int


@dataclass(frozen=True)
class Source:
    """One data set.

    ``folders`` are the names its folder may have under a data folder: minidl's own, the publisher's, torchvision's.
    ``label_bytes`` is the number of classes of each label byte of a CIFAR record.
    """

    name: str
    format: Literal["idx", "cifar", "svhn"]
    folders: tuple[str, ...]
    class_names: tuple[str, ...]
    train: Split
    test: Split
    remote: tuple[Remote, ...]
    label_bytes: tuple[int, ...] = ()


def _idx(sums: dict[str, tuple[int, str]], *bases: str) -> tuple[Remote, ...]:
    return tuple(Remote(name, tuple(b + name for b in bases), size, sha) for name, (size, sha) in sums.items())


_DIGITS = tuple("0123456789")
_IDX_TRAIN = Split((("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),), 60000)
_IDX_TEST = Split((("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),), 10000)
_TORONTO = "https://www.cs.toronto.edu/~kriz/"
_STANFORD = "http://ufldl.stanford.edu/housenumbers/"  # served without https; the sha256 decides

MNIST = Source(
    name="mnist",
    format="idx",
    folders=("mnist", "MNIST/raw"),
    class_names=_DIGITS,
    train=_IDX_TRAIN,
    test=_IDX_TEST,
    remote=_idx(
        {
            "train-images-idx3-ubyte.gz": (
                9912422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            "train-labels-idx1-ubyte.gz": (28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            "t10k-images-idx3-ubyte.gz": (1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            "t10k-labels-idx1-ubyte.gz": (4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        },
        # The publisher's own address often refuses downloads; these two mirrors hold the same bytes.
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ),
)

FASHION_MNIST = Source(
    name="fashion-mnist",
    format="idx",
    folders=("fashion-mnist", "FashionMNIST/raw"),
    class_names=(
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    train=_IDX_TRAIN,
    test=_IDX_TEST,
    remote=_idx(
        {
            "train-images-idx3-ubyte.gz": (
                26421880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            "train-labels-idx1-ubyte.gz": (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            "t10k-images-idx3-ubyte.gz": (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            "t10k-labels-idx1-ubyte.gz": (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        },
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
)  # fmt: skip

CIFAR10 = Source(
    name="cifar-10",
    format="cifar",
    folders=("cifar-10", "cifar-10-batches-bin", "cifar-10-batches-py"),
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    train=Split(tuple((f"data_batch_{n}.bin",) for n in range(1, 6)), 50000),
    test=Split((("test_batch.bin",),), 10000),
    remote=(
        Remote(
            "cifar-10-binary.tar.gz",
            (_TORONTO + "cifar-10-binary.tar.gz",),
            170052171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
    label_bytes=(10,),
)

CIFAR100 = Source(
    name="cifar-100",
    format="cifar",
    folders=("cifar-100", "cifar-100-binary", "cifar-100-python"),
    class_names=(
        "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
        "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
        "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup",
        "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house",
        "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man",
        "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange", "orchid",
        "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine",
        "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew",
        "skunk", "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar", "sunflower",
        "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor", "train", "trout",
        "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
    ),
    train=Split((("train.bin",),), 50000),
    test=Split((("test.bin",),), 10000),
    remote=(
        Remote(
            "cifar-100-binary.tar.gz",
            (_TORONTO + "cifar-100-binary.tar.gz",),
            168513733,
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        ),
    ),
    label_bytes=(20, 100),
)  # fmt: skip

SVHN = Source(
    name="svhn",
    format="svhn",
    folders=("svhn",),
    class_names=_DIGITS,
    train=Split((("train_32x32.mat",),), 73257),
    test=Split((("test_32x32.mat",),), 26032),
    remote=(
        Remote(
            "train_32x32.mat",
            (_STANFORD + "train_32x32.mat",),
            182040794,
            "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
        ),
        Remote(
            "test_32x32.mat",
            (_STANFORD + "test_32x32.mat",),
            64275384,
            "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
        ),
    ),
)

SOURCES = {source.name: source for source in (MNIST, CIFAR10, SVHN, FASHION_MNIST, CIFAR100)}
