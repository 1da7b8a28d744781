"""`support`: what a customer wants, told from the text of the message.

Data: `support_messages.csv`, English messages to an invented shop for household and smart home goods, written for this
project, 76 for each of nine intents.
"""

import csv
from pathlib import Path

import pyarrow as pa
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline

MESSAGES = Path(__file__).with_name("support_messages.csv")


def load_messages() -> tuple[list[str], list[str]]:
    """The texts and, in the same order, their intents."""
    with MESSAGES.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["intent"] for row in rows]


def untrained() -> Pipeline:
    """A classifier from a list of strings to an intent.

    Character n-grams instead of words: with few messages it matters that "refund", "refunded" and "refnud" look alike.
    """
    return Pipeline(
        [
            ("tfidf", TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), min_df=2, sublinear_tf=True)),
            ("classifier", LogisticRegression(C=10.0, max_iter=1000)),
        ]
    )


def train() -> tuple[Pipeline, pa.Table]:
    """The model, fitted on a list of strings, and the first message of each intent as a sample: a column `text`."""
    texts, intents = load_messages()
    first_of_each = [texts[intents.index(intent)] for intent in dict.fromkeys(intents)]
    return untrained().fit(texts, intents), pa.table({"text": first_of_each})


def held_out_accuracy() -> float:
    """The share of messages that a model which has not seen them sorts correctly, over five folds."""
    texts, intents = load_messages()
    folds = StratifiedKFold(n_splits=5, shuffle=True, random_state=0)
    return float(cross_val_score(untrained(), texts, intents, cv=folds, scoring="accuracy").mean())


if __name__ == "__main__":
    print(f"support: accuracy {held_out_accuracy():.3f} (5-fold cross-validation, {len(load_messages()[0])} messages)")
