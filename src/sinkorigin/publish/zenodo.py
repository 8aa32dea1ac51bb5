"""The metadata that Zenodo takes with a deposit."""

from typing import Any

from sinkorigin.publish.described_study import DescribedStudy


def zenodo_metadata(study: DescribedStudy, description: str) -> dict[str, Any]:
    """The content of .zenodo.json: keys and values of Zenodo's deposit metadata.

    Args:
        description: what the record is, in a paragraph of HTML or plain text.
    """
    creators = [{key: value for key, value in creator.items() if value} for creator in study.publication["creators"]]
    return {
        "upload_type": "dataset",
        "title": study.title,
        "description": description,
        "creators": creators,
        "license": study.licence.lower(),
        "access_right": "open",
        "keywords": [*study.citation["keywords"], "RO-Crate"],
        "related_identifiers": [
            {"identifier": study.paper["url"], "relation": "references", "resource_type": "publication-conferencepaper"}
        ],
        "notes": f"Made by {study.software}. No numbers were written by hand.",
    }
