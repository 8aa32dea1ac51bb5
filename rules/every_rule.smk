# What all rules above have in common: log, benchmark, environment, resources, whether their jobs stay on this machine, and a description.

from harness.cluster import light_rules
from harness.job import fingerprint, ran_with
from harness.shared_directives import share_directives

EVERY_RULE = internals.own_rules(workflow)
workflow.localrules(*(EVERY_RULE[name].name for name in light_rules(list(EVERY_RULE))))
for figure in FIGURES:
    if f"plot_{figure.name}" in EVERY_RULE:
        internals.add_description(EVERY_RULE[f"plot_{figure.name}"], figure.description)
share_directives(workflow, EVERY_RULE, STUDY, study.estimates)
CODE.remember()


def ran_so(job):
    """Whether the log of a job says that it was given the parameters and inputs that it has now.

    Nothing is known of a log in a storage, which is not here: its job counts as one that was, as it does for Snakemake.
    """
    log = next(iter(job.log))
    return log.is_storage or ran_with(log, fingerprint(dict(job.params.items()), job.input))


if workflow.is_main_process:
    internals.rerun_without_record(EVERY_RULE.values(), ran_so)
