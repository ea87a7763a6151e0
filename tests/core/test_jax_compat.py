"""Private parts of JAX still behave as the package relies on."""

import contextlib

import jax
import jax.export

from metastyle_jax.core import jax_compat


@jax.custom_vjp
def reversed_gradient(x):
    return x


reversed_gradient.defvjp(lambda x: (x, None), lambda _, g: (-g,))


def rules_of(function, x):
    return jax_compat.custom_derivative_rules(
        jax.make_jaxpr(function)(x).jaxpr, [jax_compat.JAX_FOLDER]
    )


def test_custom_rules_are_found_inside_functions_of_jax_and_in_packages_named_like_jax():
    def solve(x):
        return jax.lax.custom_root(
            lambda y: reversed_gradient(y) - x, x, lambda f, y: y - f(y), lambda g, y: y / g(1.0)
        )

    assert any('reversed_gradient' in rule for rule in rules_of(solve, 1.0))
    assert not list(rules_of(jax.nn.relu, 1.0))
    # A package whose path only begins like that of JAX is not part of JAX.
    text = (
        'import jax\n@jax.custom_jvp\ndef f(x): return x\nf.defjvp(lambda p, t: (f(*p), 2 * t[0]))'
    )
    space: dict = {}
    exec(compile(text, jax.__file__.replace('/jax/', '/jaxopt/'), 'exec'), space)  # noqa: S102
    assert [rule.split()[0] for rule in rules_of(space['f'], 1.0)] == ['f']


def test_exported_programs_can_be_made_without_names_of_source_files():
    programs = []
    for context in (contextlib.nullcontext, jax_compat.no_source_locations, contextlib.nullcontext):
        with context():
            exported = jax.export.export(jax.jit(lambda x: x + 1))(1.0)
        programs.append('test_jax_compat' in exported.mlir_module())
    assert programs == [True, False, True]
