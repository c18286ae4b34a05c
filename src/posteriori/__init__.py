"""Maximum a posteriori policy optimisation (MPO) for continuous control, in JAX and Equinox.

The names, in `__init__.pyi`, are imported when they are first used: JAX takes seconds, which
`posteriori --help` need not wait for.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
