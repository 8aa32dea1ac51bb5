# Expensive outputs are shared with other checkouts and users, with `--cache`: docs/sharing.md.

if workflow.workflow_settings.cache is not None:
    from harness.shared_outputs import share

    with checks.ending_with_a_sentence():
        share(workflow, CODE)
