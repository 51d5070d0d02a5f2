"""The measured loops of more than one page: one call for each key."""

VALUE = ("x",)


def read(d, keys):
    for key in keys:
        d[key]


def write(d, keys):
    value = VALUE
    for key in keys:
        d[key] = value


def get(d, keys):
    for key in keys:
        d.get(key)


def set_default(d, keys):
    value = VALUE
    for key in keys:
        d.setdefault(key, value)


def filled(make):
    """Fills what `make` makes one key at a time."""

    def fill(source):
        made = make()
        for key, value in source.items():
            made[key] = value
        return made

    return fill
