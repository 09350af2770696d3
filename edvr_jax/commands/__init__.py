"""The commands of ``edvr``, one dataclass with a ``run`` method each."""
