"""Maximum a posteriori policy optimisation (MPO) for continuous control, in JAX and Equinox."""

__all__: list[str] = []
