"""The numbers that the paper publishes: test errors in percent, (mean, standard deviation) over five seeds.

Tables 3 and 4 have one number per cell, whose deviation is None.
"""

Error = tuple[float, float | None]
Errors = dict[int, dict[str, Error]]  # {batch size: {column: (mean, std)}}

TABLE1: Errors = {
    128: {
        "BN": (26.91, 1.08),
        "IN": (28.87, 2.28),
        "LN": (27.31, 0.71),
        "MN K=2": (23.16, 1.23),
        "MN K=4": (24.25, 0.71),
        "MN K=6": (25.12, 1.48),
    }
}

TABLE2: Errors = {
    4: {"BN": (33.40, 0.75), "MN": (32.80, 1.59), "GN": (32.15, 1.10), "MGN": (31.30, 1.65)},
    8: {"BN": (31.98, 1.53), "MN": (29.05, 1.51), "GN": (28.60, 1.45), "MGN": (26.83, 1.34)},
    16: {"BN": (30.38, 0.60), "MN": (28.70, 0.68), "GN": (27.63, 0.45), "MGN": (26.00, 1.68)},
}

TABLE5: Errors = {
    256: {
        "BN": (26.34, 1.82),
        "IN": (31.15, 3.46),
        "LN": (26.95, 2.51),
        "MN K=2": (25.29, 1.31),
        "MN K=4": (25.04, 1.88),
        "MN K=6": (24.88, 1.24),
    },
    512: {
        "BN": (26.51, 1.15),
        "IN": (29.00, 1.85),
        "LN": (28.98, 1.32),
        "MN K=2": (26.18, 1.86),
        "MN K=4": (24.29, 1.82),
        "MN K=6": (25.33, 1.33),
    },
}

TABLE3: dict[str, dict[str, dict[str, Error]]] = {  # {task: {network: {column: ...}}}
    "cifar10": {
        "NIN": {"BN": (8.82, None), "MN": (8.42, None)},
        "VGG13": {"BN": (8.28, None), "MN": (7.79, None)},
        "ResNet20": {"BN": (8.44, None), "MN": (7.99, None)},
    },
    "cifar100": {
        "NIN": {"BN": (32.30, None), "MN": (31.66, None)},
        "VGG13": {"BN": (31.15, None), "MN": (30.06, None)},
        "ResNet20": {"BN": (31.56, None), "MN": (30.53, None)},
    },
}

TABLE4: dict[str, dict[str, Error]] = {
    "top-1": {"BN": (30.25, None), "MN": (30.07, None)},
    "top-5": {"BN": (10.90, None), "MN": (10.65, None)},
}

OVERHEAD = {"MN K=6": 5.0}  # percent of the training time of LeNet that this norm adds
