"""The one place and the one type of every setting: pydantic models of config.yaml, one module a section.

``reading.read_config`` checks types and bounds, and what one key demands of another, before any job runs. Every message is
one sentence with the file, the key, the value and the remedy.
"""
