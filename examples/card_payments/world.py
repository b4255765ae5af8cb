"""The tables of the payments' world: shares and effects, before and after it has drifted.

Shares of one table need not add up to one; they are scaled. Risks are effects on the log-odds of
fraud.
"""

from __future__ import annotations

from typing import NamedTuple


class Effect(NamedTuple):
    """A name with its share of payments and its effect on the log-odds, before and after drift."""

    name: str
    share: float
    share_after: float
    risk: float
    risk_after: float


class MerchantKind(NamedTuple):
    """A kind of merchant: how common, how dear, how much online, how risky."""

    name: str
    share: float
    share_after: float
    usual_amount: float
    online_share: float
    risk: float
    risk_after: float


MERCHANT_KINDS: tuple[MerchantKind, ...] = (
    MerchantKind("grocery", 0.22, 0.16, 32.0, 0.08, -1.1, -0.2),
    MerchantKind("restaurant", 0.14, 0.10, 41.0, 0.10, -0.7, -0.6),
    MerchantKind("fuel", 0.10, 0.06, 55.0, 0.00, -0.4, 0.9),
    MerchantKind("clothing", 0.11, 0.08, 68.0, 0.50, 0.0, 0.0),
    MerchantKind("electronics", 0.08, 0.07, 190.0, 0.65, 1.0, -0.2),
    MerchantKind("travel", 0.06, 0.05, 310.0, 0.80, 0.8, 0.1),
    MerchantKind("pharmacy", 0.07, 0.06, 24.0, 0.15, -0.9, 0.4),
    MerchantKind("digital goods", 0.07, 0.06, 17.0, 1.00, 0.7, -0.3),
    MerchantKind("gift cards", 0.03, 0.03, 90.0, 0.85, 1.6, 0.3),
    MerchantKind("furniture", 0.04, 0.03, 260.0, 0.35, 0.1, 0.2),
    MerchantKind("sports club", 0.05, 0.04, 38.0, 0.40, -0.8, 0.7),
    MerchantKind("jewellery", 0.03, 0.02, 420.0, 0.30, 1.2, 0.6),
    MerchantKind("crypto exchange", 0.0, 0.13, 150.0, 1.00, 1.0, 1.8),
    MerchantKind("ticket resale", 0.0, 0.11, 120.0, 0.95, 1.0, 1.1),
)

COUNTRIES: tuple[Effect, ...] = (
    Effect("DE", 0.30, 0.28, -0.3, 0.2),
    Effect("FR", 0.16, 0.15, -0.1, 0.5),
    Effect("NL", 0.12, 0.12, -0.4, -0.2),
    Effect("ES", 0.09, 0.08, 0.1, 0.0),
    Effect("IT", 0.08, 0.08, 0.2, -0.1),
    Effect("PL", 0.07, 0.07, 0.0, 0.8),
    Effect("AT", 0.06, 0.06, -0.4, 0.3),
    Effect("GB", 0.05, 0.06, 0.5, -0.3),
    Effect("US", 0.04, 0.05, 1.1, 0.0),
    Effect("BR", 0.015, 0.02, 1.5, 0.4),
    Effect("SG", 0.010, 0.02, 0.9, 1.6),
    Effect("ZA", 0.005, 0.01, 1.3, 0.9),
)

CHANNELS: tuple[Effect, ...] = (
    Effect("online", 0.0, 0.0, 1.1, -0.4),
    Effect("chip", 0.42, 0.28, -1.2, -0.8),
    Effect("contactless", 0.46, 0.58, -0.8, 0.9),
    Effect("phone", 0.05, 0.03, 1.4, 0.2),
    Effect("recurring", 0.07, 0.11, -1.5, 0.8),
)
"""The shares are among payments that are not made online; the merchant kind decides those."""

BRANDS: tuple[Effect, ...] = (
    Effect("visa", 0.46, 0.44, 0.0, 0.0),
    Effect("mastercard", 0.38, 0.38, 0.05, 0.0),
    Effect("amex", 0.09, 0.09, -0.3, 0.2),
    Effect("maestro", 0.07, 0.09, 0.3, -0.2),
)

MERCHANTS_PER_KIND = 25
MERCHANT_RISK_SPREAD = 0.4
"""Merchants of one kind differ by a normal effect of this deviation (fixed, seed-free)."""
SOLD_AGAIN = ("electronics", "gift cards", "digital goods", "jewellery")
"""Merchant kinds whose goods thieves turn into money."""
HOME_COUNTRIES = 3
"""The first countries of the table; a payment anywhere else is made abroad."""
PROOF = (-1.4, 0.4)
"""Effect of strong authentication, before and after: fraudsters learn to talk holders into it."""
KNOWN_DEVICE = (-0.9, 0.3)
"""Effect of a known device online, before and after: they take over whole accounts."""
REFUND_SHARE = 0.04
INFLATION = 0.8
MAIN_EFFECTS = 0.75
"""Weight of the main effects beside the habits."""
INTERCEPT = -4.6
