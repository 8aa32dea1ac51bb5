"""The page of a study: what it says, its charts, and the templates that it is made with."""
