"""What may stand before or behind a number and does not count: currencies and units."""

from __future__ import annotations

import unicodedata

# fmt: off
CURRENCIES = frozenset((
    "AUD", "BRL", "CAD", "CHF", "CLP", "CNY", "COP", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF",
    "IDR", "ILS", "INR", "JPY", "KES", "KRW", "MXN", "MYR", "NGN", "NOK", "NZD", "PHP", "PKR",
    "PLN", "RON", "RUB", "SEK", "SGD", "THB", "TRY", "TWD", "UAH", "USD", "VND", "ZAR", "Rs",
    "Rs.", "kr", "kr.", "R$", "US$", "zł", "Kč",
))
"""Codes and signs of more than one character that stand before or behind an amount."""

UNITS = frozenset((
    "%", "‰", "°", "°C", "°F", "mm", "cm", "m", "km", "in", "ft", "yd", "mi", "nm", "µm", "mg",
    "g", "kg", "lb", "lbs", "oz", "ml", "cl", "dl", "l", "gal", "ms", "s", "sec", "min", "h",
    "hr", "hrs", "day", "days", "wk", "weeks", "mo", "months", "y", "yr", "yrs", "years", "kW",
    "MW", "Wh", "kWh", "MWh", "mV", "mA", "Ah", "mAh", "Hz", "kHz", "MHz", "GHz", "kJ", "kcal",
    "cal", "hp", "bhp", "PS", "Nm", "KB", "MB", "GB", "TB", "kB", "bit", "px", "dpi", "fps", "Pa",
    "hPa", "kPa", "MPa", "bar", "psi", "mmHg", "mph", "kmh", "km/h", "kph", "kmpl", "mpg", "kn",
    "m/s", "m²", "m³", "ft²", "sqft", "sqm", "cc", "bpm", "ppm", "dB", "bps",
))
"""Letters and signs that, right behind a number, are a unit and no part of a code as "12B" is."""
# fmt: on


def is_currency(text: str) -> bool:
    """Return whether a text is a currency's code or sign."""
    return text in CURRENCIES or (len(text) == 1 and unicodedata.category(text) == "Sc")


def is_unit(text: str) -> bool:
    """Return whether a text right behind a number is its unit."""
    return text in UNITS or is_currency(text)
