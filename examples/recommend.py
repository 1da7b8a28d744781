"""`recommend`: what a customer buys next, from what the customer has bought so far.

Data: made by `simulate_customers`, whose docstring has the rules.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

ITEMS_BY_TASTE = {
    "coffee": ("espresso_beans", "filter_paper", "milk_frother", "coffee_grinder"),
    "baking": ("bread_flour", "yeast", "cake_tin", "stand_mixer"),
    "garden": ("potting_soil", "seeds", "watering_can", "pruning_shears"),
    "running": ("energy_gel", "running_socks", "running_shoes", "sports_watch"),
    "camping": ("gas_cartridge", "freeze_dried_meal", "head_torch", "sleeping_mat"),
    "photography": ("photo_paper", "memory_card", "tripod", "camera_lens"),
}
ITEMS = [item for items in ITEMS_BY_TASTE.values() for item in items]
POPULARITY = [0.4, 0.3, 0.2, 0.1]
"""How the purchases of one taste divide over its items, in the order above."""
DURABLE = [False, False, True, True]
"""Whether an item, in the order above, is bought once and kept."""
SAMPLE_ROWS = 12


def simulate_customers(n_customers: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Purchase counts of shape (n_customers, 24) in the order of ITEMS, and the item that each customer buys next.

    A customer divides the attention over the six tastes by Dirichlet(0.25, ...), so that one or two dominate, and has
    made 1 + Poisson(9) purchases: the taste by attention, the item by POPULARITY. The next one is drawn the same way,
    except that a durable item in the history is 20 times less likely than it was.
    """
    rng = np.random.default_rng(seed)
    attention = rng.dirichlet(np.full(len(ITEMS_BY_TASTE), 0.25), size=n_customers)
    liking = np.repeat(attention, len(POPULARITY), axis=1) * np.tile(POPULARITY, len(ITEMS_BY_TASTE))
    history = rng.multinomial(1 + rng.poisson(9, size=n_customers), liking)

    satisfied = np.tile(DURABLE, len(ITEMS_BY_TASTE)) & (history > 0)
    cumulative = np.where(satisfied, liking / 20, liking).cumsum(axis=1)
    drawn = rng.random((n_customers, 1)) * cumulative[:, -1:]
    return history.astype(np.float64), np.array(ITEMS)[(drawn < cumulative).argmax(axis=1)]


def train() -> tuple[LogisticRegression, pa.Table]:
    """The model, whose classes are the items and whose probabilities are the scores, and some customers as a sample."""
    history, next_item = simulate_customers(6000, seed=0)
    sample = pa.table(dict(zip(ITEMS, history[:SAMPLE_ROWS].T, strict=True)))
    return LogisticRegression(C=0.1, max_iter=1000).fit(history, next_item), sample


def held_out_hits() -> dict[int, tuple[float, float]]:
    """For k of 1, 3 and 5: how often the next item of 4,000 new customers is among the k best, by model and popularity.

    Popularity offers everybody the k items that were bought most.
    """
    estimator, _ = train()
    history, next_item = simulate_customers(4000, seed=1)
    by_score = estimator.classes_[np.argsort(-estimator.predict_proba(history), axis=1)]
    by_popularity = np.array(ITEMS)[np.argsort(-history.sum(axis=0))]
    return {
        k: (
            float((by_score[:, :k] == next_item[:, None]).any(axis=1).mean()),
            float(np.isin(next_item, by_popularity[:k]).mean()),
        )
        for k in (1, 3, 5)
    }


if __name__ == "__main__":
    for k, (model, popularity) in held_out_hits().items():
        print(f"recommend: next item among {k}: {model:.3f} (popularity: {popularity:.3f}; 4,000 new customers)")
