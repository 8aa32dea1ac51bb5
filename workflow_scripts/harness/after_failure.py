"""The end of a run in which a job failed: claims and figures of everything else, their findings, and a sentence for each failed job.

Jobs that do not need a failed one run to their end (``keep-going`` in ``profiles/default``). The claims and most figures are of all
models, so they need every job, and Snakemake leaves them as they were. They are then made by a second run, which makes nothing else
and sees a study without the missing tables, see :class:`harness.missing.Missing`. Its jobs have other inputs and parameters than
those of the whole study, so the next run that succeeds makes them again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness import snakemake_internals as internals
from harness.figures import FIGURES
from harness.job import Record
from harness.missing import VARIABLE, Failure, Missing, job_name
from harness.outcome import LEDGER, LEDGER_RULE, PAGE_RULE, PAGES, findings_told, page_of
from harness.page import demanded_figures
from harness.study import Study

_SCRIPT = Path(__file__).parents[1] / "make_rest.py"
_MOST = 20  # failures that are told
# rules that read what there is of each model: their inputs are from Study.tables or Study.comparisons. Figures do so too
_SUMMARIES = (LEDGER_RULE, PAGE_RULE)


def end_failed_run(workflow: Any, study: Study, *, changed: bool, removed: Sequence[str] = ()) -> str | None:
    """Make the claims and figures of everything that is there, and print what they found.

    Nothing is made of what a run left that was stopped: nobody knows what it would have made.

    Args:
        changed: whether the config is not that of the run any more, so that nothing more can be made of it.
        removed: pages of an earlier run that were removed as this one began.

    Returns:
        What to end the run with; None for a run that was stopped and has nothing to tell.
    """
    unfinished = internals.unfinished_jobs(workflow, lambda job: Record.read(next(iter(job.log), "")) is not None)
    stopped = not internals.ended_by_itself(workflow)
    gone = _gone(removed)
    if not unfinished:
        return gone or None
    missing = missing_after(unfinished)
    waiting = [job for job, blamed in unfinished.items() if job is not blamed and internals.stated_files(job)]
    wanted = {job.rule.name: internals.stated_files(job) for job in waiting if not job.wildcards}
    rest = {} if changed or stopped else what_is_left(study, missing, _with_page(workflow, study, missing, wanted))
    if not rest:
        return _told(missing, len(waiting), gone)
    missing = _made_again(missing, rest)
    internals.logger.info("Making claims and figures of what is there.")
    with TemporaryDirectory() as folder:
        file = Path(folder, "missing.json")
        missing.write(file)
        made = internals.run_apart(workflow, _SCRIPT, missing.remade, list(rest), **{VARIABLE: str(file)})
    if made and LEDGER_RULE in rest:
        for line in findings_told(Path(study.folder, LEDGER)):
            print(line)
    where = f"{_where(study, rest, made)} {_gone(removed)}".strip()
    return _told(missing, len([job for job in waiting if job.rule.name not in rest]), where)


def _with_page(workflow: Any, study: Study, missing: Missing, wanted: dict[str, list[str]]) -> dict[str, list[str]]:
    """What is wanted and, if the run asked for the page and made it without a word of what the study lacks now, the page."""
    lacks = missing.parts(study.folder) or missing.undrawn(demanded_figures(study))
    pages = [f"{study.folder}/{page}" for page in PAGES]
    if lacks and internals.is_asked_for(workflow, PAGE_RULE) and not any(page in missing.files for page in pages):
        return wanted | {PAGE_RULE: pages}
    return wanted


def missing_after(unfinished: Mapping[Any, Any]) -> Missing:
    """What a run left unmade: job → the failed job that it waits for."""
    failed = list(dict.fromkeys(unfinished.values()))
    failures = [
        Failure.of_job(job.rule.name, dict(job.wildcards.items()), str(next(iter(job.log), "no log"))) for job in failed
    ]
    files = {file: failed.index(blamed) for job, blamed in unfinished.items() for file in internals.stated_files(job)}
    return Missing(failures, dict(sorted(files.items())))


def what_is_left(study: Study, missing: Missing, wanted: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Rules of claims and figures that a study can do without what it lacks → their files.

    There are none where there is nothing that any figure shows.

    Args:
        wanted: rule → files, of the jobs of the whole study that a run left undone and that did not fail themselves.
    """
    if not any(figure.is_there(study.without(missing)) for figure in FIGURES):
        return {}
    summaries = {rule: files for rule, files in wanted.items() if rule in _SUMMARIES}
    rest = study.without(_made_again(missing, summaries))
    figures = {f"plot_{figure.name}" for figure in FIGURES if figure.is_there(rest)}
    return summaries | {rule: files for rule, files in wanted.items() if rule in figures}


def _made_again(missing: Missing, rest: Mapping[str, list[str]]) -> Missing:
    return replace(missing, remade=[file for files in rest.values() for file in files])


def _where(study: Study, rest: Iterable[str], made: bool) -> str:
    """Where claims and figures of everything else are."""
    if not made:
        return "Not all claims and figures of what is there could be made: see the messages above."
    page = f"What was found, and what is missing: {page_of(study.folder)}." if PAGE_RULE in rest else ""
    drawn = f"Its figures: {study.folder}/figures." if set(rest) - set(_SUMMARIES) else ""
    return f"{page} {drawn}".strip()


def _gone(removed: Iterable[str]) -> str:
    """A sentence on the pages that were removed and not made again."""
    gone = ", ".join(page for page in removed if not Path(page).exists())
    return f"Removed, because it was of an earlier run: {gone}. The same command makes it again." if gone else ""


def _told(missing: Missing, waiting: int, where: str) -> str:
    """A sentence for each failed job with its log, and where the rest is; ``waiting`` jobs need one of them."""
    failures = missing.failures
    others = f", and {waiting} that need{'s' if waiting == 1 else ''} its results did not run" if waiting else ""
    lines = [
        f"{len(failures)} job{'s' if len(failures) > 1 else ''} failed{others}:",
        *(
            f"- {job_name(failure.rule, failure.wildcards)}: {failure.sentence} (log: {failure.log})"
            for failure in failures[:_MOST]
        ),
        *([f"- and {len(failures) - _MOST} more"] if len(failures) > _MOST else []),
        *([where] if where else []),
    ]
    return "\n".join(lines)
