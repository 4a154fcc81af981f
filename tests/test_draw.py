"""Graphs as SVG, and the pictures of the lessons: what is drawn is what is there."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.figure import Figure

from minidl import Tensor, nn, ops
from minidl.optim import SGD
from minidl.teach import draw, show
from minidl.teach.landscape import descend, paths, ravine

SVG = "{http://www.w3.org/2000/svg}"


def leaf(value):
    return Tensor(np.array(value), requires_grad=True)


def diamond():
    x = leaf(3.0)
    a = x * 2.0
    left, right = a * a, a.exp()
    return x, a, left, right, left + right


def boxes(picture):
    """(x, y, width, height) of each box; the first rectangle is the background."""
    rects = ET.fromstring(picture.svg).findall(f"{SVG}rect")[1:]
    return [tuple(float(r.get(k)) for k in ("x", "y", "width", "height")) for r in rects]


# ---- graphs ----


def test_a_graph_has_a_box_for_each_tensor_with_its_numbers():
    x, a, left, right, y = diamond()
    picture = draw.graph(y, x=x, a=a, left=left, right=right, y=y)
    texts = [t.text for t in ET.fromstring(picture.svg).iter(f"{SVG}text")]
    for title in ("x", "a = mul", "left = mul", "right = exp", "y = add"):
        assert title in texts
    assert "value 36" in texts
    slope = 2 * (2 * 6.0) + 2 * np.exp(6.0)
    assert f"grad  {slope:.4g}" in texts
    assert len(boxes(picture)) == 5
    assert repr(picture).count("\n") == 4


def test_gradients_of_inner_tensors_are_those_of_finite_differences():
    x, a, left, right, y = diamond()
    grads = draw.gradients(y)
    h = 1e-6
    assert grads[y] == 1
    assert grads[left] == grads[right] == 1
    np.testing.assert_allclose(grads[a], ((6 + h) ** 2 + np.exp(6 + h) - (6 - h) ** 2 - np.exp(6 - h)) / (2 * h))
    assert x.grad is None, "drawing changes nothing"
    y.backward()
    np.testing.assert_allclose(grads[x], x.grad)


def test_gradients_of_a_network_are_those_of_backward():
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(6, 5, rng=rng), nn.ReLU(), nn.Linear(5, 3, rng=rng))
    loss = ops.cross_entropy(model(Tensor(rng.normal(size=(4, 6)).astype(np.float32))), np.array([0, 1, 2, 0]))
    grads = draw.gradients(loss)
    loss.backward()
    for p in model.parameters():
        np.testing.assert_array_equal(grads[p], p.grad)


def chain(n):
    y = leaf(1.0)
    for _ in range(n):
        y = y * 1.0001
    return y


def shortcut(n):
    """Each value adds up all that came before: arrows over many layers."""
    values = [leaf(0.1)]
    for _ in range(n):
        total = values[0]
        for value in values[1:]:
            total = total + value
        values.append(total.tanh())
    return values[-1]


@pytest.mark.parametrize("root", [diamond()[-1], chain(30), shortcut(4)], ids=["diamond", "chain", "shortcuts"])
def test_boxes_do_not_overlap_and_lie_inside(root):
    picture = draw.graph(root)
    found = boxes(picture)
    for i, (x, y, w, h) in enumerate(found):
        for x2, y2, w2, h2 in found[i + 1 :]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y
    left, top, width, height = map(float, ET.fromstring(picture.svg).get("viewBox").split())
    assert all(left <= x and x + w <= left + width and top <= y and y + h <= top + height for x, y, w, h in found)


def test_every_arrow_goes_from_left_to_right():
    svg = draw.graph(shortcut(4)).svg
    starts_and_ends = re.findall(r"M([\d.]+),[-\d.]+ C[^\"]* ([\d.]+),[-\d.]+\"", svg)
    assert starts_and_ends
    assert all(float(x0) < float(x1) for x0, x1 in starts_and_ends)


def test_first_operands_are_above_second_ones():
    a, b = leaf(1.0), leaf(2.0)
    picture = draw.graph(a + b, a=a, b=b)
    titles = [t.text for t in ET.fromstring(picture.svg).iter(f"{SVG}text")]
    places = dict(zip([t for t in titles if t in ("a", "b", "add")], boxes(picture), strict=True))
    assert places["a"][1] < places["b"][1]
    assert places["add"][0] > places["a"][0]


def test_a_long_chain_and_names_that_svg_does_not_like(tmp_path):
    y = chain(2000)
    assert len(boxes(draw.graph(y, with_gradients=False))) == 2001
    x = leaf(1.0)
    picture = draw.graph(x * 2.0, **{'<w> & "v"': x})
    assert '<w> & "v"' in [t.text for t in ET.fromstring(picture.svg).iter(f"{SVG}text")]
    picture.save(tmp_path / "graph.svg")
    assert (tmp_path / "graph.svg").read_text(encoding="utf-8") == picture._repr_svg_()


def test_a_leaf_alone_and_an_array():
    assert "leaf" in repr(draw.graph(leaf(1.0)))
    x = Tensor(np.zeros((4, 3)), requires_grad=True)
    assert "4x3" in repr(draw.graph(x * 2.0)), "no gradients without a scalar, but a picture"


@pytest.mark.parametrize("asked", [
    lambda: draw.graph(nn.Linear(2, 1)), lambda: draw.graph(3.0), lambda: draw.graph(Tensor(np.ones(1)), depth=3),
])  # fmt: skip
def test_only_tensors_have_a_graph(asked):
    with pytest.raises(TypeError, match=r"graph: (root|depth) must be a Tensor, such as a batch's loss, not a \w+$"):
        asked()


def test_a_freed_graph_says_what_to_do():
    *_, y = diamond()
    y.backward()
    with pytest.raises(RuntimeError, match="retain_graph"):
        draw.graph(y)


# ---- pictures ----


def axes_of(function, *args, **kwargs):
    figure = Figure()
    function(*args, figure=figure, **kwargs)
    return figure.axes


def test_digits_shows_each_image_and_what_was_said_of_it():
    images = np.arange(3 * 16).reshape(3, 4, 4)
    axes = axes_of(show.digits, images, [1, 2, 3], [1, 9, 3], columns=2)
    np.testing.assert_array_equal(axes[1].images[0].get_array(), images[1])
    assert [a.get_title() for a in axes[:3]] == ["1", "9 not 2", "3"]
    assert axes[0].title.get_color() == show.RIGHT
    assert axes[1].title.get_color() == show.WRONG
    assert not axes[3].images
    assert [a.get_title() for a in axes_of(show.digits, images[:1], predictions=[5])] == ["5"]


def test_labels_of_other_images_are_refused():
    """Otherwise show.digits(images[wrong], labels) would show wrong labels."""
    images, labels = np.zeros((5, 4, 4)), np.arange(5)
    for more in ({"labels": labels}, {"labels": labels[:2], "predictions": labels}):
        with pytest.raises(ValueError, match=r"2 images but 5 (labels|predictions): choose the same of both"):
            axes_of(show.digits, images[:2], **more)
    with pytest.raises(ValueError, match="5 images but 3 predictions"):
        axes_of(show.mistakes, images, labels, np.zeros((3, 10)))
    with pytest.raises(ValueError, match=r"rows of 784 pixels are no pictures: .*reshape\(-1, 28, 28\)"):
        axes_of(show.digits, np.zeros((3, 784)))


def test_a_model_without_mistakes_has_none_to_show():
    (axes,) = axes_of(show.mistakes, np.zeros((3, 4, 4)), np.arange(3), np.eye(3))
    assert axes.get_title() == "none"
    assert not axes.images


def test_the_greys_and_colours_of_a_picture_are_those_of_its_finite_numbers():
    image = np.array([[-1.0, 0.5], [np.nan, 1.0]])  # standardized, and one number lost
    assert axes_of(show.digits, image)[0].images[0].get_clim() == (-1.0, 1.0)
    assert axes_of(show.digits, abs(image))[0].images[0].get_clim() == (0.0, 1.0)
    for signed in (False, True):
        (axes,) = axes_of(show.numbers, 2 * image, 1, signed)
        assert axes.images[0].get_clim() == (-2.0, 2.0)
        assert {t.get_text() for t in axes.texts} == {"-2.0", "1.0", "nan", "2.0"}


def test_signed_images_have_white_at_zero():
    (axes,) = axes_of(show.digits, np.array([[[-1.0, 3.0]]]), signed=True)
    assert axes.images[0].get_clim() == (-3.0, 3.0)
    assert axes_of(show.digits, np.zeros((1, 2, 2)), signed=True)[0].images[0].get_clim() == (-1.0, 1.0)


def test_numbers_are_written_in_their_cells():
    (axes,) = axes_of(show.numbers, np.array([[1.25, -2.0], [0.0, 4.0]]), decimals=2)
    assert {t.get_position(): t.get_text() for t in axes.texts} == {
        (0, 0): "1.25", (1, 0): "-2.00", (0, 1): "0.00", (1, 1): "4.00",
    }  # fmt: skip


def test_curves_have_the_values_that_they_are_given():
    (axes,) = axes_of(show.curves, {"a": [3, 2, 1], "b": ([10, 20], [5, 6])}, log=True, marks={"here": 15})
    a, b, here = axes.lines
    np.testing.assert_array_equal(a.get_xydata(), [[0, 3], [1, 2], [2, 1]])
    np.testing.assert_array_equal(b.get_xydata(), [[10, 5], [20, 6]])
    assert list(here.get_xdata()) == [15, 15]
    assert axes.get_yscale() == "log"
    assert [t.get_text() for t in axes.get_legend().texts] == ["a", "b", "here"]


@pytest.mark.parametrize("lines", [[0.3, 0.2], np.ones(3), None])
def test_curves_need_names(lines):
    with pytest.raises(TypeError, match=r'curves takes lines with names, {"loss": losses}, or trainer.metrics'):
        axes_of(show.curves, lines)


def test_bars_and_dots():
    (axes,) = axes_of(show.bars, {"x": {"p": 1.0, "q": 0.5}, "y": {"p": 0.25, "q": 0.0}})
    assert [[bar.get_height() for bar in group] for group in axes.containers] == [[1.0, 0.25], [0.5, 0.0]]
    (axes,) = axes_of(show.bars, {"x": {"p": 1.0}, "y": {"p": 0.25, "q": 0.5}})
    p, q = ([bar.get_height() for bar in group] for group in axes.containers)
    assert p == [1.0, 0.25]
    assert np.isnan(q[0])
    assert q[1] == 0.5
    (axes,) = axes_of(show.dots, {"x": [1, 2, 6], "y": [4]})
    assert [line.get_xdata() for line in axes.lines][1] == [3.0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["x", "y"]
    (axes,) = axes_of(show.dots, {"differences": [-1, 2], "nothing": []})
    assert list(axes.lines[-1].get_xdata()) == [0, 0], "a line at 0, and no bar where there is nothing"


@pytest.mark.parametrize("seed", range(3))
def test_projection_states_the_rate_that_explains_p(seed):
    rng = np.random.default_rng(seed)
    g = rng.normal(size=50)
    p = -0.1 * g + 0.05 * rng.normal(size=50)
    (axes,) = axes_of(show.projection, p, g)
    title = axes.figure.get_suptitle()
    gamma = float(title.rpartition("=")[2])
    shadow = (-gamma * g) @ p / (p @ p) * p
    np.testing.assert_allclose(shadow, p, rtol=1e-3)
    angle = float(re.search(r"([\d.]+) degrees", title)[1])
    assert angle == pytest.approx(np.degrees(np.arccos(-(p @ g) / np.linalg.norm(p) / np.linalg.norm(g))), abs=0.06)
    (start, end) = axes.lines[-1].get_xdata()  # the dotted line stands on the end of p
    assert start == end == 1


@pytest.mark.parametrize("p", [[1.0, 0.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 2.0], [1.0, 2.7]])
def test_the_title_of_a_projection_lies_in_the_picture(p, tmp_path):
    figure = Figure(figsize=(5.6, 3.8), dpi=100, layout="constrained")
    show.projection(np.array(p), np.array([-1.0, 0.0]), figure=figure, save=tmp_path / "p.png")
    (title,) = figure.texts
    assert title.get_text().startswith("angle")
    box = title.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= 560


def test_twenty_curves_leave_room_for_themselves(tmp_path):
    figure = Figure(figsize=(7.2, 3.4), dpi=100, layout="constrained")
    show.curves({f"seed {i}": [i, i + 1] for i in range(20)}, figure=figure, save=tmp_path / "c.png")
    assert figure.axes[0].get_window_extent().height > 200


def test_projection_at_and_beyond_a_right_angle_has_no_sgd_step():
    for p in ([1.0, 0.0], [1.0, 0.2]):
        (axes,) = axes_of(show.projection, np.array(p), np.array([0.0, 1.0]))
        assert "right angle on p" not in [t.get_text() for t in axes.get_legend().texts]
    with pytest.raises(ValueError, match="no direction"):
        show.projection(np.zeros(3), np.ones(3))


def test_descend_walks_as_the_formula_says_and_paths_draws_it():
    walk = descend(ravine, lambda p: SGD(p, lr=0.01), (-2.0, 1.0), 5)
    by_hand = [(-2.0 * 0.99**k, 0.75**k) for k in range(6)]
    np.testing.assert_allclose(walk, by_hand, rtol=1e-12)
    axes = axes_of(paths, ravine, {"one": walk, "two": walk[:2], "three": walk[:3]})
    assert [a.get_title() for a in axes] == ["one", "two", "three", ""]
    np.testing.assert_allclose(axes[0].lines[0].get_xydata(), by_hand)
    (star_x,), (star_y,) = axes[0].lines[1].get_data()
    assert abs(star_x) < 0.03
    assert abs(star_y) < 0.03


def test_without_a_figure_of_ones_own_nothing_is_left_open():
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    before = plt.get_fignums()
    show.curves({"a": [1, 2]})
    show.numbers(np.eye(2))
    assert plt.get_fignums() == before
