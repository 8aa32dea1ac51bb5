"""The RO-Crate of a published study: which job made which file from which, with which code, and when.

It follows the Provenance Run Crate profile 0.5 (https://w3id.org/ro/wfrun/provenance), the one of the Workflow Run Crate profiles that has
a place for the single jobs: a rule is a step, its script the tool, each job an action of the tool.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from rocrate.model.computerlanguage import ComputerLanguage
from rocrate.model.contextentity import ContextEntity
from rocrate.model.entity import Entity
from rocrate.rocrate import ROCrate

from harness.publish.record import Job, StudyFile, StudyRecord
from sinkorigin.publish.data_card import TableKind
from sinkorigin.publish.described_study import DescribedStudy

METADATA = "ro-crate-metadata.json"
_RUN = "https://w3id.org/ro/wfrun"
_PROFILES = {
    f"{_RUN}/process/0.5": ("Process Run Crate", "0.5"),
    f"{_RUN}/workflow/0.5": ("Workflow Run Crate", "0.5"),
    f"{_RUN}/provenance/0.5": ("Provenance Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
_WORKFLOW_PROFILE = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
_PARAMETER_PROFILE = "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"
# RO-Crate 1.1 has no term for it; that of Workflow Run Crate is given here, so that a reader need not fetch a second context
_TERMS = {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}
# written out, because what Python guesses depends on the machine
_FORMATS = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".jsonld": "application/ld+json",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".yaml": "application/yaml",
}
_CODE = "code"  # folder of the workflow in the crate


@dataclass(frozen=True)
class Rule:
    """A rule of the workflow.

    Attributes:
        script: file name of its script.
        description: what its jobs do.
    """

    script: str
    description: str


@dataclass(frozen=True)
class Contents:
    """What lies in the folder of a crate.

    Attributes:
        files: files of the study that were taken in.
        descriptions: place of each of them → what it is.
        kinds: kinds of tables.
        added: place of every other file, which was made for the crate → what it is.
    """

    files: Sequence[StudyFile]
    descriptions: Mapping[str, str]
    kinds: Sequence[TableKind]
    added: Mapping[str, str]


def write_crate(
    folder: Path, study: DescribedStudy, record: StudyRecord, contents: Contents, rules: Mapping[str, Rule], engine: str
) -> None:
    """Write the metadata of a crate into its folder, which has all other files already.

    Args:
        rules: name → rule, at least those of the record's jobs.
        engine: version of Snakemake.
    """
    rules = {job.rule: rules[job.rule] for job in record.jobs}
    crate = _Crate(folder, study, record, contents)
    crate.describe_root()
    crate.add_workflow(rules)
    crate.add_run(rules, engine)
    crate.crate.metadata.write(folder)


class _Crate:
    """A crate in the making.

    Attributes:
        crate: the crate.
        files: place → entity of each file in it.
        workflow: entity of the workflow.
        tools: script → entity.
    """

    def __init__(self, folder: Path, study: DescribedStudy, record: StudyRecord, contents: Contents):
        self.crate = ROCrate(version="1.1")
        self.crate.metadata.extra_terms.update(_TERMS)
        self._folder, self._study, self._record, self._contents = folder, study, record, contents
        self.files: dict[str, Entity] = {}
        self.tools: dict[str, Entity] = {}
        self._known = {file.place: file for file in record.files}
        self._elsewhere: dict[str, Entity] = {}  # place of a file that is not in the crate → what stands for it
        for file in contents.files:
            facts = {"contentSize": str(file.bytes), "sha256": file.sha256}
            self._file(file.place, contents.descriptions[file.place], facts)
        for place, what in contents.added.items():
            self._file(place, what, {"contentSize": str((folder / place).stat().st_size)})

    def _file(self, place: str, description: str, properties: Mapping[str, Any]) -> None:
        facts = {"name": place, "description": description, "encodingFormat": _format(place), **properties}
        self.files[place] = self.crate.add_file(self._folder / place, place, properties=facts)

    def _add(self, address: str, type_: str | list[str], /, **properties: Any) -> Entity:
        entity = self.crate.add(ContextEntity(self.crate, address, properties={"@type": type_}))
        for name, value in properties.items():
            if value is not None and value != []:
                entity[name] = _one_or_more(value)
        return entity

    def describe_root(self) -> None:
        """What the crate is, who publishes it, and under which licence."""
        study, crate, root = self._study, self.crate, self.crate.root_dataset
        crate.name = study.title
        crate.description = (
            f"Tables, figures, verdicts and provenance of the study {study.name}, which tests the claims of "
            f"“{study.paper['title']}” in "
            f"language models. Made by {study.software}."
        )
        crate.license = self._licence(study.licence)
        crate.keywords = ", ".join(study.citation["keywords"])
        # when the results were there, so that the same study gives the same crate
        crate.datePublished = _time(self._record.end) or "1970-01-01"
        profiles = [
            self._add(address, "CreativeWork", name=name, version=version)
            for address, (name, version) in _PROFILES.items()
        ]
        root["conformsTo"] = profiles
        authors = [self._person(number, person) for number, person in enumerate(study.publication["creators"], start=1)]
        if authors:
            root["author"] = _one_or_more(authors)
        paper = study.paper
        root["about"] = self._add(
            paper["url"], "ScholarlyArticle", name=paper["title"],
            author=[author["family-names"] for author in paper["authors"]],
        )  # fmt: skip
        self.files["README.md"]["about"] = root

    def _licence(self, text: str) -> Entity | str:
        identifier = _spdx_identifier(text)
        if identifier is None:
            return text
        address = f"https://spdx.org/licenses/{identifier}"
        return self.crate.dereference(address) or self._add(
            address, "CreativeWork", name=identifier, description=f"The licence {identifier} of the SPDX list"
        )

    def _person(self, number: int, person: Mapping[str, Any]) -> Entity:
        institution = person.get("affiliation")
        affiliation = institution and self._add(f"#institution-{number}", "Organization", name=institution)
        identifier = f"https://orcid.org/{person['orcid']}" if person.get("orcid") else f"#creator-{number}"
        return self._add(identifier, "Person", name=person["name"], affiliation=affiliation)

    def add_workflow(self, rules: Mapping[str, Rule]) -> None:
        """The workflow, its scripts, and what goes in and comes out."""
        crate, software = self.crate, self._study.citation
        place = f"{_CODE}/Snakefile"
        python = self._add("https://www.python.org/", "ComputerLanguage", name="Python", url="https://www.python.org/")
        for script in sorted({rule.script for rule in rules.values()}):
            tool = f"{_CODE}/workflow_scripts/{script}"
            self.tools[script] = self.crate.add_file(
                self._folder / tool, tool,
                properties={
                    "@type": ["File", "SoftwareSourceCode"], "name": script, "encodingFormat": "text/x-python",
                    "description": "script of the workflow", "version": software["version"],
                },
            )  # fmt: skip
            self.tools[script]["programmingLanguage"] = python
        # add_workflow of rocrate would name version 1.1 of Workflow RO-Crate where the run crates 0.5 build on 1.0
        language = crate.add(
            ComputerLanguage(
                crate,
                "https://w3id.org/workflowhub/workflow-ro-crate#snakemake",
                {
                    "name": "Snakemake",
                    "identifier": {"@id": "https://doi.org/10.1093/bioinformatics/bts480"},
                    "url": {"@id": "https://snakemake.github.io"},
                },
            )
        )
        workflow = crate.add_file(
            self._folder / place, place,
            properties={
                "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"], "name": software["title"],
                "version": software["version"], "description": software["title"], "encodingFormat": "text/x-snakemake",
            },
        )  # fmt: skip
        crate.metadata["conformsTo"] = [
            {"@id": "https://w3id.org/ro/crate/1.1"}, {"@id": "https://w3id.org/workflowhub/workflow-ro-crate/1.0"}
        ]  # fmt: skip
        profile = self._add(
            _PARAMETER_PROFILE, "CreativeWork", name="Bioschemas FormalParameter", version="1.0-RELEASE"
        )
        workflow["programmingLanguage"] = language
        workflow["license"] = self._licence(software["license"])
        workflow["conformsTo"] = self._add(
            _WORKFLOW_PROFILE, "CreativeWork", name="Bioschemas ComputationalWorkflow", version="1.0-RELEASE"
        )
        workflow["author"] = self._add("#authors", "Organization", name=software["authors"][0]["name"])
        workflow["hasPart"] = _one_or_more(list(self.tools.values()))
        workflow["softwareRequirements"] = [
            self._add(f"https://pypi.org/project/{name}/{version}/", "SoftwareApplication", name=name, softwareVersion=version,
                      url=f"https://pypi.org/project/{name}/{version}/")
            for name, version in self._study.versions.items()
        ]  # fmt: skip
        workflow["input"] = self._parameter("config", "settings of the study", [self.files["config.yaml"]], profile)
        workflow["output"] = [
            self._parameter(kind.name, kind.what, [self.files[place] for place in kind.places], profile)
            for kind in self._contents.kinds
        ]
        crate.mainEntity = workflow
        self.workflow = workflow

    def _parameter(self, name: str, description: str, examples: Sequence[Entity], profile: Entity) -> Entity:
        parameter = self._add(
            f"#parameter/{name}", "FormalParameter", name=name, description=description, additionalType="File",
            encodingFormat=examples[0]["encodingFormat"], workExample=list(examples), conformsTo=profile,
        )  # fmt: skip
        for example in examples:
            example["exampleOfWork"] = parameter
        return parameter

    def add_run(self, rules: Mapping[str, Rule], engine: str) -> None:
        """The run: one action of the workflow, and one of a script for each job."""
        record, study, root = self._record, self._study, self.crate.root_dataset
        sources = self._sources()
        agent = root.get("author")
        jobs = {job.name: self._job(job, rules[job.rule], sources.get(job.name), agent) for job in record.jobs}
        steps, controls = [], []
        for position, name in enumerate(dict.fromkeys(job.rule for job in record.jobs), start=1):
            step = self._add(
                f"#step/{name}", "HowToStep", name=name, description=rules[name].description, position=str(position),
                workExample=self.tools[rules[name].script],
            )  # fmt: skip
            done = [jobs[job.name] for job in record.jobs if job.rule == name]
            controls.append(
                self._add(f"#control/{name}", "ControlAction", name=f"jobs of {name}", instrument=step, object=done)
            )
            steps.append(step)
        self.workflow["step"] = steps
        run = self._add(
            "#run", "CreateAction", name=f"study {study.name}", description=f"{len(jobs)} jobs of the workflow",
            instrument=self.workflow, object=[self.files["config.yaml"], *sources.values()],
            result=[self.files[file.place] for file in self._contents.files], agent=agent, **_times(record.start, record.end),
        )  # fmt: skip
        address = f"https://pypi.org/project/snakemake/{engine}/"
        program = self.crate.dereference(address) or self._add(
            address, "SoftwareApplication", name="snakemake", softwareVersion=engine, url=address
        )
        self._add(
            "#engine", "OrganizeAction", name=f"Snakemake {engine}", instrument=program, object=controls, result=run, agent=agent,
            **_times(record.start, record.end),
        )  # fmt: skip
        root["mentions"] = [run, *jobs.values()]

    def _sources(self) -> dict[str, Entity]:
        """Job that fetched something → what it fetched."""
        found: dict[str, Entity] = {}
        for model, facts in self._study.provenance.items():
            if facts["weights"] == "pretrained":
                found[f"fetch_model/{model}"] = self._add(
                    f"#source/fetch_model/{model}", "CreativeWork", name=facts["label"], identifier=_listed(facts["source"]), version=facts["revision"],
                    sha256=facts["sha256"], license=facts["licence"] and self._licence(facts["licence"]),
                    description="weights that the study read; they are not in this crate",
                )  # fmt: skip
        corpora = {"fetch_corpus": self._study.config["corpus"]} | {
            f"fetch_own_corpus/{data['name']}": data["corpus"]
            for data in self._study.config["pretraining"]["data"]
            if data.get("corpus")
        }
        ran = {job.name for job in self._record.jobs}
        for job, corpus in corpora.items():
            if job in ran:
                found[job] = self._add(
                    f"#source/{job}", "CreativeWork", name=f"corpus {corpus['source']}", identifier=corpus["source"],
                    sha256=corpus.get("sha256"), description="text that the study read",
                )  # fmt: skip
        return found

    def _job(self, job: Job, rule: Rule, source: Entity | None, agent: Any) -> Entity:
        objects = [*([source] if source is not None else []), *map(self._there_or_not, job.inputs)]
        _, _, which = job.name.partition("/")
        version = f"; code version {job.code}" if job.code else ""
        return self._add(
            f"#job/{job.name}", "CreateAction", name=f"{job.rule} ({which})" if which else job.rule,
            description=f"{rule.description.rstrip('.')}{version}", instrument=self.tools[rule.script], object=objects,
            result=[self._there_or_not(place) for place in job.outputs], agent=agent,
            actionStatus="http://schema.org/CompletedActionStatus", **_times(job.start, job.end),
        )  # fmt: skip

    def _there_or_not(self, place: str) -> Entity:
        """Entity of a file of the study: in the crate, or one that says that the file is not."""
        if place in self.files:
            return self.files[place]
        if place not in self._elsewhere:
            file = self._known.get(place)
            facts = {} if file is None else {"contentSize": str(file.bytes), "sha256": file.sha256}
            self._elsewhere[place] = self._add(
                f"#left-out/{place}",
                "CreativeWork",
                name=place,
                description="a file of the study that is not in this crate",
                **facts,
            )
        return self._elsewhere[place]


def _one_or_more(value: Any) -> Any:
    """A list as RO-Crate wants it written: without its brackets where it has one entry."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _spdx_identifier(licence: str) -> str | None:
    """A licence in the spelling of the SPDX list; None where the list does not have it."""
    try:
        identifier = canonicalize_license_expression(licence)
    except InvalidLicenseExpression:
        return None
    # one licence: neither an expression of several nor a name of the user's own
    return identifier if re.fullmatch(r"(?!LicenseRef-)[A-Za-z0-9.-]+", identifier) else None


def _format(place: str) -> str:
    return _FORMATS.get(Path(place).suffix, "application/octet-stream")


def _listed(source: str | Iterable[str]) -> str:
    return source if isinstance(source, str) else ", ".join(source)


def _time(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="seconds")


def _times(start: datetime | None, end: datetime | None) -> dict[str, str | None]:
    return {"startTime": _time(start), "endTime": _time(end)}
