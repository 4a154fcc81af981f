"""Known data sets in MNIST's format: their files with their hashes, and the names of their classes.

The hashes are MD5 of the `.gz` files, since no others have been published: those in torchvision's list (Fashion-MNIST,
KMNIST, QMNIST), and those of deeplearning4j and the package mnists, which agree (EMNIST).

    Fashion-MNIST  Xiao et al. 2017, arxiv.org/abs/1708.07747: clothes, as large and as balanced as MNIST
    KMNIST         Clanuwat et al. 2018, arxiv.org/abs/1812.01718: ten cursive Japanese characters
    QMNIST         Yadav & Bottou 2019, arxiv.org/abs/1905.10498: MNIST's digits reconstructed, with 60,000 for testing
    EMNIST         Cohen et al. 2017, arxiv.org/abs/1702.05373: letters and digits, in six parts
"""

from __future__ import annotations

import string
from dataclasses import dataclass

from minidl.data.download import RemoteFile
from minidl.data.layout import PARTS, names_of

# LeCun, Cortes, Burges: http://yann.lecun.com/exdb/mnist/ (no files there any more)
MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
MNIST = {
    "train-images": RemoteFile(
        "train-images-idx3-ubyte.gz",
        9912422,
        47040016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels": RemoteFile(
        "train-labels-idx1-ubyte.gz", 28881, 60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
    ),
    "t10k-images": RemoteFile(
        "t10k-images-idx3-ubyte.gz",
        1648877,
        7840016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels": RemoteFile(
        "t10k-labels-idx1-ubyte.gz", 4542, 10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
}

DIGITS = tuple(string.digits)
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
KANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
CHARACTERS = tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase)
MERGED = tuple(string.digits + string.ascii_uppercase + "abdefghnqrt")  # c, i, j, ... look like their capitals
EMNIST_ZIP = "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip"  # 556 MB, too much to download unasked


@dataclass(frozen=True)
class Known:
    """A data set by name.

    files        one RemoteFile for each of the PARTS.
    class_names  in the order of the labels.
    folders      where it is below a folder that holds several, the most common first.
    mirrors      URLs to download it from.
    prefix       of its file names, where they are not MNIST's.
    first_label  the smallest label in the files.
    transposed   whether the images in the files are transposed.
    """

    name: str
    files: dict[str, RemoteFile]
    class_names: tuple[str, ...]
    folders: tuple[str, ...]
    mirrors: tuple[str, ...] = ()
    prefix: str = ""
    first_label: int = 0
    transposed: bool = False

    def names(self, part: str) -> list[str]:
        """The names under which a part's file is looked for, `.gz` first."""
        packed = self.files[part].name
        plain = packed.removesuffix(".gz")
        dotted = [plain.replace("-idx", ".idx") + end for end in (".gz", "")]
        return [packed, plain, *dotted] if self.prefix else names_of(part)


def _files(names: tuple[str, ...], counts: tuple[int, int], packed: tuple[int, ...], md5: str) -> dict[str, RemoteFile]:
    """Four files with this many training and test images, 28x28; `idx2-int` labels have 8 numbers each."""
    label = {"idx1-ubyte": (8, 1), "idx2-int": (12, 32)}
    twice = (counts[0], counts[0], counts[1], counts[1])
    made = {}
    for part, name, n, size, digest in zip(PARTS, names, twice, packed, md5.split(), strict=True):
        head, each = (16, 784) if "images" in name else label[name.split("labels-")[1].removesuffix(".gz")]
        made[part] = RemoteFile(name, size, head + n * each, "", digest)
    return made


_MNIST_NAMES = tuple(names_of(part)[0] for part in PARTS)
_QMNIST_NAMES = tuple(f"qmnist-{part}.gz" for part in (
    "train-images-idx3-ubyte", "train-labels-idx2-int", "test-images-idx3-ubyte", "test-labels-idx2-int"
))  # fmt: skip
_FULL = (60_000, 10_000)

FASHION_MNIST = Known(
    "fashion-mnist",
    _files(
        _MNIST_NAMES, _FULL, (26421880, 29515, 4422102, 5148),
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d 25c81989df183df01b3e8a0aad5dffbe "
        "bef4ecab320f06d8554ea6380940ec79 bb300cfdad3c16e7a12a480ee83cd310",
    ),
    CLOTHES,
    ("FashionMNIST/raw", "FashionMNIST", "fashion-mnist", "fashion_mnist", "fashionmnist", "fashion"),
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
)  # fmt: skip
KMNIST = Known(
    "kmnist",
    _files(
        _MNIST_NAMES, _FULL, (18165135, 29497, 3041136, 5120),
        "bdb82020997e1d708af4cf47b453dcf7 e144d726b3acfaa3e44228e80efcd344 "
        "5c965bf0a639b31b8f53240b1b52f4d7 7320c461ea6c1c855c0b718fb2a4b134",
    ),
    KANA,
    ("KMNIST/raw", "KMNIST", "kmnist"),
    ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
)  # fmt: skip
QMNIST = Known(
    "qmnist",
    _files(
        _QMNIST_NAMES, (60_000, 60_000), (9704059, 463024, 9742279, 526800),
        "ed72d4157d28c017586c42bc6afe6370 0058f8dd561b90ffdd0f734c6a30e5e4 "
        "1394631089c404de565df7b7aeaf9412 5b5b05890a5e13444e108efe57b788aa",
    ),
    DIGITS,
    ("QMNIST/raw", "QMNIST", "qmnist"),
    ("https://raw.githubusercontent.com/facebookresearch/qmnist/master/",),
    prefix="qmnist-",
)  # fmt: skip


def _emnist(part: str, class_names: tuple[str, ...], counts: tuple[int, int], md5: str, first_label: int = 0) -> Known:
    prefix = f"emnist-{part}-"
    names = tuple(prefix + name.replace("t10k", "test") for name in _MNIST_NAMES)
    folders = (*(home + below for home in ("EMNIST", "emnist", ".") for below in ("/raw", "", "/gzip", "/raw/gzip")),
               "emnist_source_files")  # fmt: skip
    files = _files(names, counts, (0, 0, 0, 0), md5)
    return Known(prefix[:-1], files, class_names, folders, (), prefix, first_label, transposed=True)


EMNIST = (
    _emnist(
        "byclass", CHARACTERS, (697_932, 116_323),
        "712dda0bd6f00690f32236ae4325c377 ee299a3ee5faf5c31e9406763eae7e43 "
        "1435209e34070a9002867a9ab50160d7 7a0f934bd176c798ecba96b36fda6657",
    ),
    _emnist(
        "bymerge", MERGED, (697_932, 116_323),
        "4a792d4df261d7e1ba27979573bf53f3 491be69ef99e1ab1f5b7f9ccc908bb26 "
        "8eb5d34c91f1759a55831c37ec2a283f c13f4cd5211cdba1b8fa992dae2be992",
    ),
    _emnist(
        "balanced", MERGED, (112_800, 18_800),
        "4041b0d6f15785d3fa35263901b5496b 7a35cc7b2b7ee7671eddf028570fbd20 "
        "6818d20fe2ce1880476f747bbc80b22b acd3694070dcbf620e36670519d4b32f",
    ),
    _emnist(
        "letters", tuple(string.ascii_lowercase), (124_800, 20_800),  # each with its capital
        "8795078f199c478165fe18db82625747 c16de4f1848ddcdddd39ab65d2a7be52 "
        "382093a19703f68edac6d01b8dfdfcad d4108920cd86601ec7689a97f2de7f59",
        first_label=1,
    ),
    _emnist(
        "digits", DIGITS, (240_000, 40_000),
        "d2662ecdc47895a6bbfce25de9e9a677 2223fcfee618ac9c89ef20b6e48bcf9e "
        "a159b8b3bd6ab4ed4793c1cb71a2f5cc 8afde66ea51d865689083ba6bb779fac",
    ),
    _emnist(
        "mnist", DIGITS, (60_000, 10_000),
        "3663598a39195d030895b6304abb5065 6c092f03c9bb63e678f80f8bc605fe37 "
        "fb51b6430fc4dd67deaada1bf25d4524 ae7f6be798a9a5d5f2bd32e078a402dd",
    ),
)  # fmt: skip

KNOWN = {known.name: known for known in (FASHION_MNIST, KMNIST, QMNIST, *EMNIST)}
