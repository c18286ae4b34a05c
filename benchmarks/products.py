"""The matrix products of a compiled function: which, how fast alone, their share of its time."""

import math
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

BURST = 0.05  # seconds of calls between two looks at the clock


class Product(NamedTuple):
    """`batch` products of [rows, inner] and [inner, columns], the longer side in the rows."""

    batch: int
    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * math.prod(self)

    def operands(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Random float32 factors."""
        batch = (self.batch,) if self.batch > 1 else ()
        left, right = jax.random.split(key)
        return (
            jax.random.normal(left, (*batch, self.rows, self.inner)),
            jax.random.normal(right, (*batch, self.inner, self.columns)),
        )


def products(function: Callable[..., Any], *args: Any) -> Counter[Product]:
    """Count the products in a jaxpr; none may be in a loop, whose length is not in it."""
    return Counter(_product(eqn) for eqn in _dots(jax.make_jaxpr(function)(*args).jaxpr, False))


def _dots(jaxpr: Any, in_loop: bool) -> Iterator[Any]:
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            assert not in_loop, "a product in a loop: count its iterations before trusting this"
            yield eqn
        inner = in_loop or eqn.primitive.name in ("while", "scan")
        for value in eqn.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                part = getattr(part, "jaxpr", part)
                if hasattr(part, "eqns"):
                    yield from _dots(part, inner)


def _product(eqn: Any) -> Product:
    (contracted, _), (batched, _) = eqn.params["dimension_numbers"]
    left, right = (v.aval for v in eqn.invars)
    inner = math.prod(left.shape[i] for i in contracted)
    batch = math.prod(left.shape[i] for i in batched)
    sides = sorted(x.size // (inner * batch) for x in (left, right))
    return Product(batch, sides[1], inner, sides[0])


def alone(found: Counter[Product]) -> dict[Product, float]:
    """Seconds of each product in a compiled function of its own."""
    keys = jax.random.split(jax.random.key(0), len(found))
    multiply = jax.jit(jnp.matmul)
    return {
        product: seconds(multiply, *product.operands(key))
        for product, key in zip(found, keys, strict=True)
    }


def together(found: Counter[Product]) -> float:
    """Seconds of all products in one compiled function that does nothing else."""
    keys = jax.random.split(jax.random.key(1), found.total())
    pairs = [p.operands(key) for p, key in zip(found.elements(), keys, strict=True)]
    return seconds(jax.jit(lambda pairs: [a @ b for a, b in pairs]), pairs)


def seconds(function: Callable[..., Any], *args: Any, repeats: int = 9) -> float:
    """Median seconds of a call, over bursts of calls."""
    jax.block_until_ready(function(*args))
    began = time.perf_counter()
    jax.block_until_ready(function(*args))
    calls = max(1, round(BURST / (time.perf_counter() - began)))
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        out = None
        for _ in range(calls):
            out = function(*args)
        jax.block_until_ready(out)
        taken.append((time.perf_counter() - began) / calls)
    return median(taken)


def profiled(run: Callable[[], Any], hlo: str) -> tuple[float, float]:
    """Seconds inside operations that hold a product, and inside all, summed over threads.

    Args:
        run: Runs the compiled function some times, and waits.
        hlo: Its text after optimisation.
    """
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            run()
        (path,) = Path(folder).rglob("*.xplane.pb")
        planes = jax.profiler.ProfileData.from_file(str(path)).planes
        events = [e for plane in planes for line in plane.lines for e in line.events]
        operations = _operations(hlo)
        spent = Counter()
        for event in events:
            if event.name in operations:
                spent[operations[event.name]] += event.duration_ns / 1e9
    return spent[True], spent.total()


def _operations(hlo: str) -> dict[str, bool]:
    """The entry's operations by name: whether they hold a product."""
    bodies = {
        match[2]: match[3]
        for match in re.finditer(r"^(ENTRY )?%?([\w.-]+) \(.*?\{\n(.*?)^\}", hlo, re.M | re.S)
    }
    (entry,) = re.findall(r"^ENTRY .*?\{\n(.*?)^\}", hlo, re.M | re.S)
    found = {}
    for line in entry.splitlines():
        name = re.match(r"\s*(?:ROOT )?%?([\w.-]+) = ", line)
        if name:
            called = re.findall(r"(?:calls|to_apply)=%?([\w.-]+)", line)
            text = line + "".join(bodies.get(c, "") for c in called)
            found[name[1]] = " dot(" in text or 'custom_call_target="__onednn$matmul' in text
    return found
