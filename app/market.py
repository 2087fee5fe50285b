"""A market-data tool over a small bundled, dated data set, so that the demo needs no network."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from langchain_core.tools import tool

Name = Literal["NVIDIA", "Tesla", "Microsoft", "Alphabet", "Global Chips ETF", "AI Leaders ETF"]


@tool
def market_data(name: Name) -> str:
    """Look up a company's or a fund's key figures; the data are dated and illustrative."""
    data = _data()
    company, fund = data["companies"].get(name), data["funds"].get(name)
    if company is not None:
        return (
            f"{name} ({company['ticker']}, {company['sector']}): price {company['price']:.2f},"
            f" P/E {company['pe']:.0f}, revenue growth {company['revenue_growth']:.0%},"
            f" operating margin {company['operating_margin']:.0%}, volatility {company['volatility']}"
            f" (as of {data['as_of']})"
        )
    return (
        f"{name} ({fund['ticker']}): expense ratio {fund['expense_ratio']:.2%},"
        f" tracking error {fund['tracking_error']:.2%}, {fund['holdings']} holdings (as of {data['as_of']})"
    )


@cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(files("learngate.app").joinpath("data/market.json").read_text())
    return data
