# A line at the terminal for each finished job, and no page of an earlier run while one goes on. Neither is a hook, since Snakemake
# ignores the hooks of a module.

from functools import partial

from harness.outcome import PAGES
from harness.resources import Estimates

# of their own, because estimates remember the shapes that they began with
EXPECTED = Estimates(STUDY_CONFIG, DEVICE, Path(PLACED("results")))
internals.tell_finished_jobs(
    workflow, {rule.name: partial(EXPECTED.of, name) for name, rule in EVERY_RULE.items()}
)
REMOVED_PAGES = []


def remove_pages():
    """Remove each page that this run makes anew: if it fails or is stopped, an old one would seem to be of this run."""
    REMOVED_PAGES[:] = internals.remove_outputs(workflow, [PLACED(f"{STUDY}/{page}") for page in PAGES])


internals.before_first_job(workflow, remove_pages)
