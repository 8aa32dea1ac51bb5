def check_registries(library):
    pass
