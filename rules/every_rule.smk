# What all rules above have in common: log, benchmark, environment and resources.

from harness.shared_directives import share_directives

share_directives(workflow, STUDY, ESTIMATES)
CODE.remember()
