"""Sentences for what can go wrong at the Hugging Face hub."""

from collections.abc import Iterator
from contextlib import contextmanager

from sinkorigin import tables
from sinkorigin.errors import SinkoriginError


@contextmanager
def hub_errors(repository: str, revision: str, what: str) -> Iterator[None]:
    """Raise what goes wrong with a repository of the hub in this block as one sentence.

    Raises:
        SinkoriginError: the repository is gated, private or not there, or the hub cannot be reached.
        OSError: the disk is full.
    """
    from huggingface_hub import errors

    try:
        yield
    except SinkoriginError:
        raise
    except errors.GatedRepoError as error:
        raise SinkoriginError(
            f"{what}: {repository} is gated; accept its terms on its page and log in with `hf auth login`"
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise SinkoriginError(
            f"{what}: the hub has no {repository} at revision {revision}, or it is private; correct the source"
        ) from error
    except Exception as error:  # the hub's errors, and the connection errors of its HTTP client
        if getattr(error, "errno", None) in tables.FULL_DISK:
            raise
        raise SinkoriginError(
            f"{what}: {repository} cannot be downloaded from the hub ({type(error).__name__}); check the network, "
            "or download it elsewhere and use a path: source"
        ) from error
