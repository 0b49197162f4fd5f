"""A search over networks for handwritten digits (scikit-learn's: 1,797 images of 8 x 8 pixels).

caviar run experiments/digits.py        or        python experiments/digits.py
"""

import caviar as cv

study = cv.Study(
    name="digits",
    objective=cv.Classifier(data="sklearn:digits", preprocess="scale"),
    space=cv.Space(
        learning_rate=cv.log(1e-4, 1.0),
        optimizer=cv.choice("sgd", "momentum", "rmsprop", "adam"),
        momentum=cv.when(cv.reverse_log(0.8, 0.999), optimizer="momentum"),
        beta1=cv.when(cv.reverse_log(0.8, 0.99), optimizer="adam"),
        beta2=cv.when(cv.reverse_log(0.9, 0.9999), optimizer=("rmsprop", "adam")),
        batch_size=cv.choice(32, 64, 128, 256),
        layers=cv.integer(1, 4),
        units=cv.integer(16, 256, scale="log"),
        dropout=cv.linear(0.0, 0.5),
        l2=cv.log(1e-7, 1e-2),
        decay=cv.choice("constant", "cosine"),
    ),
    rounds=cv.coarse_to_fine(trials=400, epochs=20),
    seed=0,
)

if __name__ == "__main__":
    study.run()
