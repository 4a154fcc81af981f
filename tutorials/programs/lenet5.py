import numpy as np

from minidl import Trainer, evaluate, load_mnist, nn, seed, split
from minidl.optim import SGD, Hybrid, Rule


class LeNet5(nn.Module):
    def __init__(self):
        self.conv1, self.conv2, self.pool = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5), nn.MaxPool2d(2)
        self.hidden1, self.hidden2, self.last = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = self.pool(self.conv2(self.pool(self.conv1(x).relu())).relu()).flatten(1)
        return self.last(self.hidden2(self.hidden1(x).relu()).relu())


class Lion(Rule):  # Chen et al. 2023: each weight moves by the learning rate
    name, vectors = "lion", ("m",)

    def rule(self, g, p, lr, m):
        p[...] = -lr * np.sign(0.9 * m + 0.1 * g)
        m[...] = 0.99 * m + 0.01 * g


with seed(0):
    net, data = LeNet5(), split(load_mnist("mnist5k"))
good = lambda progress: max(progress.history("val_accuracy"), default=0) > 0.9  # noqa: E731
optimizer = Hybrid(net.parameters(), first=Lion(lr=1e-3), then=SGD(lr=0.01, momentum=0.9), switch=good)
Trainer(net, optimizer, data, batch_size=64).fit(3)
print(optimizer.verdict(), evaluate(net, data.test), sep="\n")
