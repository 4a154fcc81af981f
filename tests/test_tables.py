"""`python -m minidl.data`: a table of pictures, however it was written, becomes IDX files with just these."""

import csv
import gzip
import io
import pickle
import tarfile
import warnings

import numpy as np
import pytest

from minidl import load_mnist
from minidl.data import DataError
from minidl.handwriting.arrays import read_arrays
from minidl.handwriting.columns import read_columns
from minidl.handwriting.tables import collect_tables, tables_in
from tests.commands import command, fails

DIGITS = load_mnist("mnist5k")
MODULE = "minidl.data"
TAR = tarfile.TarInfo("x.csv").tobuf()


def make(*args):
    result = command(*args, module=MODULE)
    assert result.returncode == 0, result.stderr
    return result.stdout


def table(path, images, labels=None, title="label", first=True):
    """A CSV file as Kaggle's; without labels as its file to be told; without a title as older ones."""
    rows = images.reshape(len(images), -1)
    names = [f"pixel{i}" for i in range(rows.shape[1])]
    if labels is not None:
        rows = np.insert(rows.astype(int), 0 if first else rows.shape[1], labels, axis=1)
        names = [title, *names] if first else [*names, title]
    head = [",".join(names)] if title else []
    path.write_text("\n".join([*head, *(",".join(map(str, row)) for row in rows.tolist())]) + "\n")


@pytest.mark.parametrize(("title", "first"), [("label", True), ("class", False), (None, True)])
def test_a_table_has_its_pixels_and_labels(tmp_path, title, first):
    images, labels = DIGITS.train_images[::40], DIGITS.train_labels[::40]
    table(tmp_path / "train.csv", images, labels, title, first)
    make(tmp_path / "train.csv", tmp_path / "o")
    made = load_mnist(str(tmp_path / "o"))
    assert made.inverted is None
    got = pairs([made.train_images, made.train_labels, made.test_images, made.test_labels])
    assert got == sorted((int(k), image.tobytes()) for image, k in zip(images, labels, strict=True))
    assert np.bincount(made.test_labels).tolist() == [round(0.2 * n) for n in np.bincount(labels)]


@pytest.mark.parametrize("options", [{}, {"fmt": "%4d"}, {"fmt": "%d", "delimiter": ","}, {"fmt": "%g "}])
@pytest.mark.parametrize("titled", [True, False])
def test_what_savetxt_writes(tmp_path, options, titled):
    """It puts a blank between numbers, and a # before a line of names."""
    images, labels = DIGITS.train_images[::40], DIGITS.train_labels[::40]
    names = options.get("delimiter", " ").join(["label", *(f"pixel{i}" for i in range(784))])
    rows = np.insert(images.reshape(len(images), -1).astype(int), 0, labels, axis=1)
    np.savetxt(tmp_path / "train.csv", rows, header=names if titled else "", **options)
    make(tmp_path / "train.csv", tmp_path / "o")
    made = load_mnist(str(tmp_path / "o"))
    got = pairs([made.train_images, made.train_labels, made.test_images, made.test_labels])
    assert got == sorted((int(k), image.tobytes()) for image, k in zip(images, labels, strict=True))


def test_a_folder_of_tables(tmp_path):
    for part, of in (("mnist_train.csv", DIGITS.train_images[:30]), ("mnist_test.csv", DIGITS.test_images[:7])):
        table(tmp_path / part, of, np.arange(len(of)) % 3)
    make(tmp_path, tmp_path / "o")
    made = load_mnist(str(tmp_path / "o"))
    np.testing.assert_array_equal(made.test_images, DIGITS.test_images[:7])
    np.testing.assert_array_equal(made.train_labels, np.arange(30) % 3)
    table(tmp_path / "mnist_test.csv", DIGITS.test_images[:7])  # as Kaggle's, without labels
    assert "note: skipped: mnist_test.csv has no labels" in make(tmp_path, tmp_path / "p")
    assert len(load_mnist(str(tmp_path / "p")).test_labels) == 6


@pytest.mark.parametrize(("part", "first", "names"), [("letters", 1, "abcdefg"), ("balanced", 0, "0123456")])
def test_tables_of_emnist_have_its_names(tmp_path, part, first, names):
    """Letters count from 1 there, in the tables too; all else from 0."""
    labels = np.arange(28) % 7
    for kind, of in (("train", DIGITS.train_images[:28]), ("test", DIGITS.test_images[:28])):
        table(tmp_path / f"emnist-{part}-{kind}.csv", of.transpose(0, 2, 1), labels + first, title=None)
    assert ("labels shifted to start at 0, not 1" in make(tmp_path, tmp_path / "o")) == bool(first)
    made = load_mnist(str(tmp_path / "o"))
    assert "".join(made.class_names) == names
    np.testing.assert_array_equal(made.train_labels, labels)
    np.testing.assert_array_equal(made.test_labels, labels)


def test_emnist_s_tables_are_set_upright(tmp_path):
    """They are transposed, as its IDX files are; else a network reads them well, and nobody's handwriting."""
    for part, of in (("train", DIGITS.train_images[:30]), ("test", DIGITS.test_images[:7])):
        table(tmp_path / f"emnist-digits-{part}.csv", of.transpose(0, 2, 1), np.arange(len(of)) % 3, title=None)
    assert "note: emnist-digits-train.csv: images transposed" in make(tmp_path, tmp_path / "o")
    made = load_mnist(str(tmp_path / "o"))
    np.testing.assert_array_equal(made.train_images, DIGITS.train_images[:30])
    np.testing.assert_array_equal(made.test_images, DIGITS.test_images[:7])


def test_what_is_no_such_table_is_told(tmp_path):
    file, out = tmp_path / "x.csv", tmp_path / "o"
    for text, words in (
        ("label,pixel0\n", "no rows of numbers"),
        ("label,a,b,c\n1,2,3,4\n", "4 values per row"),
        ("label,a\n1,300\n", "the pixels are from 300 to 300"),
        ("label,a\n1,20\n2,30\n6,300\n", "are from 20 to 300, they must be 0 to 255: see image 3 of 3\n"),
        ("label,a\n1,-0.4\n2,2.8\n", "are from -0.4 to 2.8, they must be 0 to 1 or 0 to 255: see image 1 of 2\n"),
        ("label,a\n1,0.5\n2,200\n", "must be whole numbers, but one is 0.5"),
        ("label,a\n1,\n", "column 2 is empty: a value is missing, or there is an extra separator at the end"),
        ("label,a,b,c,d\n1,,3,4,5\n", "line 2, column 2 is empty: a value is missing\n"),
        ("1,,3,4,5\n1,2,3,4,5\n", "line 1, column 2 is empty: a value is missing\n"),  # once it was taken for titles
        ("1,2,NaN,4,5\n1,2,3,4,5\n", "line 1, column 3 holds 'NaN': a value is missing\n"),
        ("label,a\n1,2\n1,nan\n", "line 3, column 2 holds 'nan': a value is missing\n"),
        ("label,a\n1,2\n1,?\n", "line 3, column 2 holds '?': a value is missing\n"),
        ("label,a\n1,2\nlabel,a\n3,4\n", "line 3 repeats the header: remove it\n"),
        ("\nlabel,a\n1,2\n\n1,x\n", "line 5, column 2 holds 'x', but labels must be numbers from 0\n"),
        ("label;a\n1;0,5\n", "line 2, column 2 holds '0,5', but numbers need a decimal point"),
        ("1;0,5\n2;0,25\n", "line 1, column 2 holds '0,5', but numbers need a decimal point"),
        ("label,a\n1,50%\n", "line 2, column 2 holds '50%', but numbers consist of digits, 0 to 9, and a point"),
        ("label,a\n1,\u0663\n", "line 2, column 2 holds '\u0663', but numbers consist of digits, 0 to 9, and a point"),
        ("2,0,0.1,7,0.2\n1,0,3,0,0\n", "its first line was an image, which pandas took for the header"),
        (",2,0,0.1,7,0.2\n0,1,0,3,0,0\n", "read the CSV file with header=None"),
        ("label,a\n1,2,\n", "line 2 has 3 columns, those before have 2, because it ends with a separator"),
        ("label a\n1 2\n 1  2 3\n", "line 3 has 3 columns, those before have 2"),
        ("label,a\n1 2\n", "line 2 has no comma, semicolon or tab"),
        ("label,a\ncat,1\n", "line 2, column 1 holds 'cat', but labels must be numbers from 0"),
        ("file,label\n1.png,3\n", "line 2 names '1.png'; sort the images into one folder per class"),
        ("label,a\n1,7\n1\n", "line 3 has 1 columns, those before have 2"),
        ("label,a\n1.5,7\n", "1.5 is not a label"),
        ("label\n1\n", "1 values per row"),
        ("1,0\n1,0\n", "does not show whether its first or its last column is the label"),
        ("a,b,c,d\n1,2,3,4\n", "no labels"),
        ("label,a\n3,7\n3,8\n3,9\n", "images of one class only, 3: two or more are needed"),
        (
            "label,a\n" + "0,7\n100,8\n200,9\n" * 9,
            "27 images, but labels up to 200: labels must be numbered from 0, without",
        ),
    ):
        file.write_text(text)
        assert words in fails(file, out, module=MODULE)
    assert "are for folders of images" in fails(file, out, "--size", "28", module=MODULE)
    for path in (file, tmp_path):
        with pytest.raises(DataError, match=r"CSV .*: convert it to IDX files, python -m minidl.data"):
            load_mnist(str(path))


def noise(levels, n=200):
    return np.random.default_rng(5).integers(0, levels, (n, 6, 6))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("labels", [(0, 2, 4, 6), (1, 2, 4), (7, 9)])
def test_labels_with_gaps_beside_pixels_of_two_values(tmp_path, labels, first):
    """A corner has 0 and 1, which leave out no number: it was taken for the labels."""
    images, truth = noise(2), np.resize(labels, 200)
    table(tmp_path / "x.csv", images, truth, None, first)
    read, pixels = read_columns(tmp_path / "x.csv")
    np.testing.assert_array_equal(read, truth)
    np.testing.assert_array_equal(pixels, images.reshape(200, 36))


@pytest.mark.parametrize("first", [True, False])
def test_of_two_columns_that_may_be_labels_none_is_guessed(tmp_path, first):
    table(tmp_path / "x.csv", noise(17), np.resize((2, 9), 200), None, first)
    with pytest.raises(DataError, match="does not show whether its first or its last column is the label"):
        read_columns(tmp_path / "x.csv")


@pytest.mark.parametrize("place", [0, 17, 36])
@pytest.mark.parametrize("title", ["Klasse", "\u0446\u0438\u0444\u0440\u0430", "digit_class", "p"])
def test_the_one_name_that_is_not_as_the_others_is_the_label_s(tmp_path, title, place):
    truth, images = np.resize((2, 9), 200), noise(17)
    names = [*np.insert([f"p{i}" for i in range(36)], place, "").tolist()]
    names[place] = title
    rows = np.insert(images.reshape(200, 36), place, truth, axis=1)
    text = "\n".join([",".join(names), *(",".join(map(str, row)) for row in rows.tolist())])
    (tmp_path / "x.csv").write_text(text, "utf-8")
    if title == "p":  # but for its number it is one of them
        with pytest.raises(DataError, match="does not show"):
            read_columns(tmp_path / "x.csv")
        return
    read, pixels = read_columns(tmp_path / "x.csv")
    np.testing.assert_array_equal(read, truth)
    np.testing.assert_array_equal(pixels, images.reshape(200, 36))


def test_pictures_to_test_on_have_the_scale_of_those_to_learn_from(tmp_path):
    """They were stored nearly black, in silence."""
    for part, of in (("train", DIGITS.train_images[:30]), ("test", DIGITS.test_images[:7] // 128)):
        table(tmp_path / f"{part}.csv", of, np.arange(len(of)) % 3)
    wrong = "test.csv: the test pixels go up to 1, the training pixels up to 255: bring both to one scale"
    assert wrong in fails(tmp_path, tmp_path / "o", module=MODULE)
    images, labels = np.arange(17.0).repeat(4).reshape(17, 2, 2), np.arange(17) % 3  # 0 to 16, as scikit-learn's digits
    for name, train, test in (("digits.npz", images, images / 16), ("twice.npz", images / 16, images / 16 / 255)):
        np.savez(tmp_path / name, x_train=train, y_train=labels, x_test=test, y_test=labels)
        assert "bring both to one scale" in fails(tmp_path / name, tmp_path / "o", module=MODULE)


@pytest.mark.parametrize(("name", "part"), [("values", "train"), ("latest_x", "train"), ("contest", "train"),
    ("x_test", "test"), ("testX", "test"), ("imagesTest", "test"), ("XTEST", "test"), ("ytest", "test"),
    ("x_val", ""), ("valid_images", ""), ("yVal", "")])  # fmt: skip
def test_names_in_an_archive_are_read_by_words(tmp_path, name, part):
    arrays = {"train": ("a", "b"), "test": ("test_a", "test_b")}
    x, y = DIGITS.train_images[:20], np.arange(20) % 4
    given = {f"{a}": x for a, _ in arrays.values()} | {b: y for _, b in arrays.values()}
    if part:
        given[name] = given.pop(arrays[part][0])
    else:
        given[name] = x
    np.savez(tmp_path / "x.npz", **given)
    notes: list[str] = []
    found = read_arrays(tmp_path / "x.npz", notes)
    assert set(found) == {"train", "test"}
    assert [note.partition(",")[0] for note in notes] == ([] if part else [f"skipped: {name}"])


def test_classes_without_a_picture_are_said(tmp_path):
    for labels, words in (
        (np.arange(40) % 10 + 1, "note: no image of class 0: do the labels start at 1?\n"),
        (np.arange(40) % 2 * 3, "note: no image of class 1, 2: labels should be numbered from 0, without gaps\n"),
    ):
        table(tmp_path / "x.csv", DIGITS.train_images[:40], labels)
        out = tmp_path / f"o{labels.max()}"
        assert words in make(tmp_path / "x.csv", out)
        assert load_mnist(str(out)).classes == labels.max() + 1


def pairs(arrays):
    """(label, picture) of both parts, in order."""
    return sorted(
        (int(k), image.tobytes()) for part in (0, 2) for image, k in zip(*arrays[part : part + 2], strict=True)
    )


@pytest.fixture(scope="module")
def few():
    images, labels = DIGITS.train_images[::40], DIGITS.train_labels[::40]
    return images, labels, pairs([images, labels, images[:0], labels[:0]])


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("titled", [False, True])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_other_programs(tmp_path, few, separator, titled, last):
    """Written by Python's own csv: quotes, line ends, a column that numbers the lines, a packed file, no `label`."""
    images, labels, right = few
    rows = np.insert(images.reshape(len(images), -1).astype(int), 784 if last else 0, labels, axis=1).tolist()
    head = [f"p{i}" for i in range(785)]
    for kind, how in enumerate((csv.QUOTE_ALL, csv.QUOTE_MINIMAL)):
        text = io.StringIO()
        writer = csv.writer(text, delimiter=separator, quoting=how)  # ends lines with \r\n
        writer.writerows([["", *head], *([i, *row] for i, row in enumerate(rows, 40_000))] if titled else rows)
        packed = gzip.compress(text.getvalue().encode("utf-8-sig" if kind else "utf-8"))
        (tmp_path / "train.csv.gz").write_bytes(packed)
        assert pairs(collect_tables(tables_in(tmp_path / "train.csv.gz")).arrays) == right


@pytest.mark.parametrize("counted", [False, True])
def test_titles_that_are_numbers_are_no_picture(tmp_path, counted):
    """As pandas writes 8x8 pictures of 0 to 16: with a 64 in its titles they were taken for numbers of 255."""
    rows = np.random.default_rng(0).integers(0, 17, (50, 65))
    rows[:, 0], rows[:, -1] = np.arange(50) % 10, 0
    lines = [["", *range(65)], *([i, *row] for i, row in enumerate(rows))] if counted else [range(65), *rows]
    (tmp_path / "x.csv").write_text("\n".join(",".join(map(str, line)) for line in lines))
    labels, pixels = read_columns(tmp_path / "x.csv")
    np.testing.assert_array_equal(np.column_stack([labels, pixels]), rows)


def test_shares_of_white_stay_shares_where_numpy_only_warns(tmp_path, monkeypatch):
    """Up to NumPy 2.2, loadtxt makes the whole number 0 of 0.5, with a DeprecationWarning."""
    loadtxt = np.loadtxt

    def as_it_was(lines, kind, **more):
        if kind is np.int16:
            try:
                warnings.warn("Parsing an integer via a float is deprecated", DeprecationWarning, stacklevel=1)
            except DeprecationWarning as error:
                raise ValueError(str(error)) from None
        return loadtxt(lines, float, **more).astype(kind)

    (tmp_path / "x.csv").write_text("label,a,b,c,d\n0,0.5,1,0.25,0\n1,0,0.75,1,0\n")
    monkeypatch.setattr(np, "loadtxt", as_it_was)
    _, pixels = read_columns(tmp_path / "x.csv")
    np.testing.assert_array_equal(pixels, [[0.5, 1, 0.25, 0], [0, 0.75, 1, 0]])


@pytest.mark.parametrize("top", [1, 16])
def test_pixels_in_shares_of_white_are_scaled_and_that_is_said(tmp_path, top):
    """As scikit-learn's digits and UCI's, 8x8 from 0 to 16 with the label last and no titles."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, top + 1, (60, 8, 8)), np.arange(60) % 10
    images[0, 0], images[:, 0, 0], images[:, -1, -1] = top, 0, 0
    np.savetxt(tmp_path / "optdigits.tra", np.c_[images.reshape(60, -1), labels], fmt="%d", delimiter=",")
    np.savetxt(tmp_path / "floats.txt", np.c_[images.reshape(60, -1), labels], fmt="%.1f", delimiter=",")
    np.savez(tmp_path / "flat.npz", data=images.reshape(60, -1).astype(float), target=labels)
    right = sorted((int(k), np.uint8([round(255 * v / top) for v in image.ravel()]).tobytes())
                   for image, k in zip(images, labels, strict=True))  # fmt: skip
    for name in ("optdigits.tra", "floats.txt", "flat.npz"):
        made = collect_tables(tables_in(tmp_path / name))
        assert pairs(made.arrays) == right
        assert made.notes == [f"pixel values are from 0 to {top}: scaled so that {top} becomes 255, white"]


def test_archives_of_arrays(tmp_path, few):
    """Keras's mnist.npz, and MedMNIST's with its columns of labels and its part to validate on."""
    images, labels, right = few
    np.savez(tmp_path / "mnist.npz", x_test=images[80:], y_test=labels[80:], x_train=images[:80], y_train=labels[:80])
    for place in (tmp_path, tmp_path / "mnist.npz"):
        made = collect_tables(tables_in(place))
        np.testing.assert_array_equal(made.arrays[0], images[:80])
        np.testing.assert_array_equal(made.arrays[3], labels[80:])
        assert not made.notes
    np.savez(tmp_path / "med.npz", train_images=images, train_labels=labels[:, None], val_images=images[:3])
    made = collect_tables(tables_in(tmp_path / "med.npz"))
    assert pairs(made.arrays) == right
    assert made.notes == ["skipped: val_images, as minidl draws its own validation images"]
    np.savez(tmp_path / "colour.npz", x=np.zeros((5, 4, 4, 3)), y=np.arange(5))
    with pytest.raises(DataError, match=r"x \(5, 4, 4, 3\), y \(5,\): one array of greyscale images"):
        collect_tables(tables_in(tmp_path / "colour.npz"))
    np.savez(tmp_path / "names.npz", x=images, y=labels, class_names=["even", "odd"], made=np.array(2026))
    made = collect_tables(tables_in(tmp_path / "names.npz"))
    assert pairs(made.arrays) == right
    n = len(images)
    assert made.notes == [
        f"skipped: class_names (2,), which does not have a row for each of the {n} images in x",
        f"skipped: made (), which does not have a row for each of the {n} images in x",
    ]
    for other in (np.eye(10)[labels], np.zeros((n, 4, 4, 3)), np.arange(n)):  # the labels may be either
        np.savez(tmp_path / "two.npz", x=images, y=other, ids=np.arange(n) % 7)
        with pytest.raises(DataError, match=r"one array of greyscale images \(N, H, W\) and one of labels"):
            collect_tables(tables_in(tmp_path / "two.npz"))
    np.savez(tmp_path / "words.npz", x=images, y=labels.astype(str))
    with pytest.raises(DataError, match="where numbers are needed"):
        collect_tables(tables_in(tmp_path / "words.npz"))
    np.savez(tmp_path / "objects.npz", x=images, y=labels.astype(object))
    with pytest.raises(DataError, match=r"NumPy archive: it has Python objects in place of numbers$"):
        collect_tables(tables_in(tmp_path / "objects.npz"))
    (tmp_path / "none.npz").write_text("this is text")
    with pytest.raises(DataError, match=r"can't be read as a NumPy archive: it is not one$"):
        collect_tables(tables_in(tmp_path / "none.npz"))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "med.npz").read_bytes()[:-30])
    with pytest.raises(DataError, match="can't be read as a NumPy archive"):
        collect_tables(tables_in(tmp_path / "cut.npz"))
    with pytest.raises(
        DataError, match=r"mnist.npz is a CSV or NumPy file: convert it to IDX files, python -m minidl.data"
    ):
        load_mnist(str(tmp_path / "mnist.npz"))


def test_pictures_and_labels_in_archives_of_their_own(tmp_path, few):
    """As KMNIST and Kuzushiji-49 are published: four files, each with one arr_0."""
    images, labels, _ = few
    for name, array in (
        ("k49-train-imgs", images[:80]), ("k49-train-labels", labels[:80]),
        ("k49-test-imgs", images[80:]), ("k49-test-labels", labels[80:]),
    ):  # fmt: skip
        np.savez_compressed(tmp_path / f"{name}.npz", array)
    made = collect_tables(tables_in(tmp_path))
    for array, right in zip(made.arrays, (images[:80], labels[:80], images[80:], labels[80:]), strict=True):
        np.testing.assert_array_equal(array, right)
    alone = collect_tables(tables_in(tmp_path / "k49-train-imgs.npz"))  # its labels are beside it
    assert pairs(alone.arrays) == pairs([images[:40], labels[:40], images[40:80], labels[40:80]])
    (tmp_path / "k49-train-labels.npz").unlink()
    with pytest.raises(DataError, match=r"k49-train-imgs.npz holds arr_0 \(80, .*: one array of greyscale images"):
        collect_tables(tables_in(tmp_path))


def test_a_folder_of_archives(tmp_path, few):
    images, labels, _ = few
    np.savez(tmp_path / "train.npz", x_train=images[:80], y_train=labels[:80])
    np.savez(tmp_path / "test.npz", x_test=images[80:], y_test=labels[80:])
    made = collect_tables(tables_in(tmp_path))
    for array, right in zip(made.arrays, (images[:80], labels[:80], images[80:], labels[80:]), strict=True):
        np.testing.assert_array_equal(array, right)
    with pytest.raises(DataError, match=r"test.npz holds only x_test, y_test, for testing: one array"):
        collect_tables({"train": tmp_path / "test.npz"})
    for name in ("k49-test-imgs.npz", "k49-train-imgs.npz", "k49-train-labels.npz"):  # the one named was one to test on
        np.savez(tmp_path / name, images)
    with pytest.raises(DataError, match=r"give the one to train on, as in .*k49-train-imgs.npz$"):
        tables_in(tmp_path)


@pytest.mark.parametrize(
    ("name", "head", "words"),
    [
        ("data_batch_1", pickle.dumps({b"data": 0}), "a pickled Python object, not a CSV file: open it with"),
        ("x.mat", b"MATLAB 5.0 MAT-file", "a MATLAB file"), ("x.h5", b"\x89HDF\r\n", "an HDF5 file"),
        ("x.xlsx", b"PK\x03\x04", "a spreadsheet, not a CSV file: save it as CSV"), ("x.parquet", b"PAR1", "Parquet"),
        ("train.csv.zip", b"PK\x03\x04", "a ZIP archive"), ("train.csv", b"<!DOCTYPE html>", "a web page"),
        ("long.csv", b'"' + b"1" * 200_000, "field larger than"),
        ("data_batch_1.bin", b"\6\0\0\0", "not a CSV file: save it as CSV"), ("x.npy", b"\x93NUMPY", "write_idx"),
        ("1.png", b"\x89PNG\r\n", "one image: give the folder"), ("a.csv", "label,p\n".encode("utf-16"), "UTF-8"),
        ("train-images-idx3-ubyte", b"\0\0\x08\x03", "already an IDX file"),
        ("train-images.gz", gzip.compress(b"\0\0\x08\x03", mtime=0), "already an IDX file"),
        ("mnist.pkl.gz", gzip.compress(pickle.dumps(0), mtime=0), "a pickled Python object, not a CSV file: open it"),
        ("x.tar.gz", gzip.compress(TAR, mtime=0), "a TAR archive, not a CSV file: extract it"),
        ("x.tar", TAR, "a TAR archive"),
        ("training.pt", b"PK\x03\x04", "a PyTorch file, not a CSV file: open it with torch.load and write its"),
        ("x.gz", b"\x1f\x8b\7", "can't be decompressed"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_table_is_called_by_its_name(tmp_path, name, head, words):
    (tmp_path / name).write_bytes(head + b"1\n")
    with pytest.raises(DataError) as caught:
        collect_tables(tables_in(tmp_path / name))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "head", "words"),
    [
        ("data_batch_1", pickle.dumps({b"data": 0}), "data_batch_1 is a pickled Python object"),
        ("x_train.npy", b"\x93NUMPY", "x_train.npy is a NumPy array"),
        ("train-images-idx3-ubyte", b"\0\0\x08\x03", "already an IDX file: train with --dataset"),
    ],
)  # fmt: skip
def test_a_folder_of_such_files(tmp_path, name, head, words):
    (tmp_path / "readme.html").write_bytes(b"")
    (tmp_path / name).write_bytes(head)
    with pytest.raises(DataError, match=words):
        tables_in(tmp_path)
    (tmp_path / "cat").mkdir()
    assert tables_in(tmp_path) is None  # a folder of pictures
