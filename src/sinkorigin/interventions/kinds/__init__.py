"""The kinds of intervention, one class a module, loaded by name: :func:`sinkorigin.interventions.kind.kind_named`."""
