"""What the pretraining of a config costs, before anything runs: ``python workflow_scripts/plan_pretraining.py config.yaml``.

Prints a line a run: parameters, tokens, operations, memory, and time for a stated throughput. Where the study has trained
already, what was measured stands beside it.
"""

import argparse
import sys
import time
from pathlib import Path

import yaml
from snakemake.utils import update_config

sys.path.insert(0, str(Path(__file__).parent))

from sinkorigin.config import Config, Run, read_config
from sinkorigin.errors import SinkoriginError
from sinkorigin.pretraining.cost import cost
from sinkorigin.tables import read_table


def matrix_product_peak(dtype: str) -> float:
    """Floating-point operations per second of a square matrix product on this machine's device: the best of some tries."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    width = 8192 if device == "cuda" else 2048
    matrix = torch.randn(width, width, device=device, dtype=getattr(torch, dtype))
    best = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        product = matrix @ matrix
        product[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - began)
    return 2 * width**3 / best


def own_dtype(dtype: str) -> str:
    """``auto`` as a training on this machine would take it."""
    if dtype != "auto":
        return dtype
    import torch

    from sinkorigin.pretraining.acceleration import resolve_dtype

    return resolve_dtype(dtype, "cuda" if torch.cuda.is_available() else "cpu")[0]


def vocabulary_of(config: Config, run: Run, taken: int) -> int:
    """Tokens of a run's data; ``taken`` for a tokenizer that is not trained here."""
    [data] = [data for data in config.pretraining.data if data.name == run.data]
    return taken if getattr(data, "tokenizer", None) else data.vocabulary


def measured(study: Path, run: Run) -> str:
    """Tokens/s of the run's trainings and their peak memory, where there are some."""
    rates, peaks = [], []
    for seed in run.seeds:
        timing = study / f"pretraining/{run.name}/seed={seed}/timing.parquet"
        if timing.is_file():
            rates += read_table(timing)["tokens_per_second"].to_pylist()
        benchmark = study / f"benchmarks/pretrain/{run.name}/seed={seed}.tsv"
        if benchmark.is_file():
            names, values = (line.split("\t") for line in benchmark.read_text().splitlines()[:2])
            peaks.append(dict(zip(names, values, strict=True))["max_rss"])
    known = [float(peak) for peak in peaks if peak not in ("-", "NA")]
    said = [f"{sorted(rates)[len(rates) // 2]:,.0f} tokens/s"] if rates else []
    said += [f"{max(known) / 1e3:.2f} GB with libraries"] if known else []
    return ", ".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", help="config.yaml and overlays, in order")
    parser.add_argument("--peak-tflops", type=float, help="of one device's matrix products; default: measured here")
    parser.add_argument("--utilisation", type=float, default=0.4, help="share of the peak that trainings reach (0.4)")
    parser.add_argument("--devices", type=int, help="that share one training; default: the config's gpus")
    parser.add_argument("--price", type=float, help="of one device for one hour, in any currency")
    parser.add_argument(
        "--vocabulary", type=int, default=32_000, help="of tokenizers that are taken, not trained (32000)"
    )
    arguments = parser.parse_args()
    raw: dict = {}
    for path in arguments.configs:
        update_config(raw, yaml.safe_load(Path(path).read_text()))
    config = read_config(raw, ", ".join(arguments.configs))
    devices = arguments.devices or config.pretraining.gpus
    peaks: dict[str, float] = {}
    total = 0.0
    for run in config.pretraining.runs:
        dtype = own_dtype(run.dtype)
        if arguments.peak_tflops is None and dtype not in peaks:
            peaks[dtype] = matrix_product_peak(dtype)
        peak = arguments.peak_tflops * 1e12 if arguments.peak_tflops else peaks[dtype]
        vocabulary = vocabulary_of(config, run, arguments.vocabulary)
        own = cost(run.model_dump() | {"dtype": dtype}, vocabulary=vocabulary, options=run.options, devices=devices)
        hours = own.hours(peak, arguments.utilisation, devices)
        total += hours * len(run.seeds) * devices
        price = f", {hours * devices * arguments.price:,.0f} (price)" if arguments.price else ""
        print(
            f"{run.name}: {own.parameters:,} parameters, {own.tokens:,} tokens, {own.flops:.3g} FLOPs "
            f"({own.flops_per_token:.3g} a token), {own.memory / 1e9:.2f} GB, {hours:.3g} h a seed at "
            f"{peak / 1e12:.3g} TFLOP/s × {arguments.utilisation:g} × {devices}{price}; {len(run.seeds)} seeds"
        )
        if found := measured(Path("results") / config.study, run):
            print(f"  measured: {found}")
    price = f", {total * arguments.price:,.0f} (price)" if arguments.price else ""
    print(f"all runs and seeds: {total:.3g} device hours{price}")


if __name__ == "__main__":
    try:
        main()
    except SinkoriginError as error:
        sys.exit(f"sinkorigin: {error}")
