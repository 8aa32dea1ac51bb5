# What goes wrong around a run, in one sentence each.

from harness import checks
from harness.after_failure import end_failed_run
from harness.cluster import keep_config, prepare_slurm
from harness.outcome import LEDGER_RULE, PAGE_RULE, outcome
from harness.run_lock import note_lock

CONFIG_AT_START = checks.ConfigFiles([layer.name for layer in MERGED.layers if layer.is_file])
internals.replace_lock_message(checks.LOCKED)
internals.replace_full_disk_message(checks.FULL)


def check_run():
    """Everything that can be known before the first job."""
    jobs = internals.pending_jobs(workflow)
    if internals.is_asked_for(workflow, "make_crate") and not internals.is_asked_for(workflow, "all"):
        checks.check_finished(
            [job.rule.name for job in jobs if job.rule.name not in ("publish", "make_crate")],
            STUDY_CONFIG.study,
        )
    fetching = [job.wildcards.model for job in jobs if job.rule.name == "fetch_model"]
    checks.check_model_names(
        {name: study.fetched_as(name) for name in fetching}, STUDY_CONFIG.study, CONFIG_FILES
    )
    if workflow.local_exec and DEVICE == "cuda" and any(job.resources.get("gpu") for job in jobs):
        checks.check_gpu(CONFIG_FILES)
    if workflow.local_exec and DEVICE == "mps":
        checks.check_gpu(CONFIG_FILES, "mps")
    if not workflow.local_exec:
        keep_config(workflow, {**MERGED.values, "device": DEVICE})
    if workflow.executor_plugin.name == "slurm":
        prepare_slurm(workflow, STUDY_CONFIG.device, CONFIG_FILES)
    checks.check_folders(file for job in jobs for file in (*job.output, *job.log))
    checks.check_writable(STUDY)  # last: it makes the folder


def tell_changed_config():
    """Say so if the config was edited while its jobs ran; whether it was."""
    changes = CONFIG_AT_START.changes()
    for sentence in changes:
        internals.logger.warning(sentence)
    return bool(changes)


onstart:  # a second one, in another file, would replace this
    note_lock(internals.lock_files(workflow))
    internals.lift_rate_limit(workflow)
    with checks.ending_with_a_sentence():
        check_run()


onsuccess:
    tell_changed_config()
    if internals.is_asked_for(workflow, "first_look"):
        print(Path(f"{STUDY}/first_look.txt").read_text(), end="")
        print(f"The figure is {STUDY}/figures/first_look.{STUDY_CONFIG.figures.formats[0]}")
    if internals.is_asked_for(workflow, LEDGER_RULE):
        with checks.ending_with_a_sentence():
            for line in outcome(STUDY, with_page=internals.is_asked_for(workflow, PAGE_RULE)):
                print(line)


onerror:
    with checks.ending_with_a_sentence():
        sentences = end_failed_run(workflow, study, changed=tell_changed_config(), removed=REMOVED_PAGES)
    if sentences:
        sys.exit(f"sinkorigin: {sentences}")
