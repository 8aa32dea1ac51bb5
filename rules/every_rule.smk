# What all rules above have in common: log, benchmark, environment, resources, whether their jobs stay on this machine, and a description.

from harness.cluster import light_rules
from harness.shared_directives import share_directives

EVERY_RULE = internals.own_rules(workflow)
workflow.localrules(*(EVERY_RULE[name].name for name in light_rules(list(EVERY_RULE))))
for figure in FIGURES:
    if f"plot_{figure.name}" in EVERY_RULE:
        internals.add_description(EVERY_RULE[f"plot_{figure.name}"], figure.description)
share_directives(workflow, EVERY_RULE, STUDY, study.estimates)
CODE.remember()
