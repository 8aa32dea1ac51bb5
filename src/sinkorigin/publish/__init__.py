"""What is published of a study: its claims as records, cards of its tables and models, a checklist, and metadata of archives."""
