# What goes wrong around a run, in one sentence each.

from tempfile import TemporaryFile

from snakemake.logging import logger

from harness.run_lock import note_lock


def config_texts(files):
    """Config file → its bytes, as they are now."""
    return {file: file.read_bytes() if file.is_file() else None for file in files}


# the names too are taken now: a run on a cluster gives its jobs a file of its own
CONFIG_TEXTS = config_texts([Path("config.yaml"), *map(Path, workflow.overwrite_configfiles)])


def refused_in_one_sentence(record):
    """Snakemake's five lines about its lock as one."""
    if getattr(record, "exception", None) == "LockException":
        record.msg = (
            "sinkorigin: another run is going on in this directory; wait for it or stop it, or if there is none, because it "
            "was killed, add --unlock to this command once"
        )
    return True


logger.addFilter(refused_in_one_sentence)


def check_folders(files):
    """No file stands where a folder of these files is to be."""
    for folder in sorted({folder for file in files for folder in Path(file).parents}):
        if os.path.lexists(folder) and not folder.is_dir():
            sys.exit(
                f"sinkorigin: {folder} is not a directory, but results are to lie in it; move it away and run the same "
                "command again"
            )


def check_results():
    """Results can be written."""
    check_folders([file for job in workflow.dag.needrun_jobs() for file in (*job.output, *job.log)])
    try:
        Path(STUDY).mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=STUDY):
            pass
    except OSError as error:
        sys.exit(
            f"sinkorigin: {STUDY} cannot be written ({error.strerror}); give yourself the right to write there, or run "
            "in another directory"
        )


def check_model_names():
    """Refuse to fetch a model over that of another study, which has the same name and other settings."""
    from sinkorigin.tables import read_json  # imports pyarrow, which a dry run need not wait for

    fetching = [job.wildcards.model for job in workflow.dag.needrun_jobs() if job.rule.name == "fetch_model"]
    for name in fetching:
        users = {folder.parts[1] for folder in Path("results").glob(f"*/prompts/{name}/")}
        others = sorted(users - {STUDY_CONFIG.study})
        try:
            there = read_json(f"results/models/{name}.provenance.json")["config"]
        except (SinkoriginError, KeyError):
            continue
        new = fetched_as(name)
        different = [key for key in new if key in there and there[key] != new[key]]
        if others and different:
            key = different[0]
            sys.exit(
                f"sinkorigin: {CONFIG_FILES}: model {name} has {key} {new[key]}, but results/models/{name} was fetched with "
                f"{there[key]} and study {others[0]} uses it; give the model another name in one of the studies, or "
                f"delete results/{others[0]} if it is no longer needed"
            )


def check_gpus():
    """A run on this machine finds the GPU that its jobs ask for."""
    asking = DEVICE == "cuda" and workflow.local_exec and not gpu_visible()
    if asking and any(job.resources.get("gpu") for job in workflow.dag.needrun_jobs()):
        sys.exit(
            f"sinkorigin: {CONFIG_FILES}: device is cuda, but this machine shows no GPU; set device: cpu, or give the jobs "
            "to a cluster"
        )


def tell_changed_config():
    """Say so if the config was edited while its jobs ran."""
    for file, text in config_texts(CONFIG_TEXTS).items():
        if text != CONFIG_TEXTS[file]:
            logger.warning(
                f"sinkorigin: {file} was changed while this run went on, and what it made is of the settings before; run "
                "the same command again to bring it up to date"
            )


def lift_rate_limit():
    """Start as many jobs a second as there are.

    With Snakemake's own limit of 100 a second, its version 9.27.1 looks at all waiting jobs again a second after each
    look, so that looks never end and become more with every job: a quarter of a core for a few hundred jobs.
    """
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if limit and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


onstart:  # a second one, in another file, would replace this
    # none where Snakemake keeps its lock in a database
    note_lock(getattr(workflow.persistence, "_lockfile", {}).values())
    lift_rate_limit()
    check_model_names()
    check_gpus()
    prepare_run()
    check_results()  # last: it makes the folder


onsuccess:
    tell_changed_config()


onerror:
    tell_changed_config()
