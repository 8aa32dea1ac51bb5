"""A small study that nobody ran: a file of each kind that a study has, with seals and logs as jobs write them."""

import copy
import json
from pathlib import Path

import pyarrow as pa

from harness.config.reading import read_config
from sinkorigin.claims.checks import SCHEMA as CHECKS_SCHEMA
from sinkorigin.claims.judging import LEDGER_SCHEMA, ROBUSTNESS_SCHEMA
from sinkorigin.corpora.fetching import DOCUMENTS_SCHEMA
from sinkorigin.statistics.pretraining import SCHEMA as PRETRAINING_SCHEMA
from sinkorigin.statistics.pretraining_comparison import BY_SEED_SCHEMA
from sinkorigin.tables import atomic_directory, hashes_by_place, record_inputs, schema, write_json, write_table
from tiny_study import ROOT, TINY

STUDY = Path("results/tiny")
MASSES = schema(layer=(pa.int32(), "layer, counted from 0"), mass=(pa.float64(), "mean attention | to position 0"))
VECTORS = schema(activation=(pa.float64(), "vector"))
_MACHINE = "Linux x86_64, 2 × a processor, 8 GB"


def _rows(schema_: pa.Schema, *rows: dict) -> pa.Table:
    """Rows of a table; what they do not say is null."""
    return pa.Table.from_pylist([dict.fromkeys(schema_.names) | row for row in rows], schema=schema_)


def ledger_rows() -> list[dict]:
    """One verdict of each kind."""
    shared = {
        "model": "tiny", "label": "Tiny <b>model</b> | of tests", "role": "pretrained", "prompts": "random_tokens", "first_token": "drawn",
        "scale": "difference", "tables": ["statistics/tiny/random_tokens/sink_mass.parquet"],
    }  # fmt: skip
    judged = {
        "p": 0.01,
        "p_adjusted": 0.02,
        "holds": 2,
        "opposite": 1,
        "settings": 3,
        "predicate": "> 0.5",
        "threshold": 0.5,
    }
    sink = {
        "claim": "C0",
        "words": "position 0 is a sink",
        "statement": "position 0 is a sink in most sequences",
        "paper": "a sink from layer 2 on",
    }
    ours = {"claim": "C11a", "words": "without variance no sink", "statement": "without variance the sink goes"}
    falls = {"claim": "C2", "words": "variance falls with position", "statement": "it falls", "paper": "falls"}
    random = {"model": "tiny-random", "label": "Tiny, random weights", "role": "random"}
    return [
        shared | judged | sink | {"quantity": "share", "value": 1.0, "low": 0.9, "high": 1.0, "verdict": "reproduced", "reason": "8 of 8 sequences; mean", "reading": "100 %"},
        shared | judged | falls | {"quantity": "ratio", "value": 2.0, "low": 1.5, "high": float("inf"), "verdict": "contradicted", "reading": "2"},
        shared | judged | ours | {"quantity": "share", "value": 0.4, "low": 0.1, "high": 0.8, "verdict": "undecided", "reading": "40 %"},
        shared | random | falls | {"verdict": "not applicable", "reason": "no variance", "predicate": "< 1"},
    ]  # fmt: skip


def study_config(**publish) -> dict:
    """Settings of the study, completed."""
    raw = copy.deepcopy(TINY) | {"publish": publish}
    raw["pretraining"]["runs"] = raw["pretraining"]["runs"][:1]
    return read_config(raw).model_dump(mode="json")


class MadeUpStudy:
    """A study below the working directory.

    Attributes:
        files: file → log of the job that made it.
    """

    def __init__(self):
        self.files: dict[str, str] = {}
        self._fetch()
        self._measure()
        self._train()
        self._judge()

    def _job(self, name: str, inputs: list[Path], write, *outputs: str, second: int) -> None:
        """What a job leaves: its outputs, which name what it read, and its log."""
        record_inputs(hashes_by_place(inputs))
        for output in outputs:
            Path(output).parent.mkdir(parents=True, exist_ok=True)
        said = write() or ""
        log = STUDY / f"logs/{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(
            f"code in workflow_scripts, version 0123456789abcdef\nbegan 2026-01-02 03:04:{second:02d} UTC on {_MACHINE}\n{said}"
            f"{second / 2:.3f} s; at most {100 + second} MB of memory and 0 MB of a GPU\n"
        )
        self.files |= {output: str(log) for output in outputs}

    def _fetch(self) -> None:
        self.documents, self.provenance = STUDY / "corpus/documents.parquet", STUDY / "provenance/tiny.json"
        documents = _rows(
            DOCUMENTS_SCHEMA,
            *({"document": str(i), "split": "train" if i else "validation", "text": "a text"} for i in range(3)),
        )
        self._job(
            "fetch_corpus",
            [],
            lambda: write_table(self.documents, documents, DOCUMENTS_SCHEMA),
            str(self.documents),
            second=1,
        )
        facts = {
            "model": "tiny", "label": "Tiny <b>model</b> | of tests", "source": ["pypi:a==1", "pypi:b==1"], "sha256": "0" * 64, "revision": None,
            "quantisation": "Q4_1", "weights": "pretrained", "licence": "MIT",
        }  # fmt: skip
        self._job("label_model/tiny", [], lambda: write_json(self.provenance, facts), str(self.provenance), second=2)

    def _measure(self) -> None:
        site = STUDY / "activations/tiny/random_tokens/residual"

        def extract() -> None:
            with atomic_directory(site) as folder:
                write_table(folder / "layer=0/part-0.parquet", {"activation": [0.5]}, VECTORS)

        self._job("extract_activations/tiny/random_tokens", [], extract, str(site / "manifest.json"), second=4)
        self.masses = STUDY / "statistics/tiny/random_tokens/sink_mass.parquet"
        self._job(
            "compute_sinks/tiny/random_tokens", [site / "manifest.json"],
            lambda: write_table(self.masses, {"layer": [0, 1], "mass": [0.1, 0.2]}, MASSES), str(self.masses), second=6,
        )  # fmt: skip

    def _train(self) -> None:
        folder = STUDY / "pretraining/softmax/seed=0"
        run = {
            "name": "softmax",
            "variant": "softmax",
            "layers": 2,
            "options": {},
            "keep": [0],
            "initialisation": {"std": 0.02},
        }
        facts = {
            "model": "softmax-seed0", "label": "softmax, seed 0", "source": "trained from scratch", "weights": "trained here", "seed": 0,
            "quantisation": None, "training": run, "computed": {"device": "cpu", "torch": "2.13.0"},
        }  # fmt: skip

        def train() -> None:
            with atomic_directory(folder / "model") as made:
                for name, content in (("config.json", "{}"), ("model.safetensors", "weights")):
                    (made / name).write_text(content)
            write_json(folder / "provenance.json", facts)

        outputs = folder / "model/manifest.json", folder / "provenance.json"
        self._job("pretrain/softmax/seed=0", [self.documents], train, *map(str, outputs), second=8)
        self.trained = folder / "provenance.json"
        table = STUDY / "statistics/pretraining.parquet"
        row = {
            "run": "softmax",
            "variant": "softmax",
            "seed": 0,
            "parameters": 1234,
            "tokens": 5678,
            "train_loss": 3.0,
            "validation_loss": 3.1,
        }
        trainings = _rows(PRETRAINING_SCHEMA, row)
        self._job(
            "summarize_pretraining",
            [self.trained],
            lambda: write_table(table, trainings, PRETRAINING_SCHEMA),
            str(table),
            second=9,
        )
        table_by_seed = STUDY / "statistics/pretraining_by_seed.parquet"
        seed = {"run": "softmax", "variant": "softmax", "baseline": "softmax", "seed": 0, "unit": "nats per token"}
        by_seed = _rows(
            BY_SEED_SCHEMA,
            seed | {"quantity": "validation_loss", "value": 3.1},
            seed | {"quantity": "effective_rank", "value": 5.25},
        )
        self._job(
            "compare_pretraining",
            [table],
            lambda: write_table(table_by_seed, by_seed, BY_SEED_SCHEMA),
            str(table_by_seed),
            second=10,
        )

    def _judge(self) -> None:
        ledger, page = STUDY / "claims.parquet", STUDY / "index.html"
        names = "claims", "robustness", "checks"
        settings = [{"claim": "C0", "verdict": "reproduced"}, {"claim": "C0", "verdict": "undecided"}]
        tables = [
            _rows(LEDGER_SCHEMA, *ledger_rows()), _rows(ROBUSTNESS_SCHEMA, *settings), _rows(CHECKS_SCHEMA, {"check": "identity", "verdict": "passed"})
        ]  # fmt: skip

        def judge() -> None:
            for name, table in zip(names, tables, strict=True):
                write_table(STUDY / f"{name}.parquet", table, table.schema)

        self._job("judge_claims", [self.masses], judge, *(str(STUDY / f"{name}.parquet") for name in names), second=12)
        self._job("make_page", [ledger], lambda: _made(page, "<html>claims</html>"), str(page), second=13)
        figure = STUDY / "figures/evidence.svg"
        self._job("plot_evidence", [], lambda: _made(figure, "<svg/>"), str(figure), second=14)
        self.ledger, self.figure = ledger, figure

    def seen_by_publish(self, **publish) -> dict:
        """What the script of the rule ``publish`` gets."""
        scripts = {
            "fetch_corpus": "fetch_corpus.py", "label_model": "label_model.py", "extract_activations": "extract_activations.py",
            "compute_sinks": "compute.py", "pretrain": "pretrain.py", "summarize_pretraining": "compute.py", "compare_pretraining": "compute.py",
            "judge_claims": "judge_claims.py", "make_page": "make_page.py", "plot_evidence": "plot.py", "plan": "plan.py",
        }  # fmt: skip
        rules = {
            name: {"script": script, "description": f"What {name} does.", "inputs": []}
            for name, script in scripts.items()
        }
        rules["plot_evidence"]["inputs"] = [str(self.ledger)]
        config = study_config(**publish)
        models = [
            {"name": "tiny", "label": "tiny", "role": "pretrained"},
            {"name": "tiny-random", "label": "tiny, random", "role": "random"},
            {
                "name": "softmax-seed0",
                "label": "softmax, seed 0",
                "role": "trained",
                "run": "softmax",
                "variant": "softmax",
                "seed": 0,
            },
        ]
        tables = [file for file in self.files if file.endswith((".parquet", ".json"))]
        return {
            "inputs": {"tables": tables, "pages": sorted(self.files.keys() - set(tables))},
            "outputs": {"crate": str(STUDY / "publish/ro-crate-metadata.json")},
            "params": {
                "files": self.files, "rules": rules, "provenances": [str(self.provenance), str(self.trained)], "models": models,
                "settings": {"study": "tiny", "models": [{"source": "path:tiny_model"}]}, "config": config, "root": str(ROOT),
                "engine": "9.27.1",
            },
        }  # fmt: skip


def _made(path: Path, content: str) -> str:
    """Write a file that has no seal; what its job's log says of it."""
    from harness.verification import record_outputs

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return record_outputs([str(path)])


def metadata(folder: Path) -> dict[str, dict]:
    """Identifier → entity of a crate."""
    return {entity["@id"]: entity for entity in json.loads((folder / "ro-crate-metadata.json").read_text())["@graph"]}
