"""Speed of the fused engine on a GPU: training steps of all its networks a second, beside other ways.

    python experiments/benchmarks/gpu.py OUT             at most eight minutes on a GPU
    python experiments/benchmarks/gpu.py OUT --cpu       two minutes: the same script on tiny networks, interpreted

It needs torch for CUDA, Triton, Numba, pandas and scikit-learn, and neither Ray nor Optuna; the section `modules` also
needs cloudpickle. Each section is written to
OUT/gpu.json as soon as it is measured, and all of them to OUT/gpu.md; a section that fails leaves its error there.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
if "--cpu" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

from caviar.data.splits import Dataset, split  # noqa: E402
from caviar.engine import Engine, Part, Progress  # noqa: E402
from caviar.training.fused import lane_count  # noqa: E402
from caviar.training.fused.engine import FusedEngine  # noqa: E402
from caviar.training.fused.pack import DeviceSplit, Pack, Tiles  # noqa: E402
from caviar.training.recipe import recipe_from  # noqa: E402
from caviar.training.reference import Network, ReferenceEngine  # noqa: E402
from caviar.trial import Trial, Value  # noqa: E402

CLASSES = 10
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """Networks of one size."""

    layers: int
    units: int
    batch_size: int
    features: int = 64

    @property
    def name(self) -> str:
        """Size in words."""
        return f"{self.layers} x {self.units} units, batch {self.batch_size}, {self.features} inputs"

    @property
    def params(self) -> dict[str, Value]:
        """Hyperparameters of a trial."""
        sizes: dict[str, Value] = {"layers": self.layers, "units": self.units, "batch_size": self.batch_size}
        return sizes | {"optimizer": "adam", "learning_rate": 1e-3}

    @property
    def flops(self) -> float:
        """Floating-point operations of the matrix products of a step."""
        sizes = [self.features, *[self.units] * self.layers, CLASSES]
        products = [a * b for a, b in itertools.pairwise(sizes)]
        return 2.0 * self.batch_size * (3 * sum(products) - products[0])


@dataclass(frozen=True, slots=True)
class Plan:
    """Extent of the measurements on a device."""

    device: str
    shapes: tuple[Shape, ...]
    lanes: tuple[int, ...]
    seconds: float
    """Seconds of each measurement."""
    tiles: tuple[Tiles, ...]
    precisions: tuple[str, ...]
    steps: int
    """Mini-batches of an epoch."""
    rows: int
    """Rows that the networks of the parity check learn from."""
    networks: int
    """Networks of the parity check."""
    trials: int
    """Trials of the small search."""
    max_units: int
    """Units of the widest network of both."""
    vmap_lanes: int


ON_GPU = Plan(
    device="cuda",
    shapes=(Shape(2, 64, 64), Shape(2, 128, 128), Shape(4, 384, 256, features=128)),
    lanes=(1, 8, 64, 256, 1024, 2048, 4096, 8192),
    seconds=0.6,
    tiles=(
        Tiles(),
        Tiles(warps=4),
        Tiles(inputs=16),
        Tiles(inputs=64),
        Tiles(rows=32, units=32, warps=4),
        Tiles(rows=128, units=64),
        Tiles(rows=64, units=32, warps=4),
    ),
    precisions=("ieee", "tf32x3", "tf32"),
    steps=32,
    rows=300,
    networks=48,
    trials=256,
    max_units=128,
    vmap_lanes=256,
)
ON_CPU = Plan(
    device="cpu",
    shapes=(Shape(1, 8, 16, features=8),),
    lanes=(1, 2),
    seconds=0.1,
    tiles=(Tiles(rows=16, units=16, inputs=16), Tiles()),
    precisions=("ieee",),
    steps=2,
    rows=64,
    networks=3,
    trials=2,
    max_units=12,
    vmap_lanes=2,
)


def main() -> None:
    """Measure all sections."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--cpu", action="store_true", help="run the script on a CPU, to see that it works")
    parser.add_argument("--only", nargs="+", help="names of the sections")
    parser.add_argument("--warm", help=argparse.SUPPRESS)
    options = parser.parse_args()
    plan = ON_CPU if options.cpu else ON_GPU
    if options.warm:
        warm_up(plan, *json.loads(options.warm))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Row]] = {}
    for name, section in SECTIONS.items():
        if options.only and name not in options.only:
            continue
        began, rows = time.perf_counter(), list[Row]()
        try:
            for row in section(plan):
                rows.append(row)
                print(name, row, flush=True)
        except Exception as error:  # the other sections are worth having
            rows.append({"error": f"{type(error).__name__}: {error}"})
            traceback.print_exc()
        found[name] = rows
        print(f"{name}: {time.perf_counter() - began:.1f} s", flush=True)
        (options.out / "gpu.json").write_text(json.dumps(found, indent=1))
    (options.out / "gpu.md").write_text(markdown(found))


def markdown(found: dict[str, list[Row]]) -> str:
    """Return all sections as tables."""
    parts = []
    for name, rows in found.items():
        columns = list(dict.fromkeys(key for row in rows for key in row))
        lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
        lines += [" | ".join(str(row.get(column, "")) for column in columns) for row in rows]
        title = SECTIONS[name].__doc__ or name
        parts.append(f"**{title.splitlines()[0]}**\n\n" + "\n".join(f"| {line} |" for line in lines))
    return "\n\n".join(parts) + "\n"


# Sections


def machine(plan: Plan) -> Iterator[Row]:
    """Machine, and what it can do at most."""
    import triton

    is_gpu = plan.device == "cuda"
    yield {"what": "device", "value": torch.cuda.get_device_name() if is_gpu else platform.processor()}
    yield {"what": "cores", "value": os.cpu_count()}
    yield {"what": "torch, triton", "value": f"{torch.__version__}, {triton.__version__}"}
    size = 2**28 if is_gpu else 2**20
    source = torch.zeros(size, device=plan.device)
    target = torch.empty_like(source)
    seconds = timed(plan, lambda: target.copy_(source))
    yield {"what": "copy, GB/s read and written", "value": round(2 * 4 * size / seconds / 1e9, 1)}
    side = 8192 if is_gpu else 256
    a = torch.randn(side, side, device=plan.device)
    for precision in ("ieee", "tf32") if is_gpu else ("ieee",):
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        rate = 2 * side**3 / timed(plan, lambda: a @ a) / 1e12
        yield {"what": f"product of large matrices, {precision}, TFLOP/s", "value": round(rate, 2)}
    torch.backends.cuda.matmul.allow_tf32 = False


def parity(plan: Plan) -> Iterator[Row]:
    """Largest relative difference of the losses from the reference engine after three epochs, and equal bits."""
    dataset = cloud(plan.rows, 20)
    trials = mixed_trials(plan, plan.networks, epochs=3 if plan.device == "cuda" else 1)
    together = curves(
        FusedEngine(dataset, device=plan.device, lanes=len(trials), tiles=plan.tiles[0]), trials
    )
    expected = curves(ReferenceEngine(dataset, device=plan.device), trials)
    differences = [
        abs(ours - theirs) / abs(theirs)
        for trial in trials
        for ours, theirs in zip(together[trial.number], expected[trial.number], strict=True)
    ]
    yield {"what": "networks", "value": len(trials)}
    yield {"what": "median difference", "value": f"{np.median(differences):.1e}"}
    yield {"what": "largest difference", "value": f"{max(differences):.1e}"}
    some = trials[:: max(2, len(trials) // 6)]
    engine = FusedEngine(dataset, device=plan.device, lanes=2, tiles=plan.tiles[0])
    is_same = all(curves(engine, [trial])[trial.number] == together[trial.number] for trial in some)
    yield {"what": "bits alone are those among others", "value": is_same}


def throughput(plan: Plan) -> Iterator[Row]:
    """Steps of all networks a second, by the number of lanes: steps alone, and with epochs and scoring."""
    for shape in plan.shapes:
        for lanes in plan.lanes:
            if lanes * memory_bytes(shape) > free_bytes(plan):
                continue
            rates = step_rates(plan, shape, lanes, "ieee", plan.tiles[0])
            yield {"network": shape.name, "lanes": lanes, **rates}
    began = time.perf_counter()
    train, dev = device_splits(plan, cloud(plan.shapes[0].batch_size * plan.steps, plan.shapes[0].features))
    make_pack = partial(Pack, train, dev, CLASSES, tiles=plan.tiles[0])
    lanes = lane_count.measure(make_pack, lane_count.COUNTS if plan.device == "cuda" else plan.lanes)
    seconds = round(time.perf_counter() - began, 1)
    yield {"network": "default recipe, as a worker measures", "lanes": lanes, "seconds": seconds}


def variants(plan: Plan) -> Iterator[Row]:
    """Steps a second by tile sizes and precision of products."""
    compile_variants(plan)
    for shape in plan.shapes:
        lanes = max(n for n in plan.lanes if n <= 1024)
        for tiles, precision in tile_variants(plan):
            rates = step_rates(plan, shape, lanes, precision, tiles)
            words = f"{tiles.rows} x {tiles.units} x {tiles.inputs}, {tiles.warps} warps"
            yield {"network": shape.name, "tiles": words, "precision": precision, **rates}


def kernel_times(plan: Plan) -> Iterator[Row]:
    """Share of each kernel in the time of a step."""
    activity = torch.profiler.ProfilerActivity
    kind = activity.CUDA if plan.device == "cuda" else activity.CPU
    for shape in plan.shapes:
        pack = full_pack(plan, shape, max(n for n in plan.lanes if n <= 1024), "ieee", plan.tiles[0])
        pack.advance()
        with torch.profiler.profile(activities=[kind]) as profiler:
            pack.advance()
            synchronize(plan)
        events = [e for e in profiler.key_averages() if e.self_device_time_total > 0]
        total = sum(e.self_device_time_total for e in events) or 1
        for event in sorted(events, key=lambda e: -e.self_device_time_total)[:8]:
            yield {
                "network": shape.name,
                "kernel": event.key[:40],
                "share": f"{event.self_device_time_total / total:.1%}",
                "microseconds": round(event.self_device_time_total / event.count, 1),
            }


def rivals(plan: Plan) -> Iterator[Row]:
    """Steps a second of other ways to train networks of the same size."""
    for shape in plan.shapes:
        for name, measure in {
            "one at a time, eager torch": eager_rate,
            "one at a time, captured in a CUDA graph": graphed_rate,
            f"torch.func.vmap, {plan.vmap_lanes} networks": vmapped_rate,
            "native engine, all cores": native_rate,
        }.items():
            if "CUDA" in name and plan.device == "cpu":
                continue
            yield {"network": shape.name, "way": name, "steps/s": round(measure(plan, shape))}


def modules(plan: Plan) -> Iterator[Row]:
    """Steps a second of a convolutional module of the user's, alone and with others of its structure."""
    from contextlib import nullcontext

    from caviar.training.module.engine import ModuleEngine
    from caviar.training.module.objective import Module
    from caviar.training.module.stack import Stack

    dataset = cloud(plan.steps * 64, 64)
    objective = Module(convolutions, data=(dataset.train.x, dataset.train.y))
    engine = ModuleEngine(lambda: nullcontext(objective), dataset, plan.device)
    rates = {}
    for lanes in (1, 8, 64, 256, 1024)[: 5 if plan.device == "cuda" else 2]:
        params: dict[str, Value] = {"batch_size": 64, "learning_rate": 1e-3, "optimizer": "adam"}
        trainings = [engine.begin(Part(trial=make_trial(number, 10**6, params))) for number in range(lanes)]
        if lanes == 1:
            seconds = timed(plan, lambda training=trainings[0]: training.train_epoch(10**6))  # type: ignore[misc]
        else:
            stack = Stack(trainings)
            stack.check()
            seconds = timed(plan, stack.train_epoch)
        rates[lanes] = lanes * plan.steps / seconds
        yield {
            "modules": lanes,
            "steps/s": round(rates[lanes]),
            "times alone": round(rates[lanes] / rates[1], 1),
        }


def convolutions(params: dict[str, Any]) -> torch.nn.Module:
    """Return a small convolutional network."""
    del params
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 8, 8)),
        torch.nn.Conv2d(1, 16, 3, bias=False),
        torch.nn.BatchNorm2d(16),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 3, bias=False),
        torch.nn.BatchNorm2d(32),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(512, CLASSES),
    )


def search(plan: Plan) -> Iterator[Row]:
    """A small search of the digits on one device: mixed networks of up to 3 layers."""
    from sklearn.datasets import load_digits

    from caviar.training.native.engine import NativeEngine

    x, y = load_digits(return_X_y=True)
    dataset = split("digits", *((x, y) if plan.device == "cuda" else (x[:120], y[:120])))
    trials = mixed_trials(plan, plan.trials, epochs=10 if plan.device == "cuda" else 1)
    engines: dict[str, Engine] = {
        "fused": FusedEngine(dataset, device=plan.device, lanes=min(1024, plan.trials)),
        "native, one core": NativeEngine(dataset),
    }
    accuracies: dict[str, list[float]] = {}
    for name, engine in engines.items():
        for what in ("first", "again"):
            began = time.perf_counter()
            found = curves(engine, trials, "dev_accuracy")
            seconds = time.perf_counter() - began
            accuracies[name] = [found[trial.number][-1] for trial in trials]
            if name == "fused" or what == "first":
                yield {"engine": name, "run": what, "trials": len(trials), "seconds": round(seconds, 2)}
    ours, theirs = (np.array(values) for values in accuracies.values())
    yield {"engine": "difference of accuracies", "mean": f"{np.abs(ours - theirs).mean():.2e}"}
    yield {
        "engine": "best accuracy",
        "fused": round(float(ours.max()), 4),
        "native": round(float(theirs.max()), 4),
    }


SECTIONS: dict[str, Callable[[Plan], Iterator[Row]]] = {
    "machine": machine,
    "parity": parity,
    "throughput": throughput,
    "search": search,
    "rivals": rivals,
    "modules": modules,
    "kernels": kernel_times,
    "variants": variants,
}


# The fused engine


def device_splits(plan: Plan, dataset: Dataset) -> tuple[DeviceSplit, DeviceSplit]:
    """Return the train and the dev split on the device."""
    train, dev = (
        DeviceSplit(torch.tensor(s.x, device=plan.device), torch.tensor(s.y, device=plan.device))
        for s in (dataset.train, dataset.dev)
    )
    return train, dev


def full_pack(plan: Plan, shape: Shape, lanes: int, precision: str, tiles: Tiles) -> Pack:
    """Return a pack of lanes of one size."""
    dataset = cloud(shape.batch_size * plan.steps, shape.features)
    train, dev = device_splits(plan, dataset)
    pack = Pack(train, dev, CLASSES, lanes, precision, tiles)
    recipe = recipe_from(shape.params)
    for number in range(lanes):
        pack.add(Part(trial=make_trial(number, 10**6, shape.params)), recipe)
    return pack


def step_rates(plan: Plan, shape: Shape, lanes: int, precision: str, tiles: Tiles) -> Row:
    """Return the steps of all lanes a second, for the launches of steps alone and for whole epochs."""
    pack = full_pack(plan, shape, lanes, precision, tiles)
    for _ in range(3):  # compiles, captures
        pack.advance()
    synchronize(plan)
    epochs, began = 0, time.perf_counter()
    while epochs < 2 or time.perf_counter() - began < plan.seconds:
        pack.advance()
        epochs += 1
    whole_s = (time.perf_counter() - began) / epochs / plan.steps
    pack._begin_epochs(list(pack.lanes))
    synchronize(plan)
    began = time.perf_counter()
    for _ in range(plan.steps):
        pack._steps.launch(pack._launches)
    synchronize(plan)
    alone_s = (time.perf_counter() - began) / plan.steps
    return {
        "steps/s": round(lanes / alone_s),
        "with epochs": round(lanes / whole_s),
        "microseconds a step": round(1e6 * alone_s, 1),
        "TFLOP/s": round(lanes / alone_s * shape.flops / 1e12, 2),
    }


def tile_variants(plan: Plan) -> list[tuple[Tiles, str]]:
    """Return the tiles and precisions to compare."""
    first = [(plan.tiles[0], precision) for precision in plan.precisions]
    return first + [(tiles, precision) for tiles in plan.tiles[1:] for precision in plan.precisions[:2]]


def compile_variants(plan: Plan) -> None:
    """Compile all variants side by side, into Triton's cache on the disk."""
    if plan.device == "cpu":
        return
    waiting = [json.dumps([tiles_of(tiles), precision]) for tiles, precision in tile_variants(plan)]
    running: list[subprocess.Popen[bytes]] = []
    while waiting or running:
        running = [process for process in running if process.poll() is None]
        while waiting and len(running) < max(1, (os.cpu_count() or 1) - 2):
            running.append(subprocess.Popen([sys.executable, __file__, "-", "--warm", waiting.pop()]))
        time.sleep(0.1)


def tiles_of(tiles: Tiles) -> list[int]:
    """Return tiles as JSON takes them."""
    return [tiles.rows, tiles.units, tiles.inputs, tiles.warps]


def warm_up(plan: Plan, tiles: list[int], precision: str) -> None:
    """Compile one variant."""
    full_pack(plan, replace(plan.shapes[0], units=16), 1, precision, Tiles(*tiles)).advance()


# Other ways


def eager_rate(plan: Plan, shape: Shape) -> float:
    """Return the steps a second of the reference engine."""
    dataset = cloud(shape.batch_size * plan.steps, shape.features)
    training = ReferenceEngine(dataset, device=plan.device).begin(
        Part(trial=make_trial(0, 10**6, shape.params))
    )
    return plan.steps / timed(plan, lambda: training.advance(1e-3))


def graphed_rate(plan: Plan, shape: Shape) -> float:
    """Return the steps a second of one network whose whole step is a CUDA graph."""
    network = Network(shape.features, CLASSES, recipe_from(shape.params)).to(plan.device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, capturable=True)
    x, y = random_batch(plan, shape)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return 1 / timed(plan, graph.replay)


def vmapped_rate(plan: Plan, shape: Shape) -> float:
    """Return the steps a second of all networks under torch.func.vmap, with one fused Adam for all of them."""
    networks = [
        Network(shape.features, CLASSES, recipe_from(shape.params)).to(plan.device)
        for _ in range(plan.vmap_lanes)
    ]
    parameters, buffers = torch.func.stack_module_state(networks)
    buffers = {name: value for name, value in buffers.items() if value.is_floating_point()}
    counters = {
        n: torch.zeros((), dtype=torch.long, device=plan.device)
        for n, b in networks[0].named_buffers()
        if n not in buffers
    }
    base = networks[0].train()
    x, y = random_batch(plan, shape)

    def loss_of(params: Any, state: Any) -> torch.Tensor:
        z = torch.func.functional_call(base, ({**params}, {**state, **counters}), (x,))
        return F.cross_entropy(z, y)

    losses = torch.func.vmap(loss_of)
    leaves = list(parameters.values())
    optimizer = torch.optim.Adam(leaves, lr=1e-3, fused=plan.device == "cuda")

    def step() -> None:
        optimizer.zero_grad()
        losses(parameters, buffers).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return plan.vmap_lanes / timed(plan, step)


def native_rate(plan: Plan, shape: Shape) -> float:
    """Return the steps a second of the native engine on all cores."""
    seconds = max(1.0, plan.seconds)
    cores = os.cpu_count() or 1
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        pool.map(native_steps, [(shape, plan.steps, 0.1)] * cores)  # compiles
        return sum(pool.map(native_steps, [(shape, plan.steps, seconds)] * cores)) / seconds


def native_steps(what: tuple[Shape, int, float]) -> int:
    """Return the steps that one core trains in some seconds."""
    from caviar.training.native.engine import NativeEngine

    shape, epoch, seconds = what
    engine = NativeEngine(cloud(shape.batch_size * epoch, shape.features))
    training = engine.begin(Part(trial=make_trial(0, 10**6, shape.params)))
    training.advance(1e-3)
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        training.advance(1e-3)
        steps += epoch
    return steps


# Trials and data


def make_trial(number: int, epochs: int, params: dict[str, Value]) -> Trial:
    """Return a trial whose seed is its number."""
    return Trial(number=number, round=0, params=params, epochs=epochs, seed=number)


def mixed_trials(plan: Plan, count: int, epochs: int) -> list[Trial]:
    """Return trials of random sizes and options."""
    rng, trials = np.random.default_rng(0), []
    for number in range(count):
        params: dict[str, Value] = {
            "layers": int(rng.integers(0, 4)),
            "batch_size": int(rng.choice([32, 64, 128])),
            "optimizer": str(rng.choice(["sgd", "momentum", "rmsprop", "adam"])),
            "learning_rate": float(10 ** rng.uniform(-3, -1.5)),
            "l2": float(10 ** rng.uniform(-5, -2)),
        }
        if params["layers"]:
            params |= {
                "units": int(rng.integers(8, plan.max_units + 1)),
                "activation": str(rng.choice(["relu", "tanh"])),
                "batch_norm": bool(rng.random() < 0.8),
                "dropout": float(rng.choice([0.0, 0.2])),
            }
        trials.append(make_trial(number, epochs, params))
    return trials


def cloud(train_rows: int, features: int) -> Dataset:
    """Return random rows, `train_rows` of which are the train split."""
    rng = np.random.default_rng(0)
    rows = train_rows + 200
    x_ND, y_N = rng.standard_normal((rows, features)), np.arange(rows) % CLASSES
    share = train_rows / rows
    return split("cloud", x_ND, y_N, shares=(share, (1 - share) / 2, (1 - share) / 2))


def random_batch(plan: Plan, shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows and classes of a mini-batch."""
    x = torch.randn(shape.batch_size, shape.features, device=plan.device)
    return x, torch.randint(CLASSES, (shape.batch_size,), device=plan.device)


def curves(engine: Engine, trials: list[Trial], metric: str = "dev_loss") -> dict[int, list[float]]:
    """Return a metric of each epoch of each trial."""
    found: dict[int, list[float]] = {trial.number: [] for trial in trials}
    for event in engine.train([Part(trial=trial) for trial in trials]):
        if isinstance(event, Progress):
            found[event.trial].append(event.measurement.metrics[metric])
        elif event.failure is not None:
            raise RuntimeError(event.failure)
    return found


# Time and memory


def timed(plan: Plan, work: Callable[[], object]) -> float:
    """Return the seconds that some work takes: the mean over `plan.seconds`, after two runs to warm up."""
    for _ in range(2):
        work()
    synchronize(plan)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < plan.seconds:
        for _ in range(4):
            work()
        count += 4
        synchronize(plan)
    return (time.perf_counter() - began) / count


def synchronize(plan: Plan) -> None:
    """Wait until the device is done."""
    if plan.device == "cuda":
        torch.cuda.synchronize()


def memory_bytes(shape: Shape) -> float:
    """Return about the bytes of a lane."""
    parameters = shape.features * shape.units + (shape.layers - 1) * shape.units**2 + shape.units * CLASSES
    rows = max(256, shape.batch_size)
    return 4.0 * (3 * parameters + 3 * rows * (shape.units * shape.layers + 16))


def free_bytes(plan: Plan) -> float:
    """Return the bytes that lanes may take."""
    return 0.8 * torch.cuda.mem_get_info()[0] if plan.device == "cuda" else 1e9


if __name__ == "__main__":
    main()
