"""Keras's convolutional network for MNIST, keras.io/examples/vision/mnist_convnet, with minidl."""

from minidl import Trainer, load_mnist, nn, seed, split
from minidl.optim import Adam
from minidl.teach import show

data = split(load_mnist("mnist5k"))
with seed(0):
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(1600, 10, init="xavier"),
    )
print(net)  # 34,826 parameters, as Keras says
trainer = Trainer(net, Adam(net.parameters()), data, batch_size=128)
record = trainer.fit(4)
show.curves(record, save="curves.png")
images, labels = data.test
show.mistakes(images, labels, trainer.predict(images), save="mistakes.png")
print(trainer.evaluate())
