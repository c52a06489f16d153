"""Epsilons that independent code gives, as checked by hand for the brief (tensorflow_privacy.md §3.7, §7, §8)."""

MNIST_Q = 256 / 60_000
DELTA = 1e-5

# noise multiplier, epochs of 234 steps: published, classic, rdp, pld, Opacus rdp, Opacus prv, Opacus gdp
MNIST = {
    (1.3, 15): (1.19, 1.1915, 0.9538, 0.8638, 0.9538, 0.8738, 0.8337),
    (1.1, 60): (3.01, 3.0059, 2.5944, 2.3796, 2.5944, 2.3897, 2.3222),
    (0.7, 45): (7.10, 7.0965, 6.3149, 5.6351, 6.3136, 5.6454, 5.0614),
    (1.1, 1): (1.03, 1.0340, 0.7402, 0.3065, 0.7402, 0.3165, 0.2454),
    (1.1, 2): (1.11, 1.1086, 0.8066, 0.4169, 0.8066, 0.4269, 0.3579),
}

# noise multiplier, epochs: classic, rdp, pld
EARLIER = {
    (1.12, 60): (2.920, 2.516, 2.308),
    (0.6, 30): (9.754, 8.771, 7.685),
    (1.2, 10): (1.198, 0.931, 0.792),
    (1.12, 1): (1.000, 0.707, 0.294),
    (1.12, 2): (1.041, 0.747, 0.402),
}

# examples, batch, noise multiplier, epochs, delta: current RDP and its order (TF Privacy's unit test)
STATEMENT = {
    (60_000, 150, 1.3, 15, 1e-5): (0.7242234026, 19),
    (100_000, 100, 1.0, 30, 1e-7): (1.4154988495, 13),
}
