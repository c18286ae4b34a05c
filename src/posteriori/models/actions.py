"""The action space as the policy sees it: vectors in the box [-1, 1], or one-hot vectors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@dataclass(frozen=True)
class Preference:
    """An objective of the action alone, beside the return: what to prefer where the return allows.

    Args:
        value: From actions `[*S D]` in the policy's units to values `[*S]`, in any unit, larger is
            better. A box is [-1, 1] in each entry, and actions may lie beyond; a discrete action is
            one-hot. JAX traces it.
        epsilon: KL bound of its own E-step, nats: how hard it pulls, beside the return's `epsilon`
            (MO-MPO, arXiv 2005.07513).
    """

    value: Callable[[Array], Array]
    epsilon: float


@runtime_checkable
class Actions(Protocol):
    """Between a policy's actions and the environment's."""

    @property
    def own(self) -> tuple[tuple[str, Preference], ...]:
        """The user's preferences, by name."""
        ...

    @property
    def size(self) -> int:
        """Entries of an action in the policy's units."""
        ...

    def clip(self, action: Float[Array, "*S D"]) -> Float[Array, "*S D"]:
        """The action that is executed for a policy's, in the policy's units: what a critic sees."""
        ...

    def to_env(self, action: Float[Array, "*S D"]) -> Array:
        """The executed action in the environment's own units."""
        ...

    def preferences(self, action: Float[Array, "*S D"]) -> dict[str, Float[Array, "*S"]]:
        """Objectives of the action alone, by name, larger is better."""
        ...


class BoxActions(eqx.Module):
    """A box with finite bounds, per dimension and not necessarily symmetric."""

    low: Float[Array, " D"]
    high: Float[Array, " D"]
    own: tuple[tuple[str, Preference], ...] = eqx.field(static=True, default=())

    @property
    def size(self) -> int:
        """Number of action dimensions."""
        return self.low.shape[0]

    def clip(self, action: Float[Array, "*S D"]) -> Float[Array, "*S D"]:
        """Return the nearest point of [-1, 1]."""
        return jnp.clip(action, -1.0, 1.0)

    def to_env(self, action: Float[Array, "*S D"]) -> Float[Array, "*S D"]:
        """Map [-1, 1] affinely on [low, high]."""
        unit = 0.5 * (self.clip(action) + 1.0)
        shape = (1,) * (action.ndim - 1) + self.low.shape
        low, high = self.low.reshape(shape), self.high.reshape(shape)
        return jnp.clip(low + unit * (high - low), low, high)  # rounding may step outside

    def preferences(self, action: Float[Array, "*S D"]) -> dict[str, Float[Array, "*S"]]:
        """Prefer actions inside the box: -||a - clip(a)|| (Acme, arXiv 2006.00979, *MPO*)."""
        outside = action - self.clip(action)
        own = {name: preference.value(action) for name, preference in self.own}
        return {"bounds": -jnp.sqrt(jnp.sum(outside**2, axis=-1)), **own}


class DiscreteActions(eqx.Module):
    """The integers start, ..., start + size - 1."""

    size: int = eqx.field(static=True)
    start: int = eqx.field(static=True, default=0)
    own: tuple[tuple[str, Preference], ...] = eqx.field(static=True, default=())

    def clip(self, action: Float[Array, "*S D"]) -> Float[Array, "*S D"]:
        """Return the action: a one-hot vector is always executed as it is."""
        return action

    def to_env(self, action: Float[Array, "*S D"]) -> Int[Array, "*S"]:
        """Return the integer that a one-hot vector stands for."""
        return jnp.argmax(action, axis=-1) + self.start

    def preferences(self, action: Float[Array, "*S D"]) -> dict[str, Float[Array, "*S"]]:
        """Prefer what the user does: no discrete action lies outside."""
        return {name: preference.value(action) for name, preference in self.own}
