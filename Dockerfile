# The pinned environment and nothing else: engines bring the workflow's sources to each job. See docs/engines.md.
FROM python:3.11-slim-bookworm
# plugins for the storage that the jobs use, such as snakemake-storage-plugin-s3==0.3.6
ARG PLUGINS=""
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make rsync \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/sinkorigin
COPY Makefile requirements.lock ./
# the step by which every checkout and the tests get their environment
RUN make environment
RUN if [ -n "$PLUGINS" ]; then .venv/bin/python -m pip install --no-cache-dir $PLUGINS; fi
ENV PATH=/opt/sinkorigin/.venv/bin:$PATH
