"""One object of a class for the whole process. It stands here until `raceproof.ThreadSafeSingleton` is there."""

import threading


class ThreadSafeSingleton:
    """`await Cls.get_instance()` and `Cls.instance()` return the one object of the class; each class has its own."""

    _guard = threading.RLock()

    @classmethod
    def instance(cls):
        """The one object of this class, made by the first call."""
        made = cls.__dict__.get("_made")
        if made is None:
            with ThreadSafeSingleton._guard:
                made = cls.__dict__.get("_made")
                if made is None:
                    made = cls._made = cls()
        return made

    @classmethod
    async def get_instance(cls):
        """The one object of this class, for coroutines."""
        return cls.instance()

    @classmethod
    def reset(cls):
        """Forgets the object, for tests: the next call makes another."""
        with ThreadSafeSingleton._guard:
            if "_made" in cls.__dict__:
                del cls._made
