"""`python -m minidl.data`: a folder of pictures becomes IDX files with just these; what is lost is said."""

import os
import shlex

import numpy as np
import pytest
from PIL import Image

from minidl import Trainer, load_mnist, nn, seed, split
from minidl.data import DataError, read_idx, write_idx
from minidl.handwriting.collect import collect, write_dataset
from minidl.handwriting.folders import find_pictures, natural
from minidl.handwriting.look import look
from minidl.optim import Adam
from minidl.predict import predict
from minidl.train import main as train
from tests.commands import command, fails

DIGITS = load_mnist("mnist5k")
MODULE = "minidl.data"


def picture(path, pixels, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)


@pytest.fixture
def folder(tmp_path):
    """Ten real digits of each of three classes, light on dark, as they are: PNG keeps every pixel."""
    for name, digit in (("2", 2), ("10", 1), ("cat", 5)):
        for i in np.flatnonzero(DIGITS.train_labels == digit)[:10]:
            picture(tmp_path / "pictures" / name / f"{i}.png", DIGITS.train_images[i])
    return tmp_path / "pictures"


def make(*args):
    result = command(*args, module=MODULE)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_picture_is_there_once_and_unchanged(folder, tmp_path):
    out = tmp_path / "out"
    said = make(folder, out)
    dataset = load_mnist(str(out))
    assert dataset.class_names == ("2", "10", "cat")  # in natural order
    assert np.bincount(dataset.train_labels).tolist() == [8, 8, 8]
    assert np.bincount(dataset.test_labels).tolist() == [2, 2, 2]
    for k, digit in enumerate((2, 1, 5)):
        wanted = {DIGITS.train_images[i].tobytes() for i in np.flatnonzero(DIGITS.train_labels == digit)[:10]}
        train = [image.tobytes() for image in dataset.train_images[dataset.train_labels == k]]
        test = [image.tobytes() for image in dataset.test_images[dataset.test_labels == k]]
        assert sorted(train + test) == sorted(wanted)
    assert "24 training and 6 test images of 28x28, 3 classes" in said
    assert "note" not in said


def test_the_same_seed_the_same_files(folder, tmp_path):
    for name, drawn in (("a", 0), ("b", 0), ("c", 1)):
        make(folder, tmp_path / name, "--seed", drawn)
    a, b, c = (load_mnist(str(tmp_path / name)).sha256 for name in "abc")
    assert a == b != c


def test_dark_on_light_is_inverted_by_the_majority(folder, tmp_path):
    for path in folder.rglob("*.png"):
        picture(path, 255 - np.asarray(Image.open(path)))
    light = np.asarray(Image.open(next(folder.rglob("*.png"))))
    assert "dark on light: inverted" in make(folder, tmp_path / "auto")
    assert load_mnist(str(tmp_path / "auto")).train_images.mean() < 128
    assert ": inverted" not in make(folder, tmp_path / "keep", "--polarity", "keep")
    kept = load_mnist(str(tmp_path / "keep"))
    assert any(np.array_equal(light, image) for image in [*kept.train_images, *kept.test_images])
    picture(next(folder.rglob("*.png")), 255 - light)
    picture(sorted(folder.rglob("*.png"))[-1], 255 - light)
    assert "28 of 30 images are dark on light, the others light on dark" in make(folder, tmp_path / "mixed")


@pytest.mark.parametrize("choice", ["auto", "keep", "invert"])
@pytest.mark.parametrize("light", [0, 10, 20, 30])
def test_a_network_sees_a_picture_as_its_training_images_are(folder, tmp_path, choice, light):
    """Of 30 pictures so many are dark on light. `predict` gives a network just the bytes that it learned from, where
    the pictures are of both kinds too: as day and night, of which one would else be made the other."""
    files = sorted(folder.rglob("*.png"))
    for path in files[:light]:
        picture(path, 255 - np.asarray(Image.open(path)))
    make(folder, tmp_path / "o", "--polarity", choice)
    made = load_mnist(str(tmp_path / "o"))
    learned = {image.tobytes() for image in (*made.train_images, *made.test_images)}
    assert len(learned) == 30
    for path in files:
        (seen,) = look(path, (28, 28), None, polarity=made.polarity)
        assert np.round(255 * seen.pixels).astype(np.uint8).tobytes() in learned, seen.note
    if light in (0, 30):  # of one kind: another picture of the other kind is made so, too
        picture(tmp_path / "other.png", 255 - np.asarray(Image.open(files[0])))
        (other,) = look(tmp_path / "other.png", (28, 28), None, polarity=made.polarity)
        assert np.round(255 * other.pixels).astype(np.uint8).tobytes() in learned, other.note


@pytest.mark.parametrize(
    ("options", "size"), [((), (28, 28)), (("--size", "8"), (8, 8)), (("--size", "20x32"), (20, 32))]
)
def test_large_pictures_are_scaled_as_predict_scales_them(tmp_path, options, size):
    """In one step: in two, over a size in between, edges came out by up to 120 of 255 otherwise."""
    rng = np.random.default_rng(0)
    for name in "ab":
        for i in range(4):
            page = np.full((rng.integers(70, 400), rng.integers(70, 400)), 250, np.uint8)
            page[30:50, 25:60] = 10
            picture(tmp_path / "p" / name / f"{i}.png", page)
    make(tmp_path / "p", tmp_path / "o", *options)
    made = load_mnist(str(tmp_path / "o"))
    learned = np.concatenate([made.train_images, made.test_images]).astype(float)
    for path in (tmp_path / "p").rglob("*.png"):
        (seen,) = look(path, size, None, polarity=made.polarity)
        assert np.abs(learned - 255 * seen.pixels).max((1, 2)).min() < 1


def test_predict_knows_the_polarity_of_the_training_images(tmp_path, capsys):
    """Two classes that differ by their brightness alone."""
    rng = np.random.default_rng(0)
    for name, sky in (("day", 200), ("night", 20)):
        for i in range(20):
            scene = np.full((12, 12), sky) + rng.integers(0, 30, (12, 12))
            scene[4:8, 4:8] += 15 if sky < 100 else -90
            picture(tmp_path / "p" / name / f"{i}.png", scene.astype(np.uint8))
    make(tmp_path / "p", tmp_path / "o", "--polarity", "keep")
    assert (
        train(
            ["--dataset", str(tmp_path / "o"), "--model", "linear", "--epochs", "100", "--out", str(tmp_path / "run")]
        )
        == 0
    )
    capsys.readouterr()
    files = [str(path) for path in sorted((tmp_path / "p").rglob("*.png"))]
    assert predict([str(tmp_path / "run"), *files]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1].split()[0] for line in said] == ["day"] * 20 + ["night"] * 20
    assert all(line.endswith("[as is]") for line in said)
    with seed(0):
        net = nn.Sequential(nn.Flatten(), nn.Linear(144, 2))
    Trainer(net, Adam(net.parameters()), split(load_mnist(str(tmp_path / "o"))), folder=tmp_path / "own").fit(
        1, verbose=False
    )
    assert predict([str(tmp_path / "own"), *files[:1]]) == 0
    assert capsys.readouterr().out.endswith("[as is]\n")


def test_size_share_and_names_are_options(folder, tmp_path):
    said = make(folder, tmp_path / "o", "--size", "20x16", "--test-share", "0.5", "--class-names", "two, one,dog é")
    dataset = load_mnist(str(tmp_path / "o"))
    assert dataset.train_images.shape == (15, 20, 16)
    assert dataset.class_names == ("two", "one", "dog é")
    assert "30 of 30 images were resized, keeping their proportions" in said


def test_class_names_may_have_the_joiners_of_words_and_emoji(folder, tmp_path):
    names = ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0646\u0645", "\U0001f468\u200d\U0001f469", "a")
    make(folder, tmp_path / "o", "--class-names", ",".join(names))
    assert load_mnist(str(tmp_path / "o")).class_names == names
    assert "printable characters" in fails(folder, tmp_path / "p", "--class-names", "\u200c,b,c", module="minidl.data")


def test_proportions_are_kept(tmp_path):
    """A square of 40x40 in 80x160: after scaling to 20 pixels it is still a square."""
    wide = np.zeros((80, 160), np.uint8)
    wide[16:56, 64:104] = 255
    for name in "ab":
        for i in range(3):
            picture(tmp_path / "p" / name / f"{i}.png", wide)
    make(tmp_path / "p", tmp_path / "o", "--size", "20")
    image = load_mnist(str(tmp_path / "o")).train_images[0]
    rows, columns = (np.flatnonzero(image.max(axis) > 127) for axis in (1, 0))
    assert len(rows) == len(columns) == 5


def test_colour_becomes_grey_and_is_said(tmp_path):
    for name in "ab":
        for i in range(4):
            picture(tmp_path / "p" / name / f"{i}.png", np.full((8, 8, 3), (255, 0, 0), np.uint8))
    said = make(tmp_path / "p", tmp_path / "o", "--polarity", "keep")
    assert "8 of 8 images are in colour: converted to greyscale" in said
    assert set(np.unique(load_mnist(str(tmp_path / "o")).train_images)) == {76}  # 0.299 of 255
    assert "2 of 2 test images are duplicates of training images" in said


def test_of_several_frames_or_pages_the_first_is_taken_and_that_is_said(tmp_path):
    for k, name in enumerate("ab"):
        picture(tmp_path / "p" / name / "one.png", np.full((8, 8), 10 + k, np.uint8))
        for end in ("gif", "tiff"):
            first, other = (Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (10 + k, 200))
            first.save(tmp_path / "p" / name / f"several.{end}", save_all=True, append_images=[other])
    said = make(tmp_path / "p", tmp_path / "o", "--polarity", "keep")
    assert "note: 4 of 6 images have several frames or pages: the first is used" in said
    assert set(np.unique(load_mnist(str(tmp_path / "o")).train_images)) == {10, 11}


def test_folders_that_part_the_pictures(tmp_path):
    for part, n in (("Training", 3), ("testing", 2)):
        for k, name in enumerate(("0", "1")):
            for i in range(n):
                picture(tmp_path / "p" / part / name / "deep" / f"{i}.png", np.full((9, 9), 10 * k + i, np.uint8))
    make(tmp_path / "p", tmp_path / "o", "--polarity", "keep")
    dataset = load_mnist(str(tmp_path / "o"))
    assert dataset.train_images[:, 0, 0].tolist() == [0, 1, 2, 10, 11, 12]
    assert dataset.test_labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("train", "test"), [("training_set", "test_set"), ("trainset/trainset", "TestSet/TestSet"), ("train", "eval")]
)
def test_parts_by_other_names(tmp_path, train, test):
    """As Kaggle's of cats and dogs, whose two folders hold each a folder of the same name."""
    for part, n in ((train, 3), (test, 2)):
        for k, name in enumerate(("cats", "dogs")):
            for i in range(n):
                picture(tmp_path / "p" / part / name / f"{i}.png", np.full((9, 9), 60 + 10 * k + i, np.uint8))
    make(tmp_path / "p", tmp_path / "o", "--polarity", "keep")
    dataset = load_mnist(str(tmp_path / "o"))
    assert dataset.class_names == ("cats", "dogs")
    assert dataset.train_images[:, 0, 0].tolist() == [60, 61, 62, 70, 71, 72]
    assert dataset.test_labels.tolist() == [0, 0, 1, 1]


def test_folders_of_the_same_folders_are_no_classes(tmp_path):
    for part in ("train", "val", "valid"):
        for name in ("cats", "dogs"):
            for i in range(3):
                picture(tmp_path / "p" / part / name / f"{i}.png", np.full((9, 9), i, np.uint8))
    message = fails(tmp_path / "p", tmp_path / "o", module=MODULE)
    assert "train, val and valid hold the same folders cats, dogs: rename them train and test" in message
    assert not (tmp_path / "o").exists()
    picture(tmp_path / "p" / "val" / "birds" / "1.png", np.zeros((9, 9), np.uint8))
    assert find_pictures(tmp_path / "p").classes == ["train", "val", "valid"]


@pytest.mark.parametrize("white", [255, 4095])
def test_nearly_black_pictures_are_said(tmp_path, white):
    """16-bit files with 8 or 12 bits in them, such as a microscope's: 255 or 4095 of 65535 is 1 or 16 of 255."""
    for name in "ab":
        for i in range(3):
            picture(tmp_path / "p" / name / f"{i}.png", np.pad(np.full((3, 3), white - i, np.uint16), 3))
    said = make(tmp_path / "p", tmp_path / "o")
    assert f"no pixel of the images is lighter than {round(white / 65535 * 255)} of 255" in said
    picture(tmp_path / "p" / "a" / "4.png", np.pad(np.full((3, 3), 65535, np.uint16), 3))
    assert "nearly black" not in make(tmp_path / "p", tmp_path / "q")


def test_numbers_that_do_not_say_what_white_is(tmp_path):
    for name in "ab":
        for i in range(3):
            picture(tmp_path / "p" / name / f"{i}.tif", np.pad(np.full((3, 3), 900 + i, np.float32), 3))
            picture(tmp_path / "q" / name / f"{i}.tif", np.pad(np.full((3, 3), 90 + i, np.float32), 3))
    assert "6 of 6 images have pixel values that are neither 0 to 1" in make(tmp_path / "p", tmp_path / "o")
    assert "other numbers" not in make(tmp_path / "q", tmp_path / "o2")
    data = load_mnist(str(tmp_path / "o2"))  # as they were, and not up to 255
    assert set(data.train_images.max((1, 2)).tolist() + data.test_images.max((1, 2)).tolist()) == {90, 91, 92}


def test_what_is_left_out_is_said(folder, tmp_path):
    (folder / "cat" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    (folder / "cat" / "notes.txt").write_text("no picture")
    (folder / "cat" / ".DS_Store").write_bytes(b"hidden")
    (folder / "readme.md").write_text("x")
    said = make(folder, tmp_path / "o")
    assert said.count("note: skipped") == 3
    assert "they are not in a class folder: readme.md" in said
    assert "bad.png" in said
    assert "notes.txt" in said
    assert "DS_Store" not in said
    assert len(load_mnist(str(tmp_path / "o")).train_labels) == 24


def test_what_can_t_be_made_is_refused(folder, tmp_path):
    out = tmp_path / "o"
    for missing in ("none", "none.csv"):
        said = fails(tmp_path / missing, out, module=MODULE)
        assert f"there is no {tmp_path / missing}: give a folder of images, a CSV file or an .npz file" in said
    assert "has 0 folders in it" in fails(folder / "cat", out, module=MODULE)
    assert "2 class names were given, but there are 3 folders: 2, 10, cat" in fails(
        folder, out, "--class-names", "a,b", module=MODULE
    )
    assert "a unique name" in fails(folder, out, "--class-names", "a,b,a", module=MODULE)
    said = fails(folder, out, "--class-names", "a,b\tc,a", module=MODULE)
    assert "a unique name of printable characters, not 'a', 'b\\tc'" in said
    for words in (("--size", "0"), ("--test-share", "1"), ("--seed", "-1")):
        assert "not" in fails(folder, out, *words, module=MODULE)
    assert "give 1 to 9,999 pixels" in fails(folder, out, "--size", "20000", module=MODULE)
    assert "is the input folder" in fails(folder, folder / ".." / folder.name, module=MODULE)
    assert not out.exists()
    make(folder, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "already holds a data set" in fails(folder, out, module=MODULE)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    for path in (folder / "2").iterdir():
        path.unlink()
    picture(folder / "2" / "0.png", DIGITS.train_images[0])
    assert "the class 2 has 1 image that" in fails(folder, tmp_path / "p", module=MODULE)


def test_more_than_256_classes(tmp_path):
    for k in range(300):
        for i in range(2):
            picture(tmp_path / "p" / f"c{k}" / f"{i}.bmp", np.full((4, 4), k % 256, np.uint8))
    made = collect(find_pictures(tmp_path / "p"), polarity="keep")
    assert made.class_names == [f"c{k}" for k in range(300)]
    assert made.arrays[1].tolist() == list(range(300))


def test_the_order_is_that_of_the_names_and_not_the_file_systems(tmp_path, monkeypatch):
    """Of 1 and 01 no number is the greater; and where a folder's name ends, Windows has another sign."""
    for name in ("1/1.png", "1/01.png", "1/001.png", "01/a/x.png", "01/aB/x.png", "01/a-b/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found, walk, iterdir = find_pictures(tmp_path), os.walk, type(tmp_path).iterdir
    assert found.classes == ["01", "1"]
    assert [path.name for path in found.train[1]] == ["001.png", "01.png", "1.png"]
    assert [path.parent.name for path in found.train[0]] == ["a-b", "a", "aB"]
    monkeypatch.setattr(os, "walk", lambda *a, **k: ((top, b[::-1], n[::-1]) for top, b, n in [*walk(*a, **k)][::-1]))
    monkeypatch.setattr(type(tmp_path), "iterdir", lambda path: iter([*iterdir(path)][::-1]))
    assert find_pictures(tmp_path) == found


def test_natural_order():
    assert sorted(["10", "9", "b", "a2", "a10", "1"], key=natural) == ["1", "9", "10", "a2", "a10", "b"]
    assert sorted(["①", "10", "5²", "4"], key=natural) == ["4", "5²", "10", "①"]
    with pytest.raises(DataError, match="that is a file"):
        find_pictures(__import__("pathlib").Path(__file__))


def test_train_on_it(folder, tmp_path):
    make(folder, tmp_path / "o")
    result = command("--dataset", tmp_path / "o", "--epochs", "1", "--out", tmp_path / "r", "--report")
    assert result.returncode == 0, result.stderr
    assert '<th scope="row"><bdi>cat</bdi></th>' in (tmp_path / "r" / "report.html").read_text()
    assert read_idx(tmp_path / "o" / "train-labels-idx1-ubyte.gz").dtype == np.uint8


# ---- folders as people have them ----


def test_a_folder_around_the_classes_and_what_systems_leave_there(folder, tmp_path):
    wrapped = tmp_path / "download" / "digits v2" / "pictures"
    wrapped.parent.mkdir(parents=True)
    folder.rename(wrapped)
    for junk in (tmp_path / "download" / "__MACOSX" / "cat", wrapped / "__MACOSX", wrapped / "cat" / "__MACOSX"):
        junk.mkdir(parents=True)
        (junk / "._1.png").write_bytes(b"x")
    (wrapped / "cat" / "Thumbs.db").write_bytes(b"x")
    small = wrapped / "cat" / "@eaDir" / "0.png"  # where a Synology keeps small copies
    picture(small / "SYNOPHOTO_THUMB_M.jpg", np.zeros((9, 9), np.uint8))
    (wrapped / "lost+found").mkdir()
    said = make(tmp_path / "download", tmp_path / "o")
    assert [line for line in said.splitlines() if "note" in line] == ["note: the classes are the folders in pictures"]
    assert load_mnist(str(tmp_path / "o")).class_names == ("2", "10", "cat")


def test_a_folder_valid_is_no_class(tmp_path):
    for part, n in (("train", 3), ("valid", 2)):
        for k in range(2):
            for i in range(n):
                picture(tmp_path / "p" / part / str(k) / f"{i}.png", np.full((9, 9), 10 * k + i, np.uint8))
    said = make(tmp_path / "p", tmp_path / "o", "--polarity", "keep")
    assert "note: there is no folder test: the images in valid are used for testing" in said
    assert load_mnist(str(tmp_path / "o")).test_labels.tolist() == [0, 0, 1, 1]


def test_a_class_without_pictures_is_named(folder, tmp_path):
    (folder / "dog").mkdir()
    assert "the class dog has no images" in fails(folder, tmp_path / "o", module=MODULE)


def test_photos_that_a_phone_wrote_say_what_to_do(folder, tmp_path):
    """A class of nothing but HEIC is refused for it, and not for having too few pictures."""
    for path in (folder / "cat").iterdir():
        path.unlink()
    (folder / "cat" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    said = fails(folder, tmp_path / "o", module=MODULE)
    assert "the class cat has 0 images that can be read" in said
    assert "IMG_1.HEIC is HEIC" in said
    assert "Most Compatible" in said


def test_what_is_to_be_copied_into_a_shell_is_quoted(folder, tmp_path):
    said = make(folder, tmp_path / "my own data")
    *_, python = shlex.split(said[said.index("python -m minidl.train") :])
    assert python == str(tmp_path / "my own data")
    with pytest.raises(DataError) as caught:
        load_mnist(str(folder.rename(tmp_path / "my pictures")))
    assert shlex.split(str(caught.value))[-2:] == [str(tmp_path / "my pictures"), "OUT"]


def test_a_tilde_is_the_users_home(folder, tmp_path, monkeypatch):
    """A shell leaves it as it is between quotes, and in --out=~/x."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert f"{tmp_path / 'o'}: 24 training" in make("~/pictures", "~/o")
    result = command(f"--dataset={tmp_path / 'o'}", "--epochs=1", "--out=~/run")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run" / "summary.json").is_file()
    result = command("~/run", "--out=~/page.html", module="minidl.report")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "page.html").is_file()


def test_a_folder_in_a_class_s_that_is_not_entered_is_said(folder, tmp_path, monkeypatch):
    """Its pictures were left out, and nothing was said: a link to a folder, and one that may not be read."""
    (folder / "2" / "more").symlink_to(folder / "10")
    assert f"note: skipped: {folder / '2' / 'more'} is a folder" in make(folder, tmp_path / "out")
    picture(folder / "2" / "hidden" / "1.png", DIGITS.train_images[0])
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == "hidden":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="hidden"):
        find_pictures(folder)


def test_a_link_that_leads_nowhere_is_said(folder, tmp_path):
    (folder / "cat" / "x.png").symlink_to(tmp_path / "gone.png")
    (folder / "dog").symlink_to(tmp_path / "gone")
    (folder / "emu").symlink_to("/dev/null")
    said = make(folder, tmp_path / "o")
    assert f"skipped: there is no file {folder / 'cat' / 'x.png'}" in said
    assert "skipped, because they are not in a class folder: dog, emu" in said


def test_pictures_that_lie_in_train_itself(tmp_path):
    """As Kaggle's of cats and dogs: the classes are in the files' names."""
    for part in ("train", "test"):
        picture(tmp_path / "p" / part / "cat.0.png", DIGITS.train_images[0])
    assert f"{tmp_path / 'p' / 'train'} has 0 folders in it" in fails(tmp_path / "p", tmp_path / "o", module=MODULE)
    for name in ("cat", "dog"):
        picture(tmp_path / "p" / "train" / name / "1.png", DIGITS.train_images[0])
    assert "sort them into folders as in train, or move that folder away" in fails(
        tmp_path / "p", tmp_path / "o", module=MODULE
    )


def test_a_folder_of_pictures_as_a_data_set_says_what_to_do(folder):
    with pytest.raises(DataError, match=r"folders of images: convert it to IDX files, python -m minidl\.data"):
        load_mnist(str(folder))


def test_of_two_conversions_into_one_folder_one_is_refused(folder, tmp_path):
    found, out = find_pictures(folder), tmp_path / "o"
    first, second = collect(found, seed=1), collect(found, seed=2)  # both began before either wrote
    write_dataset(out, first)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(DataError, match="already holds a data set: give another folder"):
        write_dataset(out, second)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "class-names.txt").touch()  # another process has begun to write
    with pytest.raises(DataError, match=r"holds a class-names\.txt"):
        write_dataset(tmp_path / "p", second)


def test_a_conversion_that_fails_leaves_nothing_in_the_way(folder, tmp_path, monkeypatch):
    made, out, written = collect(find_pictures(folder)), tmp_path / "o", []

    def full(path, array):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(path)
        write_idx(path, array)

    monkeypatch.setattr("minidl.handwriting.collect.write_idx", full)
    with pytest.raises(OSError, match="No space"):
        write_dataset(out, made)
    assert len(written) == 2
    assert list(out.iterdir()) == []
    monkeypatch.undo()
    write_dataset(out, made)  # the same command again
