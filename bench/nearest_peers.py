"""The peers of `nearest`, each with its data as it likes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Search = Callable[[Tensor], tuple[Tensor, Tensor]]


def peers(target: Tensor, k: int) -> Iterator[tuple[str, torch.dtype, Search]]:
    """Name, dtype of the queries and search of every peer; one at a time holds its own copy."""
    single = target.float()

    def smallest(squared: Tensor) -> tuple[Tensor, Tensor]:
        found = squared.topk(k, dim=1, largest=False)
        return found.values.clamp(min=0).sqrt(), found.indices

    def cdist(mode: str) -> Search:
        def search(query: Tensor) -> tuple[Tensor, Tensor]:
            found = torch.cdist(query, single, compute_mode=mode).topk(k, dim=1, largest=False)
            return found.values, found.indices

        return search

    squares = single.square().sum(1)

    def matmul(query: Tensor) -> tuple[Tensor, Tensor]:
        own = query.square().sum(1, keepdim=True)
        return smallest(torch.addmm(squares, query, single.T, alpha=-2).add_(own))

    yield "cdist-matmul", torch.float32, cdist("use_mm_for_euclid_dist")
    yield "cdist-differences", torch.float32, cdist("donot_use_mm_for_euclid_dist")
    yield "matmul", torch.float32, matmul
    try:
        import faiss
    except ImportError:
        print("    faiss-cpu is not installed: no figures of it")
    else:
        faiss.omp_set_num_threads(torch.get_num_threads())
        index = faiss.IndexFlatL2(target.shape[1])
        index.add(single.numpy())

        def by_faiss(query: Tensor) -> tuple[Tensor, Tensor]:
            squared, found = index.search(query.numpy(), k)
            return torch.from_numpy(squared).clamp(min=0).sqrt(), torch.from_numpy(found)

        yield "faiss", torch.float32, by_faiss
    from sklearn.neighbors import NearestNeighbors

    # Its threads follow OpenMP's; n_jobs is for other algorithms.
    exact = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(target.double().numpy())

    def by_sklearn(query: Tensor) -> tuple[Tensor, Tensor]:
        distance, found = exact.kneighbors(query.numpy())
        return torch.from_numpy(distance), torch.from_numpy(found)

    yield "scikit-learn", torch.float64, by_sklearn
