import torch
from safetensors.torch import load_file, save_file

from minidl import Observer, Trainer, load_mnist, load_run, nn, seed, split
from minidl.optim import Adam


def cnn(nn):  # nn: minidl's or PyTorch's
    block = [nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(4)]
    return nn.Sequential(*block, nn.Flatten(), nn.Linear(784, 10))


class Stop(Observer):  # in the middle of epoch 2; Ctrl-C does the same, then raises KeyboardInterrupt
    def after_step(self, step):
        return step.number == 80


with seed(0):
    net, data = cnn(nn), split(load_mnist("mnist5k"))
Trainer(net, Adam(net.parameters()), data, batch_size=64, folder="runs/cnn").fit(3, [Stop()])
run = load_run("runs/cnn")  # from another program too: it continues bit for bit
run.fit(2)
print(run, run.evaluate(), sep="\n")
run.model.save("cnn.safetensors")  # the weights alone
twin = cnn(torch.nn).eval()
twin.load_state_dict(load_file("cnn.safetensors"))
theirs = twin(torch.tensor(data.test.images[:, None]) / 255).softmax(1).detach().numpy()
print("PyTorch differs by at most", abs(theirs - run.predict(data.test.images)).max())
save_file(twin.state_dict(), "back.safetensors")
net.load("back.safetensors")
