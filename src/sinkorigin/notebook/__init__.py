"""The workflow's measurements in a notebook: models and prompts that are in memory, tables that are returned."""
