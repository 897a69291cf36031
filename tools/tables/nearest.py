"""Tables of the nearest-neighbour search, from what `make bench` wrote of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tools.tables.markdown import number, power, table

__all__ = ["RENDERERS"]

PROVIDERS = {
    "ours": "`fastgan.ops.nearest`",
    "cdist-matmul": "torch.cdist by its matrix product, as it runs for more than 25 rows",
    "cdist-differences": "torch.cdist by differences",
    "matmul": "product with cached norms",
    "faiss": "faiss-cpu IndexFlatL2",
    "scikit-learn": "scikit-learn, float64",
}
SHORT = ("`nearest`", "cdist, product", "cdist, differences", "product, cached norms")
VOLUMES, FEATURES = "int16 volumes", "float32 features"


def _of_features(planted: dict[str, list[str]], provider: str) -> list[str]:
    key = provider if provider in planted else f"{provider}, 100 queries"
    return planted[key]


def near_copies(files: list[Any]) -> list[str]:
    """Relative error of the answer for a near-copy, by the number of queries and by distance."""
    volumes, features = files[0][VOLUMES], files[0][FEATURES]["planted"]
    rows = []
    for provider, name in PROVIDERS.items():
        found = [power(calls["planted"][provider][0]) for calls in volumes.values()]
        errors = [power(_of_features(features, provider)[place]) for place in (1, 3, 5)]
        rows.append([name, " / ".join(found), " / ".join(errors)])
    calls = " / ".join(name.removesuffix(" queries") for name in volumes)
    return table(
        [
            "relative error of the distance",
            f"volumes, {calls} queries",
            "features, copies at 1e-2 / 1e-4 / 1e-6",
        ],
        rows,
    )


def planted(files: list[Any]) -> list[str]:
    """Relative error of features at every planted distance."""
    found = files[0][FEATURES]["planted"]
    header = ["", *(f"1e-{exponent}" for exponent in range(1, 7))]
    rows = [
        [PROVIDERS[provider], *map(power, _of_features(found, provider))] for provider in PROVIDERS
    ]
    return table(header, rows)


def _times(found: dict[str, dict[str, float]], which: str) -> list[str]:
    ours = found["ours"][which]
    cells = [number(ours)]
    for provider in list(PROVIDERS)[1:]:
        if provider not in found:
            cells.append("")
            continue
        ratio = found[provider][which] / ours
        cells.append(f"{number(found[provider][which])} ({number(ratio, 2)})")
    return cells


def peers(files: list[Any]) -> list[str]:
    """Milliseconds, medians and minima, and how many times ours."""
    rows = []
    for calls, found in files[0][VOLUMES].items():
        for which in ("median", "min"):
            calls = calls.replace("1 queries", "1 query")
            rows.append([f"volumes, {calls}", which, *_times(found["milliseconds"], which)])
    for which in ("median", "min"):
        rows.append(["features", which, *_times(files[0][FEATURES]["milliseconds"], which)])
    return table(["", "", *SHORT, "faiss-cpu", "scikit-learn"], rows)


def pyramid(files: list[Any]) -> list[str]:
    """Brute force, pyramid and `auto` on patches of a chest CT."""
    rows = []
    for size in ("64^3", "32^3"):
        found = files[0]["pyramid"][size]
        read = " / ".join(f"{found[f'read, {kind}, %']:.2f} %" for kind in ("fresh", "copies"))
        fresh = found["fresh"]
        times = [
            " / ".join(number(fresh[calls][method], 2) for calls in ("1", "8", "64", "512"))
            for method in ("brute", "pyramid", "auto")
        ]
        pays = [f"{found[f'break-even, {kind}, queries']:.0f}" for kind in ("fresh", "copies")]
        rows.append(
            [
                f"{found['targets']:,} of {size}",
                read,
                *times,
                f"{found['index built, ms']:.0f}",
                f"{pays[0]} queries (copies: {pays[1]})",
            ]
        )
    header = ["targets", "data read, fresh / copies", "brute force", "pyramid", "`auto`"]
    return table([*header, "index built", "pays from"], rows)


RENDERERS: dict[str, Callable[[list[Any]], list[str]]] = {
    "near_copies": near_copies,
    "planted": planted,
    "peers": peers,
    "pyramid": pyramid,
}
