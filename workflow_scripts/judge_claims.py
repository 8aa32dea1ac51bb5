"""Judge the primary claims of the paper that the tables of a study speak of, into tables."""

from harness.job import job

with job(snakemake, "sinkorigin.claims.judging"):
    import pyarrow as pa

    from sinkorigin.claims import accounts, checks, over_models
    from sinkorigin.claims.judging import LEDGER_SCHEMA, ROBUSTNESS_SCHEMA, Place, checked, judge
    from sinkorigin.claims.trainings import judge_trainings
    from sinkorigin.claims.verdicts import Judged
    from sinkorigin.models.labels import complete_labels
    from sinkorigin.tables import write_table

    tables, params = dict(snakemake.input.items()), snakemake.params
    labels = complete_labels({facts["name"]: facts["label"] for facts in params.models}, tables.pop("provenance"))
    by_seed = tables.pop("pretraining_by_seed")
    models = [Judged(**facts | {"label": labels[facts["name"]]}) for facts in params.models]
    places = {model: [Place(**place) for place in found] for model, found in params.places.items()}
    study = {"models": models, "places": places}
    ledger, robustness = judge(tables, **study, missing=params.missing)
    runs = {"runs": params.runs, "prompts": params.prompts_of_runs, "missing": params.missing}
    of_runs, their_settings = judge_trainings(by_seed, **runs)
    ledger += of_runs
    robustness += their_settings
    predicted, _ = judge(tables, **study, missing=params.missing, claims=accounts.PREDICTIONS)
    predicted += judge_trainings(by_seed, **runs, claims=accounts.TRAINING_PREDICTIONS)[0]
    rows = {
        "claims": (ledger, LEDGER_SCHEMA),
        "robustness": (robustness, ROBUSTNESS_SCHEMA),
        "checks": (checked(tables, **study), checks.SCHEMA),
        "accounts": (accounts.with_account(predicted), accounts.SCHEMA),
        "claims_over_models": (list(over_models.over_models(ledger)), over_models.SCHEMA),
    }
    for name, (some, schema) in rows.items():
        write_table(snakemake.output[name], pa.Table.from_pylist(some, schema=schema), schema)
