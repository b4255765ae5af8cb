"""What every network of `NETWORKS` must do, on every shape of table."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch

from steadynet.errors import SpecError, TrainingError
from steadynet.export.network import EXPORTERS, export_network, hidden_name, members_name
from steadynet.export.parts import CATEGORIES, NUMBERS
from steadynet.networks import NETWORKS, NetworkSize, TabularNetwork, build_network
from steadynet.table.layout import FeatureLayout

LAYOUTS = {
    "mixed": ((3, 2, 9), 4),
    "one number": ((), 1),
    "one category": ((5,), 0),
    "only numbers": ((), 6),
    "only categories": ((3, 4), 0),
    "many columns": (tuple(range(3, 43)), 120),
}
"""Name → cardinalities and numbers."""
SIZES = (NetworkSize(16, 2, 3, 1, 0.1), NetworkSize(8, 1, 2, 3, 0.0), NetworkSize(8, 3, 1, 2, 0.2))

every_network = pytest.mark.parametrize("name", sorted(NETWORKS))
every_layout = pytest.mark.parametrize("shape", sorted(LAYOUTS))
every_size = pytest.mark.parametrize("size", SIZES, ids=str)


def layout_of(shape: str) -> FeatureLayout:
    """Return a layout of that shape."""
    cardinalities, numbers = LAYOUTS[shape]
    names = tuple(f"n{place}" for place in range(numbers))
    return FeatureLayout(
        numbers=names,
        number_sources=names,
        categories=tuple(f"c{place}" for place in range(len(cardinalities))),
        cardinalities=cardinalities,
    )


def rows_of(layout: FeatureLayout, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers (N, D) and categories (N, K)."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(rows, len(layout.numbers))).astype(np.float32)
    tops = np.array(layout.cardinalities, np.int64)
    categories = random.integers(0, np.maximum(tops, 1), (rows, len(tops)))
    return numbers, categories


def network_of(
    name: str, layout: FeatureLayout, size: NetworkSize, *, outputs: int = 1, seed: int = 0
) -> TabularNetwork:
    """Return a new network whose weights are shaken, so that no head is zero."""
    network = build_network(name, layout, outputs, size, numbers=rows_of(layout, 200)[0], seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return network.eval()


def answers(network: TabularNetwork, numbers: np.ndarray, categories: np.ndarray) -> torch.Tensor:
    """Return member outputs without gradients."""
    with torch.inference_mode():
        found: torch.Tensor = network(torch.from_numpy(numbers), torch.from_numpy(categories))
    return found


@every_network
@every_layout
@every_size
@pytest.mark.parametrize("outputs", [1, 3])
def test_gives_finite_member_outputs_of_the_promised_shape(
    name: str, shape: str, size: NetworkSize, outputs: int
) -> None:
    layout = layout_of(shape)
    network = network_of(name, layout, size, outputs=outputs)
    found = answers(network, *rows_of(layout, 7))
    assert found.shape == (7, network.groups * network.members, outputs)
    assert bool(torch.isfinite(found).all())
    assert network.groups == size.groups


@every_network
@every_layout
def test_every_weight_gets_a_gradient(name: str, shape: str) -> None:
    layout = layout_of(shape)
    network = network_of(name, layout, SIZES[1])
    numbers, categories = rows_of(layout, 300)
    # Every entry of every category occurs.
    categories = np.arange(300)[:, None] % np.array(layout.cardinalities, np.int64)[None]
    if not layout.categories:
        categories = np.zeros((300, 0), np.int64)
    outputs = network(torch.from_numpy(numbers), torch.from_numpy(categories))
    torch.autograd.backward((outputs * torch.randn(outputs.shape)).sum())
    for what, parameter in network.named_parameters():
        if parameter.numel() == 0:
            continue
        assert parameter.grad is not None, what
        assert bool(torch.isfinite(parameter.grad).all()), what
        assert bool((parameter.grad != 0).any()), what


@every_network
@every_size
def test_the_seed_decides_the_weights(name: str, size: NetworkSize) -> None:
    layout = layout_of("mixed")
    numbers = rows_of(layout, 50)[0]

    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(int(torch.randint(0, 1000, ())))  # the global generator has no say
        made = build_network(name, layout, 1, size, numbers=numbers, seed=seed)
        return torch.cat([parameter.flatten() for parameter in made.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@every_network
@every_layout
def test_a_row_alone_is_answered_as_in_a_batch(name: str, shape: str) -> None:
    layout = layout_of(shape)
    network = network_of(name, layout, SIZES[0])
    numbers, categories = rows_of(layout, 20)
    together = answers(network, numbers, categories)
    for row in (0, 7, 19):
        alone = answers(network, numbers[row : row + 1], categories[row : row + 1])
        torch.testing.assert_close(alone, together[row : row + 1], rtol=0, atol=1e-5)


@every_network
def test_groups_share_nothing(name: str) -> None:
    layout = layout_of("mixed")
    network = network_of(name, layout, SIZES[1]).train()
    numbers, categories = rows_of(layout, 30)
    grouped = network.grouped(
        torch.from_numpy(numbers).expand(3, -1, -1), torch.from_numpy(categories).expand(3, -1, -1)
    )
    torch.autograd.backward(grouped[1].sum())
    for what, parameter in network.named_parameters():
        assert parameter.shape[0] == 3, what
        assert parameter.grad is not None, what
        assert not bool((parameter.grad[[0, 2]] != 0).any()), what


@every_network
@every_layout
@every_size
@pytest.mark.parametrize("outputs", [1, 3])
def test_the_exported_graph_gives_the_same(
    name: str, shape: str, size: NetworkSize, outputs: int
) -> None:
    layout = layout_of(shape)
    network = network_of(name, layout, size, outputs=outputs)
    model = export_network(network, layout)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for rows in (1, 33):
        numbers, categories = rows_of(layout, rows, seed=rows)
        feed: dict[str, np.ndarray] = {}
        if layout.numbers:
            feed[NUMBERS] = numbers
        if layout.categories:
            feed[CATEGORIES] = categories
        (found,) = session.run([members_name("network")], feed)
        expected = answers(network, numbers, categories)
        # Sums of hundreds of shaken weights: rounding is of the size of their parts.
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5)


@every_network
@every_layout
def test_the_last_hidden_layer_is_told_for_monitoring(name: str, shape: str) -> None:
    layout = layout_of(shape)
    network = network_of(name, layout, SIZES[0], outputs=2)
    model = export_network(network, layout, with_hidden=True)
    made = {node.output[0] for node in model.graph.node}
    assert hidden_name("network") in made
    output = model.graph.output.add()
    output.name = hidden_name("network")
    output.type.tensor_type.elem_type = 1
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    numbers, categories = rows_of(layout, 7)
    feed = {NUMBERS: numbers} if layout.numbers else {}
    if layout.categories:
        feed[CATEGORIES] = categories
    found = session.run([hidden_name("network")], feed)[0]
    assert found.ndim == 2
    assert len(found) == 7
    assert np.isfinite(found).all()
    assert float(found.std()) > 0


@every_network
def test_a_thousand_columns_are_a_table_too(name: str) -> None:
    names = tuple(f"n{place}" for place in range(900))
    layout = FeatureLayout(
        numbers=names,
        number_sources=names,
        categories=tuple(f"c{place}" for place in range(100)),
        cardinalities=(4,) * 100,
    )
    size = NetworkSize(8, 1, 2, 1, 0.0)
    numbers, categories = rows_of(layout, 2)
    made = build_network(name, layout, 1, size, numbers=rows_of(layout, 40)[0], seed=0).eval()
    expected = answers(made, numbers, categories)
    assert expected.shape == (2, made.members, 1)
    assert bool(torch.isfinite(expected).all())
    model = export_network(made, layout)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {NUMBERS: numbers, CATEGORIES: categories})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_every_network_has_an_exporter() -> None:
    layout = layout_of("mixed")
    made = {type(network_of(name, layout, SIZES[0])) for name in NETWORKS}
    assert made == set(EXPORTERS)


def test_a_network_without_an_exporter_is_refused() -> None:
    class Foreign(type(network_of("mlp", layout_of("mixed"), SIZES[0]))):  # type: ignore[misc]
        """A network that nobody can write."""

    numbers = rows_of(layout_of("mixed"), 10)[0]
    foreign = Foreign(layout_of("mixed"), 1, SIZES[0], numbers, 0)
    with pytest.raises(TrainingError, match="no exporter for Foreign; expected one of"):
        export_network(foreign, layout_of("mixed"))


def test_an_unknown_name_lists_the_known_ones() -> None:
    layout = layout_of("mixed")
    with pytest.raises(
        SpecError, match=r"expected ensemble or ft_transformer or .*; got 'transformer'"
    ):
        build_network("transformer", layout, 1, SIZES[0], numbers=rows_of(layout, 9)[0], seed=0)


@every_network
def test_entries_never_seen_answer_as_the_average_of_their_column(name: str) -> None:
    layout = layout_of("only categories")
    network = network_of(name, layout, SIZES[0])
    seen = torch.tensor([[1, 2], [2, 3], [2, 3], [1, 2]])
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.fill_unseen(seen)
    changed = [
        key
        for key, value in network.state_dict().items()
        if key.endswith("vectors") and not torch.equal(value, before[key])
    ]
    assert changed
    for key in changed:
        after, old = network.state_dict()[key], before[key]
        torch.testing.assert_close(after[:, 1:3], old[:, 1:3])
        torch.testing.assert_close(after[:, 0], old[:, 1:3].mean(1))
        torch.testing.assert_close(after[:, 3 + 0], old[:, 3 + 2 : 3 + 4].mean(1))


@every_network
def test_a_number_that_was_constant_in_training_has_no_random_say(name: str) -> None:
    layout = layout_of("only numbers")
    numbers = rows_of(layout, 100)[0]
    numbers[:, 2] = 0.0
    network = build_network(name, layout, 1, SIZES[0], numbers=numbers, seed=0)
    if name == "ensemble":
        with torch.no_grad():
            dict(network.named_parameters())["heads"].add_(0.3)
    empty = np.zeros((100, 0), np.int64)
    moved = numbers.copy()
    moved[:, 2] = 2.5
    network.eval()
    assert torch.equal(answers(network, numbers, empty), answers(network, moved, empty))
