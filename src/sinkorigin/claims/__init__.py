"""The paper's claims, each a predicate over the study's tables with its uncertainty.

A claim is *seen* when the whole interval satisfies its predicate, *undecided* when only the estimate does, *not seen at
this scale* when the estimate does not, and *not applicable* when the quantity is not defined or was not measured.
"""
