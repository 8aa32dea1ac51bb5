"""Tokens per second of the training loop beside transformers' Trainer and a bare PyTorch loop.

    python benchmarks/pretraining.py results/default/pretraining/data/shakespeare/{tokens,tokenizer}

Contenders, on the same model, data and batch: this project's ``train`` with softmax, head-wise RMSNorm and sigmoid attention, and with
sigmoid by the function that taps see ("plain"); the Trainer at its float32 defaults; a bare loop (forward, backward, clipping, fused AdamW) in the precision of ``train``. Each has a
process, and they take turns of a few steps, so that a change of the machine's speed affects all of them, in
another order each round; ratios are of turns of one round, their interval is a bootstrap over rounds. Ratios of processor
time stand beside those of wall time, for a machine that is not idle. The matrix-product peak is measured in the same turns.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("src", "workflow_scripts")]

import numpy as np
import torch
import yaml
from measured import Measured, add_json_option, compared, write_json
from torch.nn import functional as F

from sinkorigin.pretraining import loop
from sinkorigin.pretraining.acceleration import resolve_dtype
from sinkorigin.pretraining.data import batch, load_tokens
from sinkorigin.pretraining.loop import train
from sinkorigin.pretraining.model import build_model
from sinkorigin.pretraining.settings import TrainingSettings
from sinkorigin.variants.registry import VARIANTS

COMMON = {
    "name": "benchmark",
    "variant": "softmax",
    "steps": 1_000_000,
    "warmup": 100,
    "learning_rate": 1e-3,
    "weight_decay": 0.1,
    "clip": 1.0,
    "evaluate_every": 1_000_000,
    "checkpoint_every": 1_000_000,
}
RUNS = yaml.safe_load((Path(__file__).parents[1] / "config.yaml").read_text())["pretraining"]["runs"]
DEFAULT, COPIES = (next(run for run in RUNS if run["name"] == name) for name in ("softmax", "copies_softmax"))
SHAPE = ("layers", "width", "heads", "kv_heads", "ffn_width", "tied_embeddings", "length", "batch")
SIZES = {
    # the first run of the default study
    "default": TrainingSettings(**COMMON, **{name: DEFAULT[name] for name in SHAPE}),
    # its runs on the synthetic task, with results/default/pretraining/data/bigram_backcopy/{tokens,tokenizer}
    "copies": TrainingSettings(**COMMON, **{name: COPIES[name] for name in SHAPE}),
    "30m": TrainingSettings(
        **COMMON, layers=9, width=512, heads=8, kv_heads=8, ffn_width=1408, length=256, batch=4
    ),
}  # fmt: skip


class Turns:
    """Called before every step: ends a turn after so many steps, reports its times, and waits for the next."""

    def __init__(self, pipe, steps: int, device: str):
        self.pipe, self.steps, self.device, self.done, self.started = pipe, steps, device, 0, None

    def __call__(self) -> None:
        if self.started is not None and self.done < self.steps:
            self.done += 1
            return
        if self.device == "cuda":
            torch.cuda.synchronize()
        if self.started is not None:
            wall, processor = self.started
            self.pipe.send((time.perf_counter() - wall, time.process_time() - processor))
        else:
            self.pipe.send("ready")
        self.pipe.recv()
        self.done, self.started = 1, (time.perf_counter(), time.process_time())


def train_loop(turn, settings, arguments) -> None:
    """Run ``train``; its call for a batch is where the turns change."""
    original, warm = loop.batch, 0

    def counted(*given, **named):
        nonlocal warm
        warm += 1
        if warm > 3:  # the first steps allocate, and compile
            turn()
        return original(*given, **named)

    loop.batch = counted
    with tempfile.TemporaryDirectory() as folder:
        train(
            settings, seed=0, tokens_directory=arguments.tokens, tokenizer_directory=arguments.tokenizer,
            run_directory=Path(folder) / "run", state_directory=Path(folder) / "state", threads=arguments.threads,
            device=arguments.device, cache_directory=arguments.cache,
        )  # fmt: skip


def plain_loop(turn, settings, arguments) -> None:
    """Run ``train`` with the attention function that taps see."""
    build = loop.build_model

    def plain(*given, **named):
        model = build(*given, **named)
        model.set_attn_implementation("eager")
        return model

    loop.build_model = plain
    train_loop(turn, settings, arguments)


def fresh_model(settings, vocabulary: int):
    return build_model(settings.size, vocabulary=vocabulary, variant=settings.variant, seed=0).train()


def bare_loop(turn, settings, arguments) -> None:
    """Train in a loop written by hand, in the precision of ``train`` and compiled where that is."""
    torch.set_num_threads(arguments.threads)
    tokens = load_tokens(arguments.tokens)
    model = fresh_model(settings, tokens.vocabulary).to(arguments.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    enabled = resolve_dtype(settings.dtype, arguments.device)[0] == "bfloat16"

    def loss_of(inputs, targets):
        with torch.autocast(arguments.device, dtype=torch.bfloat16, enabled=enabled):
            logits = model(input_ids=inputs, use_cache=False).logits
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    if settings.compile:
        loss_of = torch.compile(loss_of, dynamic=False)
    for step in range(settings.steps):
        if step >= 3:
            turn()
        inputs, targets = batch(tokens.train, seed=0, step=step, batch=settings.batch, length=settings.length)
        inputs, targets = (torch.from_numpy(part).to(arguments.device) for part in (inputs, targets))
        loss = loss_of(inputs, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()


def trainer(turn, settings, arguments) -> None:
    """Train with transformers' Trainer at its defaults, in float32."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    torch.set_num_threads(arguments.threads)
    tokens = load_tokens(arguments.tokens)

    class Windows(torch.utils.data.Dataset):
        def __len__(self):
            return len(tokens.train) // settings.length

        def __getitem__(self, number):
            window = tokens.train[number * settings.length : (number + 1) * settings.length].astype(np.int64)
            return {"input_ids": torch.from_numpy(window), "labels": torch.from_numpy(window)}

    class Watch(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step >= 3:
                turn()

    with tempfile.TemporaryDirectory() as folder:
        given = TrainingArguments(
            folder, per_device_train_batch_size=settings.batch, max_steps=settings.steps,
            use_cpu=arguments.device == "cpu", report_to="none", save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        Trainer(fresh_model(settings, tokens.vocabulary), given, train_dataset=Windows(), callbacks=[Watch()]).train()


PRODUCT, PRODUCT_GPU = 1024, 8192  # rows of the square matrices: float32 on a CPU, bfloat16 on a GPU


def peak(turn, settings, arguments) -> None:
    """Multiply square matrices, four times a turn's step."""
    torch.set_num_threads(arguments.threads)
    size, dtype = (PRODUCT, torch.float32) if arguments.device == "cpu" else (PRODUCT_GPU, torch.bfloat16)
    a, b = (torch.randn(size, size, dtype=dtype, device=arguments.device) for _ in range(2))
    while True:
        turn()
        for _ in range(4):
            a @ b


CONTENDERS = {
    "softmax": train_loop,
    "headwise_rmsnorm": train_loop,
    "sigmoid": train_loop,
    "plain_sigmoid": plain_loop,
    "bare": bare_loop,
    "trainer": trainer,
    "peak": peak,
}


def live(name, pipe, settings, arguments) -> None:
    """Run one contender, in its process."""
    variant = name.removeprefix("plain_")
    settings = replace(settings, variant=variant) if variant in VARIANTS else settings
    CONTENDERS[name](Turns(pipe, arguments.steps, arguments.device), settings, arguments)


def ratio(a: np.ndarray, b: np.ndarray) -> str:
    """Median over rounds of a / b, with a 95 % bootstrap interval."""
    ratios = a / b
    draws = np.random.default_rng(0).integers(0, len(ratios), size=(2000, len(ratios)))
    low, high = np.percentile(np.median(ratios[draws], axis=1), [2.5, 97.5])
    return f"{np.median(ratios):.3f} [{low:.3f}, {high:.3f}]"


LONG_STEPS = 10_000_000  # parameters from which on a step is long enough to be a turn
# of a step's time to that of the other: as ``ratio`` of speeds 1.5, 0.97, and of times 1.08; None where no bar was set
COMPARED = (
    ("softmax", "trainer", "transformers' Trainer", 1 / 1.5),
    ("softmax", "bare", "a loop written by hand", 1 / 0.97),
    ("headwise_rmsnorm", "softmax", "softmax", 1.08),
    ("sigmoid", "softmax", "softmax", None),
    ("sigmoid", "plain_sigmoid", "the function that taps see", None),
)


def measure(name: str, settings: TrainingSettings, arguments) -> list[Measured]:
    """Speed of all contenders at one size; it is printed, and the wall times that are compared are returned."""
    tokens = load_tokens(arguments.tokens)
    settings = replace(settings, dtype=arguments.dtype, compile=arguments.compile)
    parameters = sum(parameter.numel() for parameter in fresh_model(settings, tokens.vocabulary).parameters())
    steps = arguments.steps or (4 if parameters < LONG_STEPS else 1)
    arguments = argparse.Namespace(**{**vars(arguments), "steps": steps})
    print(f"\n{name}: {parameters:,} parameters, batches of {settings.batch} x {settings.length}, ", end="")
    print(
        f"{resolve_dtype(settings.dtype, arguments.device)[1]}, compile {settings.compile}, turns of {steps} steps",
        flush=True,
    )
    context = multiprocessing.get_context("spawn")
    pipes, workers, times = {}, {}, {contender: [] for contender in CONTENDERS}
    try:
        for contender in CONTENDERS:
            pipes[contender], theirs = context.Pipe()
            workers[contender] = context.Process(
                target=live, args=(contender, theirs, settings, arguments), daemon=True
            )
            workers[contender].start()
        for pipe in pipes.values():
            assert pipe.recv() == "ready"
        order = np.random.default_rng(0)
        for _ in range(arguments.rounds):
            for contender in order.permutation(list(pipes)):
                pipes[contender].send("go")
                times[contender].append(pipes[contender].recv())
    finally:
        for worker in workers.values():
            worker.kill()
    # (rounds, 2) s a step
    clocks = {contender: np.array(measured) / arguments.steps for contender, measured in times.items()}
    step_tokens = settings.batch * settings.length
    # 6 for each weight of a product and token (the embedding is one through the tied head), and the causal half of q·k and A·v
    operations = 6 * parameters * step_tokens + 6 * settings.layers * step_tokens * settings.length * settings.width
    for number, clock in enumerate(("wall time", "processor time")):
        seconds = {contender: measured[:, number] for contender, measured in clocks.items()}
        for contender in CONTENDERS:
            if contender != "peak":
                print(f"  {clock}: {contender} {step_tokens / np.median(seconds[contender]):,.0f} tokens/s")
        print(f"  {clock}: speed of softmax / Trainer {ratio(seconds['trainer'], seconds['softmax'])}, bar 1.5")
        print(f"  {clock}: speed of softmax / bare loop {ratio(seconds['bare'], seconds['softmax'])}, bar 0.97")
        print(
            f"  {clock}: time of headwise_rmsnorm / softmax {ratio(seconds['headwise_rmsnorm'], seconds['softmax'])}, bar 1.08"
        )
        print(f"  {clock}: time of sigmoid / plain {ratio(seconds['sigmoid'], seconds['plain_sigmoid'])}")
        print(f"  {clock}: time of sigmoid / softmax {ratio(seconds['sigmoid'], seconds['softmax'])}")
        rate = 4 * 2 * (PRODUCT if arguments.device == "cpu" else PRODUCT_GPU) ** 3 / np.median(seconds["peak"])
        share = operations / np.median(seconds["softmax"]) / rate
        print(f"  {clock}: {share:.0%} of the matrix-product peak of {rate / 1e9:,.0f} GFLOP/s", flush=True)
    millions = f"{parameters / 1e6:.2g} M parameters"
    return [
        compared(
            f"training step, {millions}, {variant.replace('_', ' ')}, beside {words}", list(clocks[variant][:, 0]),
            list(clocks[other][:, 0]), bar=bar,
        )
        for variant, other, words, bar in COMPARED
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokens", help="a directory of token files of the workflow")
    parser.add_argument("tokenizer", help="its tokenizer")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["default", "30m"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument(
        "--steps", type=int, help="steps in a turn; 4, or 1 from 10 M parameters on, whose steps take seconds on a CPU"
    )
    parser.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--compile", action="store_true", help="compile train and the bare loop")
    parser.add_argument("--cache", default="results/.cache/torch", help="where compiled code is kept")
    add_json_option(parser)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {arguments.threads} threads, {arguments.rounds} rounds")
    write_json(arguments.json, [one for name in arguments.sizes for one in measure(name, SIZES[name], arguments)])


if __name__ == "__main__":
    main()
