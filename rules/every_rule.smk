# What all rules above have in common: log, benchmark, environment, resources, and whether their jobs stay on this machine.

from harness.cluster import light_rules
from harness.shared_directives import share_directives

workflow.localrules(*light_rules([rule.name for rule in workflow.rules]))
share_directives(workflow, STUDY, study.estimates)
CODE.remember()
