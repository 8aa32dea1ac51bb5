# What all rules above have in common: log, benchmark, environment, resources, and whether their jobs stay on this machine.

from harness.cluster import light_rules
from harness.shared_directives import share_directives

EVERY_RULE = internals.own_rules(workflow)
workflow.localrules(*(EVERY_RULE[name].name for name in light_rules(list(EVERY_RULE))))
share_directives(workflow, EVERY_RULE, STUDY, study.estimates)
CODE.remember()
