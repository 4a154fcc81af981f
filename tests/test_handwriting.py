"""Own handwriting: digits as people hand them in are recognized, and MNIST's own pictures lose nothing."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from minidl.data import load_mnist, write_idx
from minidl.data.pictures import Picture
from minidl.data.polarity import polarity_of
from minidl.handwriting import shown
from minidl.handwriting.connected import label, spread_labels
from minidl.handwriting.desk import without_desk
from minidl.handwriting.filters import closing, windowed
from minidl.handwriting.frame import EMNIST, MNIST, framed, stroke_width
from minidl.handwriting.look import Seen, frame_of, look
from minidl.handwriting.paper import find_ink
from minidl.handwriting.pieces import find_digits
from minidl.handwriting.ruled import without_lines
from minidl.predict import classify, load_model
from minidl.predict import main as predict
from tests import ink
from tests.commands import tiny_dataset, train

DIGITS = load_mnist(name="mnist5k")


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """An MLP trained on the embedded digits."""
    out = tmp_path_factory.mktemp("handwriting") / "mlp"
    status, output = train(
        "--dataset", "mnist5k", "--opt", "adam", "--epochs", 8, "--out", out, log=out.with_suffix(".log")
    )
    assert status == 0, output
    return out


@pytest.fixture(scope="session")
def good_run(mnist_root, tmp_path_factory) -> Path:
    """An MLP trained on all of MNIST, to 97 %."""
    out = tmp_path_factory.mktemp("good") / "mlp"
    args = ["--dataset", mnist_root, "--opt", "adam", "--epochs", 3, "--seed", 1, "--out", out]
    status, output = train(*args, log=out.with_suffix(".log"))
    assert status == 0, output
    assert json.loads((out / "summary.json").read_text())["test_accuracy"] > 0.97
    return out


def right(
    run: Path, folder: Path, kinds: dict, images: np.ndarray, labels: np.ndarray, formats=("PNG", "JPEG")
) -> list:
    """For each kind and format, how many of the digits are found to be one, and recognized."""
    model, size = load_model(run)
    rng, counts = np.random.default_rng(0), []
    for render in kinds.values():
        for form in formats:
            n = 0
            for image, truth in zip(images, labels, strict=True):
                Image.fromarray(ink.eight_bits(render(image, rng))).save(folder / "x", form)
                seen = list(look(folder / "x", size))
                n += len(seen) == 1 and classify(model, seen[0].pixels).argmax() == truth
            counts.append(n)
    return counts


def one_of_each(images: np.ndarray, labels: np.ndarray, which: int = 0) -> tuple[np.ndarray, np.ndarray]:
    chosen = [np.flatnonzero(labels == k)[which] for k in range(10)]
    return images[chosen], labels[chosen]


def known(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """The embedded test digits that the run's network is sure of, as they are."""
    model, _ = load_model(run)
    chances = np.array([classify(model, image * np.float32(1 / 255)) for image in DIGITS.test_images])
    sure = chances[np.arange(len(chances)), DIGITS.test_labels] > 0.95
    return DIGITS.test_images[sure], DIGITS.test_labels[sure]


def test_ten_digits_in_five_ways_as_png_and_jpeg(good_run, mnist_root, tmp_path):
    data = load_mnist(name="mnist", root=mnist_root)
    counts = right(good_run, tmp_path, ink.ASKED, *one_of_each(data.test_images, data.test_labels))
    assert sum(counts) >= 95, counts


@pytest.mark.parametrize("kind", ink.HARDER)
def test_harder_ones(good_run, mnist_root, tmp_path, kind):
    data = load_mnist(name="mnist", root=mnist_root)
    counts = right(good_run, tmp_path, {kind: ink.HARDER[kind]}, *one_of_each(data.test_images, data.test_labels, 1))
    assert sum(counts) >= 17, counts


def test_on_the_embedded_digits_too(run, tmp_path):
    images, labels = known(run)
    counts = right(run, tmp_path, ink.ASKED, *one_of_each(images, labels), formats=["PNG"])
    assert sum(counts) >= 48, counts


@pytest.mark.parametrize("n", [3, 10, 20])
@pytest.mark.parametrize("dark", [False, True])
def test_digits_enlarged_in_blocks_are_found_whole(n, dark):
    """As a picture of MNIST is shown large: a notch of one block is thinner than the strokes, and no ink."""
    found = 0
    for image in DIGITS.test_images[:320:8]:
        mask = image > 127
        blocks = np.kron(mask, np.ones((n, n), np.float32))
        ink = find_ink(Picture((1 - blocks if dark else blocks)[..., None], blocks.shape))
        found += ink.dark == dark and np.array_equal(ink.strength[n // 2 :: n, n // 2 :: n] > 0.5, mask)
    assert found >= 39, found


def test_pictures_of_the_training_size_lose_nothing(run, tmp_path):
    model, size = load_model(run)
    images, labels = DIGITS.test_images[::2], DIGITS.test_labels[::2]
    right = {"idx": 0, "light": 0, "dark": 0}
    for image, truth in zip(images, labels, strict=True):
        Image.fromarray(image).save(tmp_path / "light.png")
        Image.fromarray(255 - image).save(tmp_path / "dark.png")
        (light,), (dark,) = look(tmp_path / "light.png", size), look(tmp_path / "dark.png", size)
        assert np.array_equal(light.pixels, image * np.float32(1 / 255))  # the very bits
        np.testing.assert_allclose(dark.pixels, light.pixels, rtol=0, atol=1e-6)
        assert (light.note, dark.note) == ("light on dark", "dark on light: inverted")
        for name, pixels in (("idx", image * np.float32(1 / 255)), ("light", light.pixels), ("dark", dark.pixels)):
            right[name] += classify(model, pixels).argmax() == truth
    assert right["light"] == right["dark"] == right["idx"] > 0.9 * len(images)


def test_an_idx_file_passes_untouched(tmp_path):
    upside_down = 255 - DIGITS.test_images[:3]  # dark on light, and still as it is
    write_idx(tmp_path / "x.idx", upside_down)
    for how in ("auto", "as-is"):
        seen = list(look(tmp_path / "x.idx", (28, 28), how=how))
        assert [(each.name, each.note) for each in seen] == [(f"{tmp_path / 'x.idx'}[{i}]", "") for i in range(3)]
        np.testing.assert_array_equal([each.pixels for each in seen], upside_down * np.float32(1 / 255))


def test_as_is_and_normalize_decide_otherwise(tmp_path):
    digit = DIGITS.test_images[5]
    moved = np.roll(digit, 4, axis=1)
    Image.fromarray(255 - moved).save(tmp_path / "small.png")
    Image.fromarray(ink.eight_bits(ink.on_sheet(digit, np.random.default_rng(0)))).save(tmp_path / "sheet.png")
    (small,) = look(tmp_path / "small.png", (28, 28), how="as-is")
    np.testing.assert_allclose(small.pixels, 1 - moved / 255, atol=1e-6)
    (sheet,) = look(tmp_path / "sheet.png", (28, 28), how="as-is")
    assert sheet.note == "as is, resized from 800x600"
    assert sheet.pixels.mean() > 0.8
    (small,) = look(tmp_path / "small.png", (28, 28), how="normalize")
    assert np.abs(small.pixels - digit / 255).mean() < 0.05 < np.abs(moved / 255 - digit / 255).mean()
    (whole,) = look(tmp_path / "sheet.png", (28, 28), frame=None)  # a network of other data: nothing is cut out
    assert whole.note == "dark on light: inverted, resized from 800x600"
    (cut,) = look(tmp_path / "sheet.png", (28, 28), frame=None, how="normalize")
    assert "cropped from 800x600" in cut.note


def test_which_data_sets_are_of_centred_digits():
    assert frame_of({"name": "mnist5k", "sha256": DIGITS.sha256}) == MNIST
    assert frame_of({"name": "qmnist"}) == MNIST
    assert frame_of({"name": "emnist-letters"}) == EMNIST
    assert frame_of({"name": "fashion-mnist", "sha256": "0"}) is None
    assert frame_of({}) is None


def test_the_same_files_in_a_folder_are_mnist_too(mnist_root):
    assert frame_of({"name": "/some/where", "sha256": load_mnist(name=str(mnist_root)).sha256}) == MNIST


# ---- several digits ----


def row(indices: list[int], gap: int, images: np.ndarray = DIGITS.test_images) -> np.ndarray:
    """Digits side by side, each cut out closely, with so much paper between them, of a height of some 180."""
    parts = [ink.closely(ink.enlarged(images[i], 250)) for i in indices]
    height = max(part.shape[0] for part in parts)
    padded = [np.pad(p, (((height - len(p)) // 2, height - len(p) - (height - len(p)) // 2), (0, gap))) for p in parts]
    return np.pad(np.concatenate(padded, axis=1), 40)


def test_several_digits_in_reading_order(run):
    model, _ = load_model(run)
    images, labels = known(run)
    chosen = [[11, 122, 233, 344], [455, 460, 577, 688, 705]]
    rows = [row(indices, 60, images) for indices in chosen]
    width = max(r.shape[1] for r in rows)
    page = np.concatenate([np.pad(r, ((0, 60), (0, width - r.shape[1]))) for r in rows])
    digits = find_digits(find_ink(Picture(ink.written(page).astype(np.float32)[..., None], page.shape)).strength)
    wanted = [int(labels[i]) for indices in chosen for i in indices]
    assert [int(classify(model, framed(own)).argmax()) for _, own in digits] == wanted


def test_how_often_one_digit_is_taken_for_several_and_several_for_one():
    """Measured on 250 digits each by itself, and on 60 rows of three with a fifth of their height between them."""
    wrong = 0
    for image in DIGITS.test_images[::4]:
        sheet = np.pad(ink.enlarged(image, 112), 30)
        wrong += len(find_digits(find_ink(Picture(ink.written(sheet)[..., None], sheet.shape)).strength)) != 1
    assert wrong <= 1
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(60):
        page = row(rng.integers(0, 1000, 3).tolist(), 36)
        wrong += len(find_digits(find_ink(Picture(ink.written(page)[..., None], page.shape)).strength)) != 3
    assert wrong <= 3


def test_ink_that_was_left_out_is_told(tmp_path):
    """Beside a digit of half its height, only the larger one is read: the answer said nothing of the other."""
    page = row([11, 122], 60)
    small = ink.closely(ink.enlarged(DIGITS.test_images[233], 110))
    page = np.pad(page, ((0, 0), (0, small.shape[1] + 80)))
    Image.fromarray(ink.eight_bits(ink.written(page))).save(tmp_path / "two.png")
    assert [seen.note.count("the largest") for seen in look(tmp_path / "two.png", (28, 28))] == [0, 0]
    page[60 : 60 + small.shape[0], -small.shape[1] - 40 : -40] = small
    Image.fromarray(ink.eight_bits(ink.written(page))).save(tmp_path / "three.png")
    (seen,) = look(tmp_path / "three.png", (28, 28))
    assert "the largest of 3 marks of unlike heights" in seen.note


@pytest.mark.parametrize("what", ["foot", "bar", "underlined"])
def test_a_line_under_digits_is_left_out_and_strokes_of_digits_are_not(what):
    """A 1 whose foot, or a 7 whose bar, stands apart is one digit; so is a 1 with a line under it, without the line."""
    sheet = np.zeros((200, 200), np.float32)
    sheet[50:150, 96:104] = 1
    rows, columns, box = {
        "foot": (slice(154, 162), slice(75, 125), (50, 162, 75, 125)),
        "bar": (slice(38, 46), slice(50, 104), (38, 150, 50, 104)),
        "underlined": (slice(156, 164), slice(50, 150), (50, 150, 96, 104)),
    }[what]
    sheet[rows, columns] = 1
    ((piece, own),) = find_digits(sheet)
    assert (piece.top, piece.bottom, piece.left, piece.right) == box
    assert (own.sum() == sheet.sum()) == (what != "underlined")


def test_a_number_with_two_lines_under_it_is_its_digits():
    page = row([11, 122, 233], 60)
    page = np.pad(page, ((0, 60), (0, 200)))  # paper beside them: the lines do not run right across, as printed ones do
    for top in (-80, -50):
        page[top : top + 8, 20:-220] = 1
    digits = find_digits(find_ink(Picture(ink.written(page)[..., None], page.shape)).strength)
    assert len(digits) == 3
    assert max(piece.bottom for piece, _ in digits) < len(page) - 80


# ---- the parts ----


def test_windowed_and_closing_are_what_they_say():
    x = np.random.default_rng(0).random((23, 17))
    for size in (3, 7, 11, 40):
        half = size // 2
        wanted = [x[max(0, i - half) : i + half + 1].max(0) for i in range(23)]
        np.testing.assert_array_equal(windowed(np.maximum, x, size), wanted)
    paper = np.full((60, 60), 0.9)
    paper[:, 30:] = 0.5  # a shadow
    drawn = paper.copy()
    drawn[20:40, 10:14] = drawn[20:23, 5:50] = 0.1
    np.testing.assert_allclose(closing(drawn, 15), paper)


def test_labels_are_those_of_a_flood_fill():
    rng = np.random.default_rng(0)
    comb = np.zeros((30, 40), bool)
    comb[::2] = comb[:, -1] = True  # its teeth meet in the last column only
    for mask in (*(rng.random((30, 40)) < share for share in (0, 0.2, 0.4, 0.6)), comb, comb[:, ::-1]):
        labels = label(mask)
        assert np.array_equal(labels > 0, mask)
        seen = {}
        for start in zip(*np.nonzero(mask), strict=True):
            if start in seen:
                continue
            stack = [start]
            while stack:
                y, x = stack.pop()
                if 0 <= y < 30 and 0 <= x < 40 and mask[y, x] and (y, x) not in seen:
                    seen[y, x] = start
                    stack += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        pairs = {(int(labels[place]), start) for place, start in seen.items()}
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) == labels.max()
    assert spread_labels(np.array([[0, 0, 1, 0, 0, 0, 2]]), 2).tolist() == [[1, 1, 1, 1, 1, 2, 2]]


def test_stroke_width():
    for width in (4, 10, 20):
        bar = np.zeros((300, 300), bool)
        bar[20:280, 100 : 100 + width] = True
        assert stroke_width(bar) * np.pi / 4 == pytest.approx(width, rel=0.1)


def test_lines_of_the_paper_go_and_strokes_stay():
    strength = np.zeros((200, 150), np.float32)
    strength[20:180, 70:80] = 1
    stroke = strength.copy()
    strength[50:53] = strength[100:103] = strength[150:153] = 1
    np.testing.assert_array_equal(without_lines(strength), stroke)


def test_lines_that_are_not_level_go_too():
    y, x = np.mgrid[:400, :300].astype(np.float32)
    stroke = np.float32((abs(x - 150) < 6) & (abs(y - 200) < 120))
    for slopes in ((0.05, 0.05, 0.05), (-0.1, -0.1, -0.1), (0.02, 0.05, 0.08)):  # the last as seen from one side
        lines = [abs(y - start - slope * x) < 1.5 for start, slope in zip((60, 170, 290), slopes, strict=True)]
        found = without_lines(np.maximum(stroke, np.any(lines, 0)))
        assert found[stroke == 0].mean() < 0.1 * np.any(lines, 0)[stroke == 0].mean(), slopes
        assert found[stroke > 0].mean() > 0.97, slopes
    bar = np.float32(abs(y - 100 - 0.05 * x) < 1.5)  # one sloping stroke by itself is no paper's line
    np.testing.assert_array_equal(without_lines(bar), bar)


def test_a_desk_becomes_paper_and_a_digit_at_the_side_stays():
    y, x = np.mgrid[:400, :300].astype(np.float32)
    digit = (abs(np.hypot((y - 250) / 80, (x - 170) / 50) - 1) < 0.15) * np.float32(0.6)
    paper = 0.6 + 0.3 * x / 300
    on_desk = np.where(x + 0.3 * y < 90, np.float32(0.1), paper - digit)
    np.testing.assert_allclose(without_desk(on_desk), paper - digit, atol=0.12)
    tight = (paper - digit)[168:332, 118:222]  # it touches all four sides
    np.testing.assert_array_equal(without_desk(tight), tight)
    shadow = (paper - digit) * np.where(y < 300, np.float32(1), np.float32(0.5))
    np.testing.assert_array_equal(without_desk(shadow), shadow)


def test_framed_is_centred_as_mnist_s_own_are():
    images = DIGITS.test_images[:200] / 255
    for image in images:
        again = framed(np.pad(ink.enlarged((image * 255).astype(np.uint8), 280), 20))
        places = np.arange(28) + 0.5
        middle = [float((again.sum(axis) * places).sum() / again.sum()) for axis in (0, 1)]
        assert max(abs(m - 14.5) for m in middle) <= 0.15
        rows, columns = np.nonzero(again > 0.25)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20)


def test_digits_that_touch_are_told(tmp_path):
    sheet = np.full((200, 400), 255, np.uint8)
    sheet[60:140, 100:104] = sheet[60:140, 200:204] = sheet[100:104, 100:204] = 0
    Image.fromarray(sheet).save(tmp_path / "x.png")
    assert [
        seen.note.endswith("very wide: digits that touch are read as one")
        for seen in look(tmp_path / "x.png", (28, 28))
    ] == [True]
    Image.fromarray(sheet.T).save(tmp_path / "x.png")
    assert ["wide" in seen.note for seen in look(tmp_path / "x.png", (28, 28))] == [False]


def test_a_blank_sheet_is_said_to_be_blank(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.02, ink.SHEET)
    for sheet in (np.full(ink.SHEET, 0.9), 0.9 + noise, ink.light(ink.SHEET, np.random.default_rng(1)), noise):
        Image.fromarray(ink.eight_bits(sheet)).save(tmp_path / "x.png")
        with pytest.raises(ValueError, match="blank"):
            list(look(tmp_path / "x.png", (28, 28)))


def test_numbers_of_8_bits_in_a_file_of_16_say_what_to_do(tmp_path):
    sheet = ink.eight_bits(ink.on_sheet(DIGITS.test_images[0], np.random.default_rng(1)))
    Image.fromarray(sheet.astype(np.uint16)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match="all is nearly black: scale 8-bit values"):
        list(look(tmp_path / "x.png", (28, 28)))


@pytest.mark.parametrize("tone", [0, 1, 100, 243, 255, (245, 244, 238)])
def test_a_sheet_of_one_tone_is_blank(tmp_path, tone):
    mode = "L" if isinstance(tone, int) else "RGB"
    Image.new(mode, (600, 28), tone).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match="blank"):
        list(look(tmp_path / "x.png", (28, 28)))
    Image.new(mode, (28, 28), tone).save(tmp_path / "small.png")  # of the training size: not framed, but it is said
    (small,) = look(tmp_path / "small.png", (28, 28))
    assert small.note.startswith("blank, all of one tone, ")


# ---- the command ----


def test_it_goes_on_after_a_bad_file(run, tmp_path, capsys):
    images, labels = known(run)
    sheet = ink.eight_bits(ink.on_sheet(images[5], np.random.default_rng(0)))
    Image.fromarray(sheet).save(tmp_path / "good.jpg")
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    files = [tmp_path / "bad.png", tmp_path / "none.png", tmp_path, tmp_path / "good.jpg"]
    assert predict([str(run), *map(str, files)]) == 2
    out, err = capsys.readouterr()
    assert re.fullmatch(rf".*good.jpg: {labels[5]} \(\d+.\d%; next .*cropped from 800x600.*\]\n", out)
    assert [line.startswith("minidl.predict: error: ") for line in err.splitlines()] == [True] * 3
    assert predict([str(run), str(files[-1])]) == 0
    for place in range(3):  # an option may stand anywhere
        args = [str(run), str(files[-1])]
        assert predict([*args[:place], "--as-is", *args[place:]]) == 0
        assert "as is" in capsys.readouterr().out


def test_show_writes_what_the_network_saw(run, tmp_path, capsys):
    page = ink.eight_bits(ink.written(row([1, 2, 3], 80)))
    Image.fromarray(page).save(tmp_path / "three.png")
    write_idx(tmp_path / "x.idx", DIGITS.test_images[:40])
    args = [str(run), str(tmp_path / "three.png"), str(tmp_path / "x.idx"), "--show"]
    assert predict([*args, str(tmp_path / "seen.png")]) == 0
    assert capsys.readouterr().out.endswith("seen.png, the first 24 of 43 images\n")
    with Image.open(tmp_path / "seen.png") as picture:
        width, height = picture.size
        assert (width, height) == (840, 24 * 260)
    for wrong, why in ((tmp_path / "seen.jpg", "must end in .png"), (tmp_path / "no" / "s.png", "there is no folder"),
                       (tmp_path / "three.png", "would overwrite")):  # fmt: skip
        assert predict([*args, str(wrong)]) == 2
        assert why in capsys.readouterr().err


@pytest.mark.parametrize("name", ["7", "T-shirt/top", "class number 12", "a name that is longer than the room"])
def test_names_of_classes_are_not_written_over_the_picture(tmp_path, monkeypatch, name):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **how: drawn.append(figure))
    shown.show(tmp_path / "seen.png", [(Seen("x", DIGITS.test_images[0] / 255), np.full(10, 0.1))], [name] * 10)
    (figure,) = drawn
    _, picture, bars = figure.axes
    figure.draw_without_rendering()
    left = min(each.get_window_extent().x0 for each in bars.get_yticklabels())
    assert picture.get_window_extent().x1 < left
    assert bars.title.get_window_extent().x1 <= figure.bbox.x1


def test_a_network_of_other_data_gets_pictures_whole(tmp_path, capsys):
    data, out = tiny_dataset(tmp_path / "data"), tmp_path / "run"
    status, output = train("--dataset", data, "--epochs", 1, "--out", out, log=tmp_path / "log")
    assert status == 0, output
    Image.fromarray(np.full((100, 80), 250, np.uint8)).save(tmp_path / "x.png")
    assert predict([str(out), str(tmp_path / "x.png")]) == 0
    assert capsys.readouterr().out.endswith("[blank, all of one tone, dark on light: inverted, resized from 100x80]\n")


def test_polarity_of_a_data_set():
    digits = DIGITS.train_images[:: len(DIGITS.train_images) // 50]
    both = np.concatenate([digits, 255 - digits])
    assert [polarity_of(x, made) for x in (digits, 255 - digits, both) for made in (None, False, True)] == [
        *["light on dark"] * 3, *["dark on light"] * 3, "light on dark", "of both kinds", "of both kinds, inverted",
    ]  # fmt: skip


@pytest.mark.parametrize("size", [(1, 784), (784, 1), (10, 300)])
def test_a_digit_in_a_long_frame_takes_no_time(size):
    """The black around it was as wide as the frame is long on all sides: a minute."""
    start = time.monotonic()
    image = framed(load_mnist("mnist5k").test_images[0] / 255, size)
    assert time.monotonic() - start < 10
    assert image.shape == size
    assert image.max() == 1
