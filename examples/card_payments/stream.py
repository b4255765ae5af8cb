"""A seeded stream of card payments whose true probability of fraud is known for every row.

Because we made the world, we know the best that any model can do in it (`best_auc`,
`best_log_loss`), and we can move the world under a running model (`drift`).

How a row comes about
---------------------
1. A merchant kind is drawn, then a merchant of that kind, a country, a channel (some kinds sell
   mostly online) and a card brand.
2. The amount is log-normal around the kind's usual amount. 4 % of the payments are refunds: their
   amount is negative.
3. Account age, payments in the last day, distance from home, the hour, whether the device is known
   and whether the holder proved who they are (`strong_auth`) are drawn; several depend on the
   channel.
4. The log-odds of fraud are a sum of effects, see `_log_odds`; `fraud` is drawn from it.
5. Values go missing: the account age at random, the distance mostly where the payment was made
   online, the device always where no device was used, the country by a careless few merchants. The
   log-odds were computed *before* that, except for the distance, which never counts online; so a
   missing account age or country costs a model something, as in life.

What `drift` does, from 0 (as trained) to 1 (another world)
----------------------------------------------------------
- Two merchant kinds that did not exist before take up to 24 % of the payments.
- Fraud moves from online and phone to contactless and recurring payments, to other merchant kinds
  and to other countries (every effect moves in a straight line from its old to its new value).
- Amounts inflate by up to 80 %.
- Proof of identity and a known device, which kept fraud away, no longer do.
Habits that stay: many payments in a day, a new account with a large amount, payments by night.

Run it to write a table:  python stream.py payments.csv --rows 20000 --seed 7 --drift 0.5
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from world import (
    BRANDS,
    CHANNELS,
    COUNTRIES,
    HOME_COUNTRIES,
    INFLATION,
    INTERCEPT,
    KNOWN_DEVICE,
    MAIN_EFFECTS,
    MERCHANT_KINDS,
    MERCHANT_RISK_SPREAD,
    MERCHANTS_PER_KIND,
    PROOF,
    REFUND_SHARE,
    SOLD_AGAIN,
    Effect,
)

Cell = str | float | int | bool | None
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Texts = NDArray[np.str_]

TARGET = "fraud"
TRUTH = "true_probability"
"""Column with the true probability; written only when asked for, never a feature."""
BLOCK_ROWS = 512
"""Rows that `stream` makes at once."""
FIRST_MOMENT = 1_735_689_600
"""2025-01-01 00:00 UTC."""
DAYS = 364
"""Every payment is made on one of these days: the story plays a year over and over."""


@dataclass(frozen=True)
class Payments:
    """A table of payments. All arrays have one entry per row, (N,)."""

    columns: dict[str, list[Cell]]
    """Column name → Python values, `None` where missing; without the target."""
    probability: Floats
    """True probability of fraud."""
    fraud: Booleans
    """What happened: drawn from `probability`."""

    def __len__(self) -> int:
        return len(self.fraud)

    def rows(self) -> Iterator[dict[str, Cell]]:
        """Yield each row as a dictionary, without its target."""
        names = tuple(self.columns)
        for values in zip(*self.columns.values(), strict=True):
            yield dict(zip(names, values, strict=True))

    def labels(self) -> list[str]:
        """Return the target as the table spells it: "yes" for fraud, "no" otherwise."""
        return ["yes" if fraud else "no" for fraud in self.fraud]


def make_payments(
    rows: int, *, seed: int = 0, drift: float = 0.0, first: int = 0, block: int = 0
) -> Payments:
    """Make `rows` payments; the same arguments give the same payments.

    `drift` is 0 to 1. `first` is the number of the first payment, for the ids. `block` draws anew
    with the same seed. Raises `ValueError` for a drift outside 0 to 1.
    """
    if not 0.0 <= drift <= 1.0:
        raise ValueError(f"drift must lie between 0 and 1, got {drift}")
    rng = np.random.default_rng([seed, block])
    world = _draw_world(rng, rows, drift)
    log_odds = _log_odds(world, drift)
    probability = 1.0 / (1.0 + np.exp(-log_odds))
    fraud = rng.random(rows) < probability
    columns = _lose_values(rng, world, first)
    return Payments(columns=columns, probability=probability, fraud=fraud)


def stream(*, seed: int = 0, drift: float = 0.0, first: int = 0) -> Iterator[Payments]:
    """Yield blocks of `BLOCK_ROWS` payments without end; block `i` depends on no other."""
    block = 0
    while True:
        yield make_payments(
            BLOCK_ROWS, seed=seed, drift=drift, first=first + block * BLOCK_ROWS, block=block
        )
        block += 1


@dataclass(frozen=True)
class _World:
    """Everything about N payments before values go missing. All arrays are (N,)."""

    kind: Integers
    merchant: Integers
    """0 to `MERCHANTS_PER_KIND - 1`, within the kind."""
    country: Integers
    channel: Integers
    brand: Integers
    amount: Floats
    ratio: Floats
    """log(|amount| / the kind's usual amount of today)."""
    refund: Booleans
    account_age_days: Floats
    payments_last_day: Integers
    distance_km: Floats
    moment: Integers
    """Seconds since 1970, UTC."""
    device_known: Booleans
    strong_auth: Booleans

    @property
    def online(self) -> Booleans:
        """Whether the payment was made online."""
        online: Booleans = self.channel == 0
        return online


def _draw_world(rng: np.random.Generator, rows: int, drift: float) -> _World:
    kind_shares = _between([k.share for k in MERCHANT_KINDS], _after_shares(), drift)
    kind = _draw(rng, rows, kind_shares)
    online = rng.random(rows) < np.array([k.online_share for k in MERCHANT_KINDS])[kind]
    offline_channel = _draw(rng, rows, _shares(CHANNELS, drift))
    channel = np.where(online, 0, offline_channel)
    usual = np.array([k.usual_amount for k in MERCHANT_KINDS])[kind] * (1.0 + INFLATION * drift)
    ratio = rng.normal(0.0, 0.75, rows)
    refund = rng.random(rows) < REFUND_SHARE
    age = rng.gamma(1.6, 520.0, rows)
    by_person = online | (channel == 3)
    return _World(
        kind=kind,
        merchant=np.minimum(rng.geometric(0.12, rows) - 1, MERCHANTS_PER_KIND - 1),
        country=_draw(rng, rows, _shares(COUNTRIES, drift)),
        channel=channel,
        brand=_draw(rng, rows, _shares(BRANDS, drift)),
        amount=np.round(usual * np.exp(ratio) * np.where(refund, -1.0, 1.0), 2),
        ratio=ratio,
        refund=refund,
        account_age_days=np.round(age),
        payments_last_day=rng.poisson(rng.gamma(1.2, 1.6, rows)),
        distance_km=np.round(rng.lognormal(2.0, 1.5, rows), 1),
        moment=_draw_moments(rng, rows),
        device_known=rng.random(rows) < np.where(by_person, 0.72, 0.9),
        strong_auth=rng.random(rows) < np.where(by_person, 0.55, 0.8),
    )


def _log_odds(world: _World, drift: float) -> Floats:
    """Return the log-odds of fraud, (N,): a sum of main effects and of the habits of fraudsters.

    main effects: 0.75 · (kind + merchant + country + channel + brand)
    habits:       + 0.55 · min(payments in the last day, 6)^1.2 / 2
                  + 2.0 where the account is younger than 120 days and the amount above the usual
                  + 1.1 · ratio² online   (stolen cards are tried out with small amounts, then
                    used for large ones), + 0.4 · ratio where it is not
                  + 2.6 abroad, without strong authentication, for what is easily sold again
                  + 1.8 at night (0 to 5 o'clock) where the payment is made online
                  + 0.5 · log10(1 + distance / 10 km) where it is not
                  − 1.4 with strong authentication, − 0.9 from a known device online (both turn
                    with the drift: fraudsters talk holders into it, or take over accounts)
                  − 1.5 for a refund, but + 3.0 on top for a large refund of electronics
    """
    kind = _between(
        [k.risk for k in MERCHANT_KINDS], [k.risk_after for k in MERCHANT_KINDS], drift
    )[world.kind]
    main = kind + _merchant_risk()[world.kind, world.merchant]
    for effects, drawn in (
        (COUNTRIES, world.country),
        (CHANNELS, world.channel),
        (BRANDS, world.brand),
    ):
        main = main + _risks(effects, drift)[drawn]

    hour = (world.moment // 3600) % 24
    electronics = world.kind == _kind_number("electronics")
    habits = 0.275 * np.minimum(world.payments_last_day, 6) ** 1.2
    habits += 2.0 * ((world.account_age_days < 120) & (world.ratio > 0.0))
    habits += np.where(world.online, 1.1 * world.ratio**2, 0.4 * world.ratio)
    sold_again = np.isin(world.kind, [_kind_number(name) for name in SOLD_AGAIN])
    habits += 2.6 * (sold_again & (world.country >= HOME_COUNTRIES) & ~world.strong_auth)
    habits += 1.8 * ((hour < 6) & world.online)
    habits += 0.5 * np.log10(1.0 + world.distance_km / 10.0) * ~world.online
    habits += _moved(PROOF, drift) * world.strong_auth
    habits += _moved(KNOWN_DEVICE, drift) * (world.device_known & world.online)
    habits += -1.5 * world.refund + 3.0 * (world.refund & electronics & (world.ratio > 0.3))
    result: Floats = INTERCEPT + MAIN_EFFECTS * main + habits
    return result


def _lose_values(rng: np.random.Generator, world: _World, first: int) -> dict[str, list[Cell]]:
    rows = len(world.kind)
    no_device = (world.channel == 1) | (world.channel == 2)
    careless = world.merchant % 7 == 3
    lost_distance = rng.random(rows) < np.where(world.online, 0.85, 0.03)
    kinds = np.array([k.name for k in MERCHANT_KINDS])
    merchants = [f"{kinds[k][:3]}-{m:02d}" for k, m in zip(world.kind, world.merchant, strict=True)]
    moments = np.datetime_as_string(world.moment.astype("datetime64[s]"), unit="s")
    return {
        "payment_id": [f"p{number:09d}" for number in range(first, first + rows)],
        "paid_at": moments.tolist(),
        "merchant": [*merchants],
        "merchant_kind": kinds[world.kind].tolist(),
        "country": _without(
            np.array([c.name for c in COUNTRIES])[world.country],
            careless & (rng.random(rows) < 0.4),
        ),
        "channel": np.array([c.name for c in CHANNELS])[world.channel].tolist(),
        "card_brand": np.array([b.name for b in BRANDS])[world.brand].tolist(),
        "amount": world.amount.tolist(),
        "account_age_days": _without(world.account_age_days, rng.random(rows) < 0.03),
        "payments_last_day": world.payments_last_day.tolist(),
        "distance_km": _without(world.distance_km, lost_distance),
        "device_known": _without(world.device_known, no_device),
        "strong_auth": world.strong_auth.tolist(),
    }


def _without(values: Floats | Texts | Booleans, lost: Booleans) -> list[Cell]:
    return [None if gone else value for value, gone in zip(values.tolist(), lost, strict=True)]


def _draw(rng: np.random.Generator, rows: int, shares: Floats) -> Integers:
    edges = np.cumsum(shares / shares.sum())
    drawn: Integers = np.searchsorted(edges[:-1], rng.random(rows), side="right").astype(np.int64)
    return drawn


def _draw_moments(rng: np.random.Generator, rows: int) -> Integers:
    """Return seconds since 1970: any day of the year, mostly by day, sometimes at night."""
    day = rng.integers(0, DAYS, rows)
    hour = np.round(rng.normal(14.0, 5.0, rows)).astype(np.int64) % 24
    moments: Integers = FIRST_MOMENT + day * 86_400 + hour * 3600 + rng.integers(0, 3600, rows)
    return moments


def _after_shares() -> list[float]:
    return [kind.share_after for kind in MERCHANT_KINDS]


def _shares(effects: tuple[Effect, ...], drift: float) -> Floats:
    return _between([e.share for e in effects], [e.share_after for e in effects], drift)


def _risks(effects: tuple[Effect, ...], drift: float) -> Floats:
    return _between([e.risk for e in effects], [e.risk_after for e in effects], drift)


def _between(before: list[float], after: list[float], drift: float) -> Floats:
    mixed: Floats = (1.0 - drift) * np.array(before) + drift * np.array(after)
    return mixed


def _moved(effect: tuple[float, float], drift: float) -> float:
    return (1.0 - drift) * effect[0] + drift * effect[1]


def _merchant_risk() -> Floats:
    """Return each merchant's own effect, (kinds, merchants of a kind), the same in every stream."""
    shape = (len(MERCHANT_KINDS), MERCHANTS_PER_KIND)
    return np.random.default_rng(2718).normal(0.0, MERCHANT_RISK_SPREAD, shape)


def _kind_number(name: str) -> int:
    return [kind.name for kind in MERCHANT_KINDS].index(name)


def best_auc(probability: Floats) -> float:
    """Return the expected AUC of the true probabilities themselves: no model does better.

    The AUC is the chance that a random fraud scores above a random honest payment, where row `i`
    is a fraud with probability `p_i`: Σ_ij p_i (1 - p_j) [p_i > p_j] / Σ_i≠j p_i (1 - p_j).
    """
    p = np.sort(probability)
    honest_below = np.concatenate(([0.0], np.cumsum(1.0 - p)[:-1]))
    won = float(np.sum(p * honest_below))
    pairs = float(p.sum() * (1.0 - p).sum() - np.sum(p * (1.0 - p)))
    return won / pairs


def best_log_loss(probability: Floats) -> float:
    """Return the expected log-loss of the true probabilities (their mean entropy, in nats)."""
    p = np.clip(probability, 1e-15, 1.0 - 1e-15)
    return float(np.mean(-p * np.log(p) - (1.0 - p) * np.log1p(-p)))


def write_csv(path: Path, payments: Payments, *, truth: bool = False) -> None:
    """Write the payments with their target, missing values as empty cells.

    With `truth` the true probability stands in a last column; never train on it.
    """
    labels = payments.labels()
    header = [*payments.columns, TARGET, *([TRUTH] if truth else [])]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for number, row in enumerate(payments.rows()):
            extra = [f"{payments.probability[number]:.6f}"] if truth else []
            writer.writerow([*map(_as_text, row.values()), labels[number], *extra])


def _as_text(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return str(cell)


def best_report(rows: int, seed: int) -> str:
    """Return the best possible metrics for several drifts, as a table for people."""
    lines = ["drift  frauds  best AUC  best log-loss"]
    for drift in (0.0, 0.25, 0.5, 0.75, 1.0):
        p = make_payments(rows, seed=seed, drift=drift).probability
        lines.append(f"{drift:5.2f}  {p.mean():6.2%}  {best_auc(p):8.4f}  {best_log_loss(p):13.4f}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write a table of payments to a CSV file, or say how good a model can be."""
    parser = argparse.ArgumentParser(description="Write a table of card payments.")
    parser.add_argument("path", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drift", type=float, default=0.0)
    parser.add_argument("--first", type=int, default=0, help="number of the first payment")
    parser.add_argument("--truth", action="store_true", help="add the true probability")
    parser.add_argument("--best", action="store_true", help="print the best possible metrics")
    options = parser.parse_args()
    if options.best:
        sys.stdout.write(best_report(options.rows, options.seed))
    if options.path is not None:
        payments = make_payments(
            options.rows, seed=options.seed, drift=options.drift, first=options.first
        )
        write_csv(options.path, payments, truth=options.truth)
    if options.path is None and not options.best:
        parser.error("name a file to write, or say --best")


if __name__ == "__main__":
    main()
