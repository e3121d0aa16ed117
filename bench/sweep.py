"""Optuna's samplers on the functions of bench/src/sweep.rs: prints what each found, as JSON.

Usage: python sweep.py TABLE.csv SEEDS
"""

import csv
import json
import math
import sys
import time

import numpy as np
import optuna
from optuna._hypervolume import compute_hypervolume

optuna.logging.set_verbosity(optuna.logging.ERROR)

HARTMANN_A = [1.0, 1.2, 3.0, 3.2]
HARTMANN_B = [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
HARTMANN_P = [
    [0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886],
    [0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991],
    [0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650],
    [0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381],
]


def bowl(t):
    x = t.suggest_float("x", 0, 1) - 0.3
    lr = math.log10(t.suggest_float("lr", 1e-5, 1e-1, log=True)) + 3
    kind = 0.0 if t.suggest_categorical("kind", ["a", "b", "c", "d"]) == "c" else 0.3
    wide = t.suggest_int("wide", 1, 8) - 4
    return 4 * x * x + 0.25 * lr * lr + kind + 0.02 * wide * wide


def hartmann(t):
    x = [t.suggest_float(f"x{i}", 0, 1) for i in range(6)]
    inner = [sum(b * (v - p) ** 2 for v, b, p in zip(x, bs, ps)) for bs, ps in zip(HARTMANN_B, HARTMANN_P)]
    return 3.32237 - sum(a * math.exp(-s) for a, s in zip(HARTMANN_A, inner))


def rosenbrock(t):
    x = [t.suggest_float(f"x{i}", -2, 2) for i in range(4)]
    return sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in zip(x, x[1:]))


def zdt1(t):
    x = [t.suggest_float(f"x{i}", 0, 1) for i in range(5)]
    far = 1 + 9 * sum(x[1:]) / 4
    return x[0], far * (1 - math.sqrt(x[0] / far))


def dtlz2(t):
    x = [t.suggest_float(f"x{i}", 0, 1) for i in range(7)]
    far = 1 + sum((v - 0.5) ** 2 for v in x[2:])
    a, b = x[0] * math.pi / 2, x[1] * math.pi / 2
    return far * math.cos(a) * math.cos(b), far * math.cos(a) * math.sin(b), far * math.sin(a)


def table(rows):
    def of(t):
        sparsity = t.suggest_categorical("sparsity", ["60%", "75%", "85%", "90%", "95%"])
        cluster = t.suggest_categorical("cluster", ["on", "off"])
        centroids = t.suggest_categorical("centroids", ["8", "16", "32"]) if cluster == "on" else ""
        return rows[sparsity, cluster, centroids, t.suggest_categorical("weights", ["int8/channel", "int4/channel"])]

    return of


def hypervolume(points, reference):
    """Optuna's own, of whatever lies below the reference."""
    inside = np.array([p for p in points if all(v < r for v, r in zip(p, reference))])
    return float(compute_hypervolume(inside, np.array(reference))) if len(inside) else 0.0


def main():
    with open(sys.argv[1]) as file:
        rows = {(r["sparsity"], r["cluster"], r["centroids"], r["weights"]): (1 - float(r["quality"]), float(r["packed"]) / 1e5) for r in csv.DictReader(file)}
    seeds = int(sys.argv[2])
    samplers = {
        "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
        "sobol": lambda seed: optuna.samplers.QMCSampler(qmc_type="sobol", scramble=True, seed=seed),
        "tpe": lambda seed: optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed),
        "nsga2": lambda seed: optuna.samplers.NSGAIISampler(population_size=24, seed=seed),
        "nsga3": lambda seed: optuna.samplers.NSGAIIISampler(population_size=24, seed=seed),
        "cmaes": lambda seed: optuna.samplers.CmaEsSampler(seed=seed),
    }
    problems = [
        ("bowl", bowl, 60, None),
        ("hartmann6", hartmann, 120, None),
        ("rosenbrock4", rosenbrock, 120, None),
        ("zdt1", zdt1, 150, (1.1, 7.0)),
        ("dtlz2", dtlz2, 200, (2.0, 2.0, 2.0)),
        ("lenet5", table(rows), 15, (0.2, 1.2)),
    ]
    found = []
    for name, function, trials, reference in problems:
        for sampler, make in samplers.items():
            fits = {"nsga2": reference is not None, "nsga3": reference is not None and len(reference) > 2, "cmaes": name in ("hartmann6", "rosenbrock4")}
            if not fits.get(sampler, True):
                continue
            for seed in range(seeds):
                study = optuna.create_study(directions=["minimize"] * (len(reference) if reference else 1), sampler=make(seed))
                spent = 0.0
                for _ in range(trials):
                    started = time.perf_counter()
                    trial = study.ask()
                    value = function(trial)
                    study.tell(trial, value)
                    spent += time.perf_counter() - started
                if reference:
                    score = -hypervolume([t.values for t in study.trials], reference)
                else:
                    score = min(t.value for t in study.trials)
                found.append({"problem": name, "sampler": sampler, "seed": seed, "score": score, "seconds": spent / trials})
    print(json.dumps({"optuna": optuna.__version__, "numpy": np.__version__, "found": found}))


main()
