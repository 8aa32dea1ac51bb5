"""The page on notebooks, and the notebook's lines of the README, run as they stand, on a tiny model."""

import matplotlib
from transformers import AutoModelForCausalLM, AutoTokenizer

from blocks import blocks_of, run_by
from tiny_study import ROOT

HERE = "tests/unit/test_notebook_doc.py"


def test_every_snippet_of_the_page_runs_in_their_order(tiny, capsys):
    matplotlib.use("agg")
    assert (ROOT / "docs/notebook.md").is_file()
    code = "\n".join(block.text for block in blocks_of("docs/notebook.md") if block.language == "python")
    assert code.count("path/to/model") == 2 and code.count("sinkorigin.") >= 8
    names: dict = {}
    exec(code.replace("path/to/model", str(tiny)), names)  # the page's own code
    said = capsys.readouterr().out
    assert "Anatomy of the sink of model" in said and "Measurement of model on 2 sequences" in said
    assert set(names["norms"]) == {-1, 0, 1, 2}


def test_the_lines_of_the_readme_run(tiny, capsys):
    [block] = run_by(f"{HERE}::test_the_lines_of_the_readme_run")
    assert block.page == "README.md"
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.pad_token = tokenizer.eos_token
    texts = ["the king of night shall speak and love no more than day to thee my lord"] * 4
    names = {
        "model": AutoModelForCausalLM.from_pretrained(tiny),
        "tokenizer": tokenizer,
        "texts": texts,
        "token_ids": tokenizer(texts, return_tensors="pt")["input_ids"],
    }
    # the layers of a model that has more
    exec(block.text.replace("layers=[0, 1, 2, 3]", "layers=[0, 1, 2]"), names)
    assert "Anatomy of the sink of model" in capsys.readouterr().out
    assert names["measured"].sink_mass.height == 3 and names["logits"].shape[:2] == names["token_ids"].shape
