"""Softmax regression on handwritten digits, with the update of gradient descent written out.

``sg.train`` has optimisers ready made; here the new values of the variables are ordinary expressions, given to
``sg.function`` as updates: loss, gradient and update run as one compiled function.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

import symgraph as sg


def main() -> float:
    with sg.Graph():
        X = sg.placeholder("X", ("n", 64))
        labels = sg.placeholder("labels", ("n",), "int64")
        W, b = sg.variable(np.zeros((64, 10)), name="W"), sg.variable(np.zeros(10), name="b")
        scores = X @ W + b
        loss = sg.mean(sg.softmax_cross_entropy(scores, labels))
        correct = sg.mean(sg.equal(sg.argmax(scores, axis=1), labels).astype("float64"))
    dW, db = sg.gradients(loss, [W, b])
    step = sg.function([X, labels], loss, updates={W: W - 0.5 * dW, b: b - 0.5 * db})
    accuracy = sg.function([X, labels], correct)

    images, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(digits))
    images, digits = images[order] / 16, digits[order].astype(np.int64)
    for i in range(501):
        value = step(images[360:], digits[360:])
        if i % 100 == 0:
            print(f"step {i:3}: loss {value:.4f}")

    found = float(accuracy(images[:360], digits[:360]))
    print(f"{found:.1%} of the test images are recognised")
    return found


if __name__ == "__main__":
    main()
