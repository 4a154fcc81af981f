# %% [markdown]
# # 7. The switch
#
# **Goal.** Understand how training can start with Adam and continue with SGD: when to switch, and which learning rate
# SGD should use. SWATS (Keskar & Socher 2017) answers both questions with geometry that fits in one figure.
#
# **Time.** 25 minutes. **Before this:** lessons 5 and 6.
#
# *On Colab:* run `!git clone URL minidl` (URL: the address of this repository) and `%pip install ./minidl`, then
# restart the session. Elsewhere: see the [README of the lessons](README.md).

# %%
import numpy as np

from minidl import Tensor
from minidl.data import load_mnist, split
from minidl.optim import SGD, SWATS, Adam, AfterEpochs, Hybrid, Plateau, Projected
from minidl.teach import show
from minidl.teach.landscape import ravine
from minidl.trainer import Trainer
from minidl.training.models import build_model

# %% [markdown]
# Adam makes fast progress with hardly any tuning. SGD with momentum, if well tuned, often ends at weights that
# generalize better, that is, do better on new images (lesson 10 has a case where this can be proved). This suggests
# starting with Adam and finishing with SGD. Two questions remain. *When* to switch? And with *which learning rate*
# should SGD continue? Adam's own learning rate does not tell: it sets the length of a step, while that of SGD
# multiplies the gradient.
#
# ## A learning rate from geometry
#
# Adam has just taken the step p. The gradient was g. SGD with the learning rate gamma would have taken the step
# -gamma g. For which gamma is that "the same step"? The two point in different directions, so no gamma makes them
# equal. SWATS takes the gamma for which the *orthogonal projection* of the SGD step on p, its shadow on the line of
# p, is exactly p.

# %%
p, g = np.array([-0.9, -0.4]), np.array([0.5, 0.9])
show.projection(p, g)

# %% [markdown]
# As a formula: the component of $-\gamma g$ along p must be as long as p, so $(-\gamma g) \cdot p = p \cdot p$, and
#
# $$\gamma = \frac{p \cdot p}{-\,p \cdot g}$$
#
# **Predict before you run.** Suppose that p points exactly along -g and is half as long as g. What is gamma? And what
# happens to gamma as the angle between p and -g grows towards 90 degrees?

# %%
half = -g / 2
print("p = -g/2:  gamma =", half @ half / -(half @ g))
for degrees in (0, 30, 60, 80, 89, 100):
    angle = np.radians(degrees)
    step = 0.5 * np.array([np.cos(angle), np.sin(angle)])
    gradient = np.array([-1.0, 0.0])  # -g points along the first axis
    print(f"angle {degrees:3}: gamma = {step @ step / -(step @ gradient):8.3f}")

# %%
show.projection(np.array([-0.3, -0.95]), np.array([0.9, 0.1]))

# %% [markdown]
# The more Adam and SGD disagree about the direction, the longer the SGD step must be for its projection to be as long
# as p. Beyond 90 degrees gamma is negative and cannot be used as a learning rate. (With the noisy gradient of a
# single batch, this does happen.)
#
# ## Gamma and Lambda over time
#
# gamma changes from step to step. SWATS keeps a running average of it, Lambda, with the same bias correction as
# Adam's averages. Once gamma and Lambda agree, a single SGD learning rate describes what Adam does: it is time to
# switch to SGD, with the learning rate Lambda.
#
# The simplest case is a constant gradient.
#
# **Predict before you run.** Adam has lr = 0.1, and the gradient is always 2. How long is each step? So what is gamma
# at every step? When do gamma and Lambda agree?


# %%
def slope(w):
    return 2.0 * w[0] + 0.0 * w[1]


def run_swats(loss, start, steps):
    """Run SWATS and return it: it records gamma and Lambda of each step."""
    w = Tensor(np.array(start), requires_grad=True)
    swats = SWATS([w], lr=0.1)
    for _ in range(steps):
        swats.zero_grad()
        loss(w).backward()
        swats.step()
    return swats


swats = run_swats(slope, (0.0, 0.0), 20)
print(swats.verdict())
print("gammas before the switch:", [round(gamma, 6) for gamma in swats.projection.gammas])

# %% [markdown]
# It switches as early as possible, at step 2. (At step 1, gamma and Lambda are equal by definition, so the paper does
# not compare them.) The paper's tolerance is 1e-9: the two must agree to nine decimals.
#
# Now the ravine, where the gradient changes with every step.

# %%
swats = run_swats(ravine, (-2.0, 1.0), 60)
print(swats.verdict())
rates = {"gamma": swats.projection.gammas, "Lambda": swats.projection.lambdas}
show.curves(rates, ylabel="learning rate", ylim=(-0.5, 1.0))

# %% [markdown]
# gamma varies, Lambda follows slowly, and the lines cross now and then. But crossing is not enough: at some step the
# two would have to agree to nine decimals. On real data this almost never happens, and if a program does not report
# it, you may believe that you trained with SGD when you did not. minidl reports it, in the verdict above.
#
# ## On digits
#
# Now train a network on the 5,000 digits, first with the exact rule.

# %%
dataset = load_mnist(name="mnist5k")
splits = split(dataset, seed=0)


def train(make, epochs=8):
    """Train an MLP; returns its optimizer and the record of each epoch."""
    model = build_model("mlp", splits.image_size, splits.classes, seed=0)
    optimizer = make(model.parameters())
    return optimizer, Trainer(model, optimizer, splits, batch_size=64).fit(epochs, verbose=False)


exact, exact_record = train(lambda parameters: SWATS(parameters))
print(exact.verdict())
rates = {"gamma": exact.projection.gammas, "Lambda": exact.projection.lambdas}
show.curves(rates, ylabel="learning rate", ylim=(-0.5, 2.0))

# %% [markdown]
# Lambda varies far less than gamma: there is an SGD learning rate that describes Adam on average. But each gamma
# comes from one noisy batch, and the exact rule compares it with the average to nine decimals. (A gradient nearly
# orthogonal to the step gives a gamma so large that even the average jumps.)
#
# The useful question is whether *Lambda has settled*. So compare it with the mean of the last 50 gammas, which
# averages out the noise of single batches, and allow a relative difference of 1 %.
#
# **Predict before you run.** From the figure above, at about which step will this condition hold?

# %%
settled = Projected(rtol=0.01, window=50)
practical, practical_record = train(
    lambda parameters: Hybrid(
        parameters,
        first=Adam(lr=1e-3),
        then=SGD(momentum=0.9),
        switch=settled,
        lr_after="projected",
    )
)
print(practical.verdict())
marks = {"switch": practical.switch_event.step} if practical.switch_event else None
rates = {"gamma": practical.progress.gammas, "Lambda": practical.progress.lambdas}
show.curves(rates, ylabel="learning rate", ylim=(-0.5, 2.0), marks=marks)

# %% [markdown]
# `Hybrid` is the general form: a first optimizer, a second one, a condition for the switch, and a learning rate after
# it. SWATS is one choice among many. Other conditions are simpler: has the validation loss stopped falling? Have five
# epochs passed? Conditions can be combined with `|` (or) and `&` (and).

# %%
plateau, plateau_record = train(
    lambda parameters: Hybrid(
        parameters,
        first=Adam(lr=1e-3),
        then=SGD(lr=0.02, momentum=0.9),
        switch=Plateau("val_loss", patience=1) | AfterEpochs(5),
    )
)
print(plateau.verdict())
adam, adam_record = train(lambda parameters: Adam(parameters, lr=1e-3))
records = {
    "Adam": adam_record,
    "SWATS in practice": practical_record,
    "plateau or epoch 5": plateau_record,
}
show.curves(
    {name: [r["val_loss"] for r in record] for name, record in records.items()},
    xlabel="epoch",
    ylabel="validation loss",
)

# %% [markdown]
# The most visible feature of this figure is the peak: with SWATS, the validation loss jumps right after the switch.
# Lambda is chosen so that its steps match those of Adam. But Adam spreads a step over all weights, while SGD moves
# mostly in the directions in which the gradient is largest, up and down the steep walls, and there such a step is too
# long. One epoch later the loss is back among the others. With `lr_after=0.01` and the same switch the peak is gone:
# try it.
#
# Which is better? One run with one seed on 5,000 digits cannot tell: with another seed, the curves may be in a
# different order. Lesson 12 makes a fair comparison.
#
# ## The momentum at the switch
#
# One detail remains. With momentum, the steps of SGD become up to 1/(1 - mu) times as long as without (lesson 5).
# Lambda describes the *whole* step. So after the switch, SWATS multiplies the learning rate by (1 - mu): in the
# output below it is a tenth of Lambda.

# %%
if practical.switch_event:
    print(f"Lambda at the switch: {practical.progress.lam:.4f}")
    print(f"learning rate after the switch: {practical.switch_event.lr:.4f}")

# %% [markdown]
# ## Exercises
#
# **1.** With a single weight, p and g are two numbers. What is gamma then, and can it differ from the learning rate
# with which SGD would take exactly Adam's step?
#
# <details><summary>Answer</summary>
#
# ```python
# p1, g1 = -0.001, 0.25
# gamma = (p1 * p1) / -(p1 * g1)
# assert np.isclose(-gamma * g1, p1)
# print("SGD's step with this gamma:", -gamma * g1)
# ```
#
# gamma = -p/g, and the SGD step is exactly Adam's step. In one dimension there is no angle between the two.
#
# </details>
#
# **2.** Many implementations compute gamma separately for each layer, and switch all layers as soon as one of them
# satisfies the condition. Take w[0] and w[1] of the ravine as two "layers", and compare their gammas with that of the
# whole vector.
#
# <details><summary>Answer</summary>
#
# ```python
# start = np.array([-2.0, 1.0])
# w = Tensor(start.copy(), requires_grad=True)
# adam = Adam([w], lr=0.1)
# ravine(w).backward()
# adam.step()
# p, g = w.data - start, w.grad
# print("gamma of w[0] alone:", -p[0] / g[0], " of w[1] alone:", -p[1] / g[1])
# print("gamma of both:", (p @ p) / -(p @ g))
# assert -p[1] / g[1] < (p @ p) / -(p @ g) < -p[0] / g[0]
# ```
#
# Each layer has a different gamma, and that of the whole vector lies between them. A single learning rate for all
# layers must be computed from the whole vector.
#
# </details>
#
# **3.** Write a condition of your own: switch once the training accuracy of an epoch is above 95 %. Any function that
# takes a `Progress` is a condition.
#
# <details><summary>Answer</summary>
#
# ```python
# def good_enough(progress):
#     return bool(progress.reports) and progress.reports[-1]["train_accuracy"] > 0.95
#
#
# mine, _ = train(
#     lambda parameters: Hybrid(
#         parameters, first=Adam(), then=SGD(lr=0.02, momentum=0.9), switch=good_enough
#     )
# )
# print(mine.verdict())
# assert mine.phase == "sgd"
# ```
#
# The library has this one as `Crossing("train_accuracy", 0.95)`.
#
# </details>
#
# **4.** Switch on the ravine, after 15 steps, with `lr_after="projected"` and with `lr_after=0.1`. Draw both.
#
# <details><summary>Answer</summary>
#
# ```python
# from minidl.teach.landscape import descend, paths
#
#
# def hybrid(lr_after):
#     return lambda parameters: Hybrid(
#         parameters,
#         first=Adam(lr=0.1),
#         then=SGD(momentum=0.9),
#         switch=lambda progress: progress.step >= 15,
#         lr_after=lr_after,
#     )
#
#
# walks = {
#     str(after): descend(ravine, hybrid(after), (-2.0, 1.0), 60) for after in ("projected", 0.1)
# }
# paths(ravine, walks)
# for name, walk in walks.items():
#     heights = [ravine(Tensor(point)).item() for point in walk]
#     print(f"{name:9} ends at loss {heights[-1]:.4f}, x {walk[-1][0]:+.3f}, y {walk[-1][1]:+.3f};", end=" ")
#     print(f"highest after the switch {max(heights[15:]):.2f}")
# height = {name: ravine(Tensor(walk[-1])).item() for name, walk in walks.items()}
# assert height["projected"] < height["0.1"]
# ```
#
# Both get there. The projected learning rate ends at a slightly lower loss, though farther away in x: across the
# ravine, the same distance counts 25 times as much. The difference is in the path: with 0.1 it jumps from wall to
# wall.
#
# </details>
#
# ## What to read next
#
# [`optim/projection.py`](../optim/projection.py): gamma and Lambda, in twenty lines.
# [`optim/switch.py`](../optim/switch.py): every condition. [`optim/swats.py`](../optim/swats.py): Algorithm 1 of the
# paper. The assignment for this lesson is [A3](assignments/A3/README.md): write the switch and SWATS yourself. Then
# [lesson 8](08_convolution.ipynb): another kind of layer.
